"""Everything about one graded submission, for a terminal: ``autograder explain``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbgrader.api import MissingEntry

from autograder.course import Course
from autograder.results.class_results import ClassResults, Submission, collect
from autograder.results.scores import find, lateness, needs, short, state
from autograder.text import number, safe_line, table

_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Given:
    """The gradebook's entries for a cell besides its score, in points; ``None`` if nobody gave any.

    Attributes:
        by_hand: a person's score, which counts instead of the automatic one.
        extra: extra credit.
        comment: a person's remark.
    """

    by_hand: float | None
    extra: float | None
    comment: str


@dataclass(frozen=True)
class Times:
    """The times of a submission.

    Attributes:
        submitted: when it was submitted, in UTC, as nbgrader stores it.
        due: the due date, in UTC, as nbgrader stores it.
        graded: when its autograded notebooks were written, in local time.
        late: seconds after the due date.
    """

    submitted: datetime | None
    due: datetime | None
    graded: datetime | None
    late: float = 0.0


def explain(course: Course, assignment: str, student: str) -> str:
    """Describe a submission, as text without control characters.

    Args:
        course: the course with the gradebook.
        assignment: such as ``"transfer-learning"``.
        student: the id in the gradebook.

    Raises:
        FileNotFoundError: if there is no gradebook.
        ValueError: if the gradebook cannot be read.
        LookupError: if there is no such assignment or submission, or nothing of the assignment is graded; the message
            names the existing ones, or the command to run.
    """
    results = collect(course, assignment, [student])
    submission = find(results, student)
    given, times = _from_gradebook(course, assignment, submission)
    sections = [
        _head(results, submission, times),
        _cells(results, submission, given) if submission.graded else "",
        _listed("Needs attention", needs(results, submission)),
        *_of_the_grading(submission),
        _listed("Comments from graders", [f"{key}: {g.comment}" for key, g in given.items() if g.comment]),
    ]
    return "\n\n".join(filter(None, sections))


def _from_gradebook(course: Course, assignment: str, submission: Submission) -> tuple[dict[str, Given], Times]:
    files = [
        course.directories["autograded_directory"] / submission.student / assignment / f"{name}.ipynb"
        for name in submission.stored
        if Path(submission.student).name == submission.student
    ]
    written = [file.stat().st_mtime for file in files if file.is_file()]
    graded = datetime.fromtimestamp(max(written)) if written else None
    with course.gradebook() as gradebook:
        try:
            entry = gradebook.find_submission(assignment, submission.student)
        except MissingEntry:
            return {}, Times(None, None, None)
        several = len(entry.notebooks) > 1
        comments = {
            (notebook.name, comment.name): comment.manual_comment or ""
            for notebook in entry.notebooks
            for comment in notebook.comments
        }
        given = {
            f"{notebook.name}: {grade.name}" if several else grade.name: Given(
                grade.manual_score, grade.extra_credit, comments.pop((notebook.name, grade.name), "")
            )
            for notebook in entry.notebooks
            for grade in notebook.grades
        }
        # a solution cell has a comment but no score
        for (notebook, cell), comment in comments.items():
            given[f"{notebook}: {cell}" if several else cell] = Given(None, None, comment)
        return given, Times(entry.timestamp, entry.duedate, graded, entry.total_seconds_late)


def _head(results: ClassResults, submission: Submission, times: Times) -> str:
    facts: list[tuple[str, str]] = [("state", state(results, submission))]
    if submission.graded:
        penalty = f", after a late penalty of {number(submission.penalty)}" if submission.penalty else ""
        facts.append(("score", f"{number(submission.total)} of {number(results.points)}{penalty}"))
    late = f", {lateness(times.late)} late" if times.late else ""
    longer = lateness(submission.extension.total_seconds())
    extension = f", with an extension of {longer}" if longer else ""
    facts += [
        (label, time.strftime(_TIME) + more)
        for label, time, more in (
            ("submitted", times.submitted, f" UTC{late}"),
            ("due", times.due, f" UTC{extension}"),
            ("graded", times.graded, ""),
        )
        if time is not None
    ]
    if submission.seconds is not None:
        facts.append(("grading took", f"{submission.seconds:.1f} s"))
    several = len(submission.stored) > 1
    for name, stored in submission.stored.items():
        of = f" of {safe_line(name)}" if several else ""
        if stored is not None and stored.isolation:
            facts.append((f"isolation{of}", safe_line(stored.isolation)))
        if stored is not None and stored.seed:
            facts.append((f"seed{of}", f"{stored.seed}  (autograder grade --seed repeats the inputs)"))
    width = max(len(label) for label, _ in facts)
    return "\n".join(
        [
            f"{safe_line(submission.student)}: {safe_line(results.assignment)}",
            *(f"  {label:<{width}}  {text}" for label, text in facts),
        ]
    )


def _cells(results: ClassResults, submission: Submission, given: dict[str, Given]) -> str:
    rows = []
    for cell in results.cells:
        score, known = submission.scores[cell.key], given.get(cell.key, Given(None, None, ""))
        rows.append(
            [
                short(cell),
                number(score.automatic),
                number(known.by_hand),
                number(known.extra) if known.extra else "",
                "to grade" if score.to_grade else number(score.score),
                number(cell.points),
            ]
        )
    if submission.penalty:
        rows.append(["late penalty", "", "", "", number(-submission.penalty), ""])
    rows.append(["sum", "", "", "", number(submission.total), number(results.points)])
    return table(["cell", "automatic", "manual", "extra credit", "score", "of"], rows)


def _of_the_grading(submission: Submission) -> Iterator[str]:
    """Yield sections on the results that the grader stored."""
    for name, stored in submission.stored.items():
        of = f" ({safe_line(name)})" if len(submission.stored) > 1 else ""
        if stored is None:
            continue
        lost = [
            f"{cell}: {check.title}  [{number(check.earned)}/{number(check.points)}]"
            f"{f'  {check.outcome}' if check.outcome != 'failed' else ''}"
            f"{f'  symptom: {check.symptom}' if check.symptom else ''}{f'  {check.broke}' if check.broke else ''}"
            for cell, checks in stored.checks.items()
            for check in checks
            if check.outcome != "passed"
        ]
        made = [f"{cell}: {mistake}" for cell, mistakes in stored.mistakes.items() for mistake in mistakes]
        yield _listed(f"Checks that did not pass{of}", lost)
        yield _listed(f"Recognised mistakes{of}", made)
        yield _listed(f"Fixed on arrival{of}", stored.notes)
        yield _listed(f"Cells stopped by a limit{of}", stored.stopped)
        if stored.ordinary:
            yield f"It is no lab: its tests are cells of the notebook, and their outputs are in the graded notebook{of}."
        elif not stored.checks:
            yield f"Results of individual checks are not stored{of}: it was graded by an older version."


def _listed(title: str, entries: Sequence[str]) -> str:
    return "\n".join([title, *(f"  - {safe_line(entry)}" for entry in entries)]) if entries else ""
