"""The numbers of a report as CSV, for further analysis."""

from __future__ import annotations

from autograder.report.analysis import Analysis
from autograder.results.class_results import ClassResults, Submission, status
from autograder.text import csv_text


def checks_table(analysis: Analysis) -> str:
    """Return a table with a row for each check."""
    header = [
        "number", "cell", "check", "title", "points", "students", "passed", "failed", "skipped", "broke", "pass_rate",
        "difficulty", "discrimination", "upper_lower_27", "median_seconds",
    ]  # fmt: skip
    rows = [
        [
            check.number,
            check.cell,
            check.name,
            check.title,
            check.points,
            check.count,
            *(check.outcomes[outcome] for outcome in ("passed", "failed", "skipped", "error")),
            check.pass_rate,
            check.item.difficulty,
            check.item.discrimination,
            check.item.upper_lower,
            check.seconds,
        ]
        for check in analysis.checks
    ]
    return csv_text(header, rows)


def students_table(analysis: Analysis, anonymous: bool) -> str:
    """Return a table with a row for each submission, and for each student without one unless anonymous.

    Anonymous rows are sorted by score, so that their order reveals nobody.
    """
    results = analysis.results
    cells = results.cells
    header = [*(cell.key for cell in cells), "late_penalty", "total", "max_total", "status", "grading_seconds"]
    rows: list[list[object]] = []
    for submission in in_order(results, anonymous):
        scores = [submission.scores.get(cell.key) for cell in cells]
        known = [score is not None and submission.graded and not score.to_grade for score in scores]
        numbers = [score.score if score and there else None for score, there in zip(scores, known, strict=True)]
        total = submission.total if submission.graded else None
        row: list[object] = [
            *numbers,
            submission.penalty,
            total,
            results.points,
            status(submission),
            submission.seconds,
        ]
        rows.append(row if anonymous else [submission.student, *row])
    if not anonymous:
        nothing: list[object] = [None] * len(cells)
        rows += [[student, *nothing, None, None, results.points, "missing", None] for student in results.missing]
    return csv_text(header if anonymous else ["student", *header], rows)


def in_order(results: ClassResults, anonymous: bool) -> list[Submission]:
    """Return the submissions by student id or, if anonymous, with the best first."""
    if not anonymous:
        return results.submissions
    return sorted(results.submissions, key=lambda s: (not s.graded, -s.total, s.seconds or 0.0))
