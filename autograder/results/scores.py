"""The scores of a class as a table, submissions that need a person first: ``autograder scores``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from autograder.collect.submission_folders import refusal
from autograder.course import Course
from autograder.notebooks.metadata import COLLECTION
from autograder.results.class_results import Cell, ClassResults, Submission, collect, status
from autograder.results.stored_checks import TAMPERED
from autograder.text import closest, counted, csv_text, fitted, number, safe_line, table

FAULT, NOTHING = "fault", "no submission"
WAITS = "waits for a score"
_ORDER = (FAULT, "not graded", "to grade manually", "graded", NOTHING)  # submissions that need a person come first


def find(results: ClassResults, student: str) -> Submission:
    """Return a student's submission.

    Raises:
        LookupError: if there is none; the message names the existing ones, or says that the student submitted nothing.
    """
    for submission in results.submissions:
        if submission.student == student:
            return submission
    if student in results.missing:
        raise LookupError(f"{safe_line(student)} has not submitted {results.assignment}")
    raise closest(student, (s.student for s in results.submissions), f"submission for {results.assignment} by")


def state(results: ClassResults, submission: Submission) -> str:
    """Return the state of a submission.

    Returns:
        ``graded``, ``to grade manually``, ``not graded``, or ``fault`` if grading itself failed.
    """
    return FAULT if submission.graded and faults(results, submission) else status(submission)


def faults(results: ClassResults, submission: Submission) -> list[str]:
    """Describe what went wrong in grading a submission; none of it is the student's fault."""
    reasons = {
        "absent": "its autograded notebook is missing or damaged",
        "differs": "results in its autograded notebook differ from the scores in the gradebook",
    }
    found = [reasons[known]] if (known := results.state(submission)) in reasons else []
    for stored in submission.stored.values():
        for cell, checks in (stored.checks if stored is not None else {}).items():
            broken = [check.name for check in checks if check.outcome == "error"]
            if broken:
                found.append(f"{cell}: {', '.join(broken)} raised an internal error")
    return found


def needs(results: ClassResults, submission: Submission) -> list[str]:
    """List what a person has to do or to review."""
    again = f"run 'nbgrader autograde {results.assignment}'"
    if not submission.submitted:  # grading would not find it
        again = (
            f"put it into submitted/{submission.student}/{results.assignment}/ and {again}, or take the student out of the "
            f"gradebook: 'nbgrader db student remove {submission.student} --force'"
        )
    if not submission.graded:
        return [f"not graded yet: {again}"]
    found = faults(results, submission)
    if submission.outdated or results.state(submission) in ("absent", "differs"):
        found.append(f"{submission.outdated or 'grading again repairs this'}: {again}")
    for cell in results.cells:
        score = submission.scores[cell.key]
        if score.to_grade:
            found.append(f"{cell.key}: {WAITS}")
        elif score.waiting and not score.by_hand:
            found.append(f"{cell.key}: no points, as the cell is missing in the notebook: check whether that is right")
        elif score.waiting:
            found.append(f"{cell.key}: graded again after a manual score was given: check whether it still holds")
    notes = [note for stored in filter(None, submission.stored.values()) for note in stored.notes]
    collection = [note.removeprefix(COLLECTION).strip(" `") for note in notes if note.startswith(COLLECTION)]
    if not submission.readable:
        found.append("none of its code could be run")
    found += collection
    for stored in filter(None, submission.stored.values()):
        if any(check.symptom == TAMPERED for checks in stored.checks.values() for check in checks):
            found.append("it replaced functions that the checks use")
        if stored.isolation == "none":
            found.append("it ran without isolation: do not trust its score")
    return found


def short(cell: Cell) -> str:
    """Return a cell's name as the heading of a column."""
    return cell.key.replace("check_", "", 1)


def lateness(seconds: float) -> str:
    """Format how late a submission is, or how long an extension, in hours or days; empty if it is 0."""
    if not seconds:
        return ""
    return f"{seconds / 86400:.1f} d" if seconds >= 2 * 86400 else f"{max(seconds / 3600, 0.1):.1f} h"


def _late(row: Mapping[str, Any]) -> str:
    """Return how late a submission is, after its extension, which follows in brackets."""
    extension = f"(+{lateness(row['extension'])})" if row["extension"] else ""
    return f"{lateness(row['seconds_late'])} {extension}".strip()


def write_scores(course: Course, assignment: str, width: int | None = None) -> tuple[str, str]:
    """Return the table of an assignment's scores, as text and as CSV.

    Args:
        course: The course with the gradebook.
        assignment: Name of the lab's assignment.
        width: Maximum length of the lines of the text. If a line would be longer, remarks are listed below the table.

    Raises:
        FileNotFoundError: if there is no gradebook.
        LookupError: if the gradebook does not have the assignment, or nothing of it is graded.
        ValueError: if the gradebook cannot be read.
    """
    results = collect(course, assignment)
    submitted = course.directories["submitted_directory"]
    refused = {
        s.student: why
        for s in results.submissions
        if not s.graded and (why := refusal(submitted / s.student / assignment, s.student))
    }
    rows = sorted(
        _rows(results, refused), key=lambda row: (_ORDER.index(row["state"]), -(row["total"] or 0.0), row["student"])
    )
    # the column of a cell already says that it waits for a score
    remarks = ["; ".join(need for need in row["needs"] if not need.endswith(WAITS)) for row in rows]
    late = any(row["seconds_late"] or row["extension"] for row in rows)
    penalized = any(row["late_penalty"] for row in rows)
    header = ["student", "state", *(f"{short(cell)} ({cell.points:g})" for cell in results.cells)]
    header += ["late"] * late + ["penalty"] * penalized + [f"sum ({results.points:g})"]
    shown = [
        [
            row["student"],
            row["state"],
            *("to grade" if score is None and row["total"] is not None else number(score) for score in row["scores"]),
            *([_late(row)] * late),
            *([number(-row["late_penalty"]) if row["late_penalty"] else ""] * penalized),
            number(row["total"]),
        ]
        for row in rows
    ]
    counts = ", ".join(
        f"{sum(row['state'] == name for row in rows)} {name}"
        for name in _ORDER
        if any(r["state"] == name for r in rows)
    )
    summary = f"{counted(len(rows), 'student')}: {counts}"
    text = f"{_text(header, shown, remarks, width)}\n\n{textwrap.fill(summary, width) if width else summary}"
    fields = ["student", "state", *(cell.key for cell in results.cells), "hours_extension", "hours_late",
              "late_penalty", "total", "max_total", "needs"]  # fmt: skip
    values = [
        [row["student"], row["state"], *map(number, row["scores"]), number(row["extension"] / 3600), number(row["seconds_late"] / 3600),
         number(row["late_penalty"]), number(row["total"]), number(results.points), "; ".join(row["needs"])]
        for row in rows
    ]  # fmt: skip
    return text, csv_text(fields, values)


def _text(header: list[str], rows: list[list[str]], remarks: list[str], width: int | None) -> str:
    """Format the table, with the remarks in its last column or, if a line would be too long, in a list below it."""
    if not any(remarks):
        return table(header, rows, left=(0, 1)) if width is None else fitted(header, rows, width, left=(0, 1))
    complete = [[*row, remark] for row, remark in zip(rows, remarks, strict=True)]
    text = table([*header, "needs attention"], complete, left=(0, 1, len(header)))
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    listed = [
        textwrap.fill(f"{safe_line(row[0])}: {safe_line(remark)}", width, initial_indent="  ", subsequent_indent="    ")
        for row, remark in zip(rows, remarks, strict=True)
        if remark
    ]
    return "\n".join([fitted(header, rows, width, left=(0, 1)), "", "needs attention", *listed])


def _rows(results: ClassResults, refused: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    for submission in results.submissions:
        scores = [submission.scores.get(cell.key) for cell in results.cells]
        yield {
            "student": submission.student,
            "state": state(results, submission),
            "scores": [None if s is None or not submission.graded or s.to_grade else s.score for s in scores],
            "seconds_late": submission.seconds_late,
            "extension": submission.extension.total_seconds(),
            "late_penalty": submission.penalty if submission.graded else None,
            "total": submission.total if submission.graded else None,
            "needs": [f"not graded: {refused[submission.student]}"]
            if submission.student in refused
            else needs(results, submission),
        }
    for student in results.missing:
        nothing = {"scores": [None] * len(results.cells), "late_penalty": None, "total": None, "needs": []}
        yield {"student": student, "state": NOTHING, "seconds_late": 0.0, "extension": 0.0, **nothing}
