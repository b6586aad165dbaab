"""Metadata of graded notebooks: the cells that grading fills in, and the data that it stores for other commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbformat import NotebookNode

from amllab.matching import EXPERIMENT

STORED = "amllab"  # metadata key of data for other commands, in reports and in graded notebooks
STORED_VERSION = 1
# a file in the submission's folder: what a person should know about the collection
COLLECTION_NOTE = "collected.txt"
COLLECTION = "From the collection:"  # prefix of its lines among the notes of grading
# key in the metadata of a graded notebook, under STORED: the digest of what was submitted
SUBMITTED = "submitted"
# under STORED, too: what is known about the grading of a notebook that is of no lab
STOCK = "stock"


def is_autograded(cell: NotebookNode) -> bool:
    """Return whether a cell's score comes from checks."""
    nbgrader = cell.metadata.get("nbgrader") or {}
    return cell.cell_type == "code" and bool(nbgrader.get("grade")) and not nbgrader.get("solution")


def score_of(cell: Mapping[str, Any]) -> float | None:
    """Return the score that the grader wrote into a check cell: its only result, a number from 0 to the cell's points.

    Anything else is not a score, although nbgrader gives full points to a check cell without a result or with a result
    that is not a number.
    """
    outputs = cell["outputs"]
    results = [output["data"].get("text/plain") for output in outputs if output["output_type"] == "execute_result"]
    if len(results) != 1 or any(output["output_type"] in ("error", "stream") for output in outputs):
        return None
    try:
        score = float("".join(results[0]))  # in a file, text is a list of lines
    except (TypeError, ValueError):
        return None
    return score if 0 <= score <= float(cell["metadata"]["nbgrader"]["points"]) else None


def scores_of(notebook: NotebookNode) -> dict[str, float | None]:
    """Return the score in each check cell, by grade id; see :func:`score_of`."""
    return {cell.metadata.nbgrader.grade_id: score_of(cell) for cell in notebook.cells if is_autograded(cell)}


def graded_cells(cells: Iterable[NotebookNode]) -> dict[str, float]:
    """Return the points of all cells that checks or people grade, by grade id."""
    marked = [cell.metadata.nbgrader for cell in cells if cell.metadata.get("nbgrader")]
    return {
        marks.grade_id: float(marks.get("points") or 0) for marks in marked if marks.get("grade") or marks.get("task")
    }


def submitted_of(notebook: Mapping[str, Any]) -> str:
    """Return the digest of what was submitted when a notebook was graded, or an empty string if it has none.

    See :func:`autograder.gradebook.regrading.digest_of`.
    """
    stored = notebook["metadata"].get(STORED)
    digest = stored.get(SUBMITTED) if isinstance(stored, Mapping) else None
    return digest if isinstance(digest, str) else ""


def skipped_cells(notebook: NotebookNode) -> list[int]:
    """Return the indices of cells that grading does not run: experiments, and the cells that the grader fills in."""
    return [i for i, cell in enumerate(notebook.cells) if is_autograded(cell) or is_experiment(cell)]


def is_experiment(cell: NotebookNode) -> bool:
    """Return whether a cell is an experiment."""
    return EXPERIMENT in cell.metadata.get("tags", [])
