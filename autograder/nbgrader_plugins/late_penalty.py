"""Deadlines, extensions and late penalties, from ``lab.toml`` and ``extensions.csv`` to nbgrader's gradebook.

nbgrader compares the time of a submission (``timestamp.txt``) with the assignment's due date in the gradebook, and
asks a plugin for the penalty. Here the due date comes from ``lab.toml``, extensions come from the course
(:mod:`autograder.gradebook.extensions`), and the penalty is a share of *all* points for each day, so that it does not
change when a person grades the reflection later. nbgrader never deducts more points than a submission has.

nbgrader computes a penalty only when it grades. :func:`renew_penalties` brings those of all graded submissions up to
date, since a changed deadline is no reason to grade anything again.
"""

from __future__ import annotations

import glob
import math
from datetime import UTC
from pathlib import Path

from nbgrader.api import Gradebook, SubmittedNotebook
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import BasePlugin, LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy.exc import SQLAlchemyError
from traitlets import Type

from amllab.lab import all_labs, find_lab
from autograder.gradebook.extensions import (
    Extension,
    apply_extensions,
    misspelled_assignments,
    read_extensions,
    set_extension,
)
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
    """Bring extensions and penalties of all submissions in the gradebook up to date, without writing anything else.

    Args:
        step: nbgrader's step for penalties, as configured in the course.
        gradebook: The open gradebook; the caller commits.
        assignment: Name of the assignment.

    Returns:
        A line for each submission whose penalty changed.

    Raises:
        NbGraderException: The course's file of extensions cannot be used.
    """
    step.init_plugin()
    step.gradebook, step.assignment_id = gradebook, assignment
    course = CourseDirectory(parent=step)
    try:
        extensions = _extensions(course, assignment)
    except ValueError as fault:
        step.log.error("Nothing was graded: %s", fault)
        raise NbGraderException(str(fault)) from None
    if extensions is not None:
        submitted = Path(course.root, course.submitted_directory)
        students = {folder.parent.name for folder in submitted.glob(f"*/{glob.escape(assignment)}")}
        known = {other.name for other in gradebook.assignments} | {name.replace("_", "-") for name in all_labs()}
        for line in [
            *apply_extensions(gradebook, assignment, extensions, students),
            *misspelled_assignments(Path(course.root), known),
        ]:
            step.log.warning(line)
        gradebook.db.commit()
    changed = []
    for submission in gradebook.assignment_submissions(assignment):
        student, before, same = submission.student.id, submission.late_submission_penalty, True
        for notebook in submission.notebooks:
            step.student_id, step.notebook_id = student, notebook.name
            now = _now(step, student, notebook, submission.total_seconds_late)
            if abs(now - (notebook.late_submission_penalty or 0.0)) > _SAME:
                notebook.late_submission_penalty, same = now, False
        if not same:
            lost = sum(notebook.late_submission_penalty or 0.0 for notebook in submission.notebooks)
            changed.append(f"{student} loses {lost:g} points, not {before:g}")
    return sorted(changed)


def _now(step: AssignLatePenalties, student: str, notebook: SubmittedNotebook, seconds_late: float) -> float:
    """Return the penalty of a notebook; if a plugin of the course fails, the one that it has."""
    lost = None
    try:
        if seconds_late > 0:
            lost = step.plugin_inst.late_submission_penalty(student, notebook.score, seconds_late)
    except SQLAlchemyError:
        raise
    except Exception as error:
        step.log.warning("%s: the late penalty stays, as its plugin failed: %r", student, error)
        lost = notebook.late_submission_penalty
    return float(min(max(lost or 0.0, 0.0), notebook.score))


def _extensions(course: CourseDirectory, assignment: str) -> dict[str, Extension] | None:
    deadline = _deadline(assignment)
    return read_extensions(Path(course.root), assignment, deadline.due.tzinfo or UTC if deadline is not None else UTC)


def _deadline(assignment: str) -> Deadline | None:
    """Return the deadline of a lab; ``None`` if it has none, or if the assignment is no lab."""
    try:
        lab = find_lab(assignment)
    except LookupError:
        return None
    return deadline_of(lab)


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
        preprocessor, assignment = self.parent, self.parent.assignment_id
        total_seconds_late = self._after_extension(student_id, total_seconds_late)
        if total_seconds_late <= 0:
            return None
        deadline = _deadline(assignment)
        if deadline is None:
            decide = super() if self.otherwise is LateSubmissionPlugin else self.otherwise(parent=preprocessor)
            own: float | None = decide.late_submission_penalty(student_id, score, total_seconds_late)
            return own
        notebook = preprocessor.gradebook.find_submission_notebook(preprocessor.notebook_id, assignment, student_id)
        return penalty(deadline, notebook.max_score, total_seconds_late)

    def _after_extension(self, student: str, seconds_late: float) -> float:
        """Return the seconds after the student's own due date: a submission that is new has no extension yet."""
        preprocessor = self.parent
        extensions = _extensions(CourseDirectory(parent=self), preprocessor.assignment_id)
        if extensions is None:
            return seconds_late
        submission = preprocessor.gradebook.find_submission(preprocessor.assignment_id, student)
        set_extension(submission, extensions.get(student), submission.assignment.duedate)
        return float(submission.total_seconds_late)
