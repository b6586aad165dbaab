"""Scores and reports in the check cells of a graded notebook."""

from __future__ import annotations

from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.checks.render import to_html, to_text
from amllab.checks.results import CheckResult, score
from autograder.grading.result import GradingResult
from autograder.notebooks.metadata import STORED, STORED_VERSION

NOT_ISOLATED = " This submission ran without isolation: do not trust its score and outputs."
MAX_STORED_TEXT = 500  # characters of the exception of a broken check


def write_report(cell: NotebookNode, grading: GradingResult, note: str, *, with_submission: bool) -> None:
    """Write a report and a score into a check cell.

    The report becomes a display output. The score becomes the only result, which nbgrader reads as partial credit.

    Args:
        cell: The check cell, whose outputs are replaced.
        grading: Grading of the whole submission.
        note: Text at the end of the report.
        with_submission: Also store the data on the submission as a whole; set this for one of its cells.

    Raises:
        ValueError: The points of the checks do not add up to those of the cell.
    """
    results = [r for r in grading.results if r.cell == cell.metadata.nbgrader.grade_id]
    earned, possible = score(results)
    most = float(cell.metadata.nbgrader.points)
    if possible != most:
        raise ValueError(
            f"{cell.metadata.nbgrader.grade_id}: the checks are worth {possible:g} points, but the cell {most:g}"
        )
    grade_id = cell.metadata.nbgrader.grade_id
    remarks = grading.remarks(grade_id)
    report = {
        "text/plain": f"{to_text(results, remarks)}\n{note}",
        "text/html": to_html(results, note=note, remarks=remarks),
    }
    stored: dict[str, Any] = {"version": STORED_VERSION, "checks": [_stored_check(r) for r in results]}
    recognised = grading.mistakes.get(grade_id)
    stored["mistakes"] = [{"name": name} for name in recognised.names] if recognised is not None else []
    if with_submission:
        stored["submission"] = _stored_submission(grading)
    points = nbformat.v4.new_output("execute_result", data={"text/plain": f"{earned:g}"}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", data=report, metadata={STORED: stored}), points]
    cell.execution_count = 1


def _stored_check(result: CheckResult) -> dict[str, Any]:
    """Return a result without its sentences, which are in the report next to it."""
    broke = result.failure.seen[:MAX_STORED_TEXT] if result.outcome == "error" and result.failure else ""
    return {
        "name": result.name,
        "title": result.title,
        "points": result.points,
        "earned": result.earned,
        "outcome": result.outcome,
        "symptom": result.failure.symptom if result.failure else "",
        "seconds": round(result.seconds, 3),
        "broke": broke,
    }


def _stored_submission(grading: GradingResult) -> dict[str, Any]:
    return {
        "seed": str(grading.seed),  # a JavaScript program that saves this notebook would round the number
        "seconds": round(grading.seconds, 2),
        "isolation": grading.isolation,
        "readable": grading.readable,
        "stopped": grading.stopped,
        "notes": grading.notes,
    }
