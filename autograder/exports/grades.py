"""The grade of each student for an assignment, as in the gradebook, so that all exports agree."""

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
        student: Id in the gradebook.
        first_name: First name in the gradebook; empty if it has none.
        last_name: Last name in the gradebook; empty if it has none.
        email: Email address in the gradebook; empty if it has none.
        lms_user_id: Id on the learning platform, as in the gradebook; empty if it has none.
        total: Points after the late penalty; ``None`` if there is no grade yet, which is never the same as 0.
        why: Reason why there is no grade.
        numbers: Numbers and logins of the person on platforms, from the collected downloads.
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
    """Return the grades of all students in the gradebook, sorted by id, and the points of the assignment.

    Args:
        gradebook: An open gradebook.
        assignment: Name of the assignment, such as ``"transfer-learning"``.
        partial: Whether to count the points so far of submissions that wait for manual grading.
        record: Record of the collected downloads.

    Raises:
        LookupError: There is no such assignment.
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
            why = f"waits for manual grading ({', '.join(waiting)})" if waiting and not partial else ""
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
