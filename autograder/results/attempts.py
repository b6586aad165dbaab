"""The attempts of a class as a table: ``autograder attempts``."""

from __future__ import annotations

from autograder.course import Course
from autograder.errors import NotGradedError
from autograder.gradebook.attempts import FOLDER, attempts_of
from autograder.text import closest, number, table


def list_attempts(course: Course, assignment: str, student: str = "") -> str:
    """Return a table of all attempts that were graded.

    Args:
        course: The course.
        assignment: Name of the assignment.
        student: Lists only this student; all by default.

    Raises:
        LookupError: There are none; the message says why.
        ValueError: A record is damaged.
    """
    found = dict(attempts_of(course.root, assignment))
    if not found:
        raise NotGradedError(f"no attempts for {assignment} are kept yet: 'nbgrader autograde {assignment}' keeps them")
    if student and student not in found:
        raise closest(student, found, f"attempt for {assignment} by")
    rows = [
        [
            who,
            str(attempt.number),
            attempt.submitted,
            attempt.graded,
            number(sum(attempt.points.values())),
            f"{FOLDER}/{assignment}/{who}/{attempt.number}",
        ]
        for who, attempts in found.items()
        if student in ("", who)
        for attempt in attempts
    ]
    return table(["student", "attempt", "submitted", "graded", "automatic points", "files"], rows, left=(0, 2, 3, 5))
