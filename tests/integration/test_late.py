"""A lab's deadline and its late penalty, with the real nbgrader command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from autograder.labs.corpus import Solution
from autograder.labs.settings import Deadline
from autograder.nbgrader_plugins.late_penalty import penalty
from tests.conftest import ASSIGNMENT, new_course, submit
from tests.helpers.course_copy import CourseCopy
from tests.helpers.notebooks import notebook_of

DUE = datetime(2026, 12, 18, 22, 59, tzinfo=UTC)
DEADLINE = """
[deadline]
due = 2026-12-18T23:59:00+01:00
grace_minutes = 15
penalty_percent = 10
most_percent = 25
"""
SUBMITTED_AT = {
    "next_day": "2026-12-19 08:00:00 UTC",
    "next_year": "2027-01-18 08:00:00 UTC",
    "letter": "2026-12-19 08:00:00 UTC",
}


@pytest.mark.parametrize(
    ("minutes", "points"),
    [(0, 0), (15, 0), (15.1, 4), (24 * 60, 4), (24 * 60 + 1, 8), (48 * 60 + 1, 10), (1e6, 10)],
)
def test_late_penalty_per_started_day(minutes: float, points: float) -> None:
    """Each started day costs its share, up to the limit; the grace period costs nothing."""
    deadline = Deadline(due=DUE, grace_minutes=15.0, penalty_percent=10.0, most_percent=25.0)
    assert penalty(deadline, 40, 60 * minutes) == points


@pytest.mark.slow
def test_late_penalty_in_gradebook(tmp_path: Path, release: NotebookNode) -> None:
    """The gradebook has the deadline of the lab and the late penalties."""
    course = CourseCopy(tmp_path)
    settings = course.root / "amllab" / "checks" / "transfer_learning" / "lab.toml"
    settings.write_text(settings.read_text() + DEADLINE)
    made = new_course(tmp_path / "made")
    (course.root / "gradebook.db").write_bytes((made / "gradebook.db").read_bytes())
    only_freeze = Solution("x", sources={"build_transfer_model": "", "train_with_early_stopping": ""})
    for student, time in SUBMITTED_AT.items():
        submit(course.root, student, b"Dear TA" if student == "letter" else notebook_of(only_freeze, release))
        (course.root / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text(time)
    done = course.run(
        [f"python -m nbgrader autograde {ASSIGNMENT}", f"autograder scores {ASSIGNMENT}"],
    )
    assert "Due date from lab.toml: 2026-12-18 22:59:00 UTC" in done[0].output
    with Gradebook(f"sqlite:///{course.root}/gradebook.db") as gradebook:
        assert gradebook.find_assignment(ASSIGNMENT).duedate == DUE.replace(tzinfo=None)
        submissions = {s.student.id: s for s in gradebook.assignment_submissions(ASSIGNMENT)}
        lost = {student: s.late_submission_penalty for student, s in submissions.items()}
        scores = {student: s.score for student, s in submissions.items()}
    assert lost == {"next_day": 10, "next_year": 20, "letter": 0}
    assert scores == dict.fromkeys(SUBMITTED_AT, 20) | {"letter": 0}
    rows = {
        line.split()[0]: line.split() for line in done[1].output.splitlines() if line.startswith(tuple(SUBMITTED_AT))
    }
    assert "-10" in rows["next_day"]
    assert "-20" in rows["next_year"]
