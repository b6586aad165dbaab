"""The cells that grading fills in, and the data that it leaves in them for other commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbformat import NotebookNode

STORED = "amllab"  # key in the metadata of a report: the same results for machines
STORED_VERSION = 1
EXPERIMENT = "experiment"  # tag of a cell that grading does not run
NOTE = "grading-note"  # tag of the cell that grading puts in front
COLLECTION_NOTE = (
    "collected.txt"  # a file of the submission's folder: what a person should know of how it was collected
)
COLLECTION = "From the collection:"  # before a line of it among the notes of grading
SUBMITTED = "submitted"  # in the metadata of a graded notebook, under STORED: the digest of what was submitted


def is_autograded(cell: NotebookNode) -> bool:
    """Whether a cell's score comes from checks."""
    nbgrader = cell.metadata.get("nbgrader") or {}
    return cell.cell_type == "code" and bool(nbgrader.get("grade")) and not nbgrader.get("solution")


def score_of(cell: Mapping[str, Any]) -> float | None:
    """The score that the grader wrote into a check cell: its one result, a number from 0 to the cell's points.

    Anything else is no score. nbgrader gives full points for a check cell without a result, or with one that is no number.
    """
    outputs = cell["outputs"]
    results = [output["data"].get("text/plain") for output in outputs if output["output_type"] == "execute_result"]
    if len(results) != 1 or any(output["output_type"] in ("error", "stream") for output in outputs):
        return None
    try:
        score = float("".join(results[0]))  # in a file, a text is a list of lines
    except (TypeError, ValueError):
        return None
    return score if 0 <= score <= float(cell["metadata"]["nbgrader"]["points"]) else None


def scores_of(notebook: NotebookNode) -> dict[str, float | None]:
    """Check cell -> the score in it; see :func:`score_of`."""
    return {cell.metadata.nbgrader.grade_id: score_of(cell) for cell in notebook.cells if is_autograded(cell)}


def graded_cells(cells: Iterable[NotebookNode]) -> dict[str, float]:
    """Grade id -> points, of all cells that checks or people grade."""
    marked = [cell.metadata.nbgrader for cell in cells if cell.metadata.get("nbgrader")]
    return {
        marks.grade_id: float(marks.get("points") or 0) for marks in marked if marks.get("grade") or marks.get("task")
    }


def submitted_of(notebook: Mapping[str, Any]) -> str:
    """The digest of what was submitted when a notebook was graded (:mod:`autograder.gradebook.regrading`); empty where it has none."""
    stored = notebook["metadata"].get(STORED)
    digest = stored.get(SUBMITTED) if isinstance(stored, Mapping) else None
    return digest if isinstance(digest, str) else ""


def skipped_cells(notebook: NotebookNode) -> list[int]:
    """Indices of the cells that grading does not run: experiments, and the cells that the judge fills in."""
    return [
        i for i, cell in enumerate(notebook.cells) if is_autograded(cell) or EXPERIMENT in cell.metadata.get("tags", [])
    ]


def is_experiment(cell: NotebookNode) -> bool:
    return EXPERIMENT in cell.metadata.get("tags", [])
