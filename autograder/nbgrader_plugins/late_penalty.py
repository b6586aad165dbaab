"""Deadlines and late penalties, from ``[deadline]`` in a lab's ``lab.toml`` to nbgrader's gradebook.

nbgrader compares the time of a submission (``timestamp.txt``) with the assignment's due date in the gradebook, and
asks a plugin for the penalty. Here the due date comes from ``lab.toml``, and the penalty is a share of *all* points
for each day, so that it does not change when a person grades the reflection later. nbgrader never deducts more points
than a submission has.

nbgrader computes a penalty only when it grades. :func:`renew_penalties` brings those of all graded submissions up to
date, since a changed deadline is no reason to grade anything again.
"""

from __future__ import annotations

import math

from nbgrader.api import Gradebook
from nbgrader.plugins import BasePlugin, LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from traitlets import Type

from amllab.lab import find_lab
from autograder.labs.deadline import deadline_of
from autograder.labs.settings import Deadline

_DAY, _MINUTE = 86400.0, 60.0  # seconds
_SAME = 1e-6  # points; smaller differences are rounding errors


def penalty(deadline: Deadline, possible: float, seconds_late: float) -> float:
    """Return the points that a submission loses.

    Args:
        deadline: The lab's deadline.
        possible: Points of the whole assignment.
        seconds_late: Seconds after the due date. Every day that has begun counts; lateness within the grace period
            costs nothing.

    >>> from datetime import datetime, timezone
    >>> ten = Deadline(due=datetime(2026, 12, 18, tzinfo=timezone.utc), penalty_percent=10.0, most_percent=25.0)
    >>> [penalty(ten, 100, days * 86400) for days in (0, 0.5, 1, 1.5, 9)]
    [0.0, 10.0, 10.0, 20.0, 25.0]
    """
    if seconds_late <= deadline.grace_minutes * _MINUTE:
        return 0.0
    days = math.ceil(seconds_late / _DAY)
    return min(days * deadline.penalty_percent, deadline.most_percent) / 100 * possible


def renew_penalties(step: AssignLatePenalties, gradebook: Gradebook, assignment: str) -> list[str]:
    """Bring the penalties of all submissions in the gradebook up to date, without writing anything else.

    Args:
        step: nbgrader's step for penalties, as configured in the course.
        gradebook: The open gradebook; the caller commits.
        assignment: Name of the assignment.

    Returns:
        A line for each submission whose penalty changed.
    """
    step.init_plugin()
    step.gradebook, step.assignment_id = gradebook, assignment
    changed = []
    for submission in gradebook.assignment_submissions(assignment):
        student, late = submission.student.id, submission.total_seconds_late
        for notebook in submission.notebooks:
            step.student_id, step.notebook_id = student, notebook.name
            lost = step.plugin_inst.late_submission_penalty(student, notebook.score, late) if late > 0 else None
            now, before = min(max(lost or 0.0, 0.0), notebook.score), notebook.late_submission_penalty or 0.0
            if abs(now - before) > _SAME:
                notebook.late_submission_penalty = now
                changed.append(f"{student} loses {now:g} points, not {before:g}")
    return sorted(changed)


class LatePenalty(LateSubmissionPlugin):  # type: ignore[misc]
    """A plugin for nbgrader's ``AssignLatePenalties`` that applies the lab's deadline.

    For a lab without a deadline and for an assignment that is no lab, nbgrader's own plugin decides, with its
    configuration, or the plugin that the course has configured.
    """

    otherwise = Type(
        LateSubmissionPlugin, klass=BasePlugin, help="Plugin for assignments without a deadline of a lab"
    ).tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float | None:
        """Return the points that a late submission loses; ``None`` for no penalty."""
        preprocessor = self.parent
        try:
            deadline = deadline_of(find_lab(preprocessor.assignment_id))
        except LookupError:
            deadline = None
        if deadline is None:
            decide = super() if self.otherwise is LateSubmissionPlugin else self.otherwise(parent=preprocessor)
            own: float | None = decide.late_submission_penalty(student_id, score, total_seconds_late)
            return own
        notebook = preprocessor.gradebook.find_submission_notebook(
            preprocessor.notebook_id, preprocessor.assignment_id, student_id
        )
        return penalty(deadline, notebook.max_score, total_seconds_late)
