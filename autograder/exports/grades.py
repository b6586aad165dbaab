"""What each student gets for an assignment, as the gradebook has it: all exports say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbgrader.api import Gradebook

from autograder.collect.record import Record
from autograder.results.class_results import from_gradebook


@dataclass(frozen=True)
class StudentGrade:
    """A student's grade.

    Attributes:
        student: the id in the gradebook.
        first_name, last_name, email, lms_user_id: as the gradebook has them; empty where it has none.
        total: points after the late penalty; ``None`` where there is no grade yet, which is never the same as 0.
        why: there is no grade.
        numbers: of the person on platforms, as downloads that were collected had them.
    """

    student: str
    first_name: str
    last_name: str
    email: str
    lms_user_id: str
    total: float | None
    why: str = ""
    numbers: Sequence[str] = ()


def student_grades(
    gradebook: Gradebook, assignment: str, partial: bool = False, record: Record | None = None
) -> tuple[list[StudentGrade], float]:
    """All students of the gradebook by id, and the points of the assignment.

    Args:
        gradebook: an open one.
        assignment: such as ``"transfer-learning"``.
        partial: count what is there of submissions that wait for a person.
        record: of collected downloads.

    Raises:
        LookupError: no such assignment.
    """
    results = from_gradebook(gradebook, assignment)
    submissions = {submission.student: submission for submission in results.submissions}
    found = []
    for student in sorted(gradebook.students, key=lambda student: student.id):
        submission = submissions.get(student.id)
        waiting = [] if submission is None else [key for key, score in submission.scores.items() if score.to_grade]
        if submission is None:
            why = "no submission"
        elif not submission.graded:
            why = "not graded"
        else:
            why = f"waits for a score by hand ({', '.join(waiting)})" if waiting and not partial else ""
        total = submission.total if submission is not None and not why else None
        found.append(
            StudentGrade(
                student.id,
                student.first_name or "",
                student.last_name or "",
                student.email or "",
                student.lms_user_id or "",
                total,
                why,
                record.numbers(student.id) if record is not None else (),
            )
        )
    return found, results.points
