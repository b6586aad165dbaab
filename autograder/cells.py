"""The cells that grading fills in, and the data that it leaves in them for other commands."""

from __future__ import annotations

from nbformat import NotebookNode

STORED = "amllab"  # key in the metadata of a report: the same results for machines
STORED_VERSION = 1


def is_autograded(cell: NotebookNode) -> bool:
    """Whether a cell's score comes from checks."""
    nbgrader = cell.metadata.get("nbgrader") or {}
    return cell.cell_type == "code" and bool(nbgrader.get("grade")) and not nbgrader.get("solution")
