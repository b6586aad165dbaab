"""What the graded notebooks of ordinary assignments say about their grading, in their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from autograder.notebooks.metadata import STOCK, STORED, SUBMITTED


def mark_unfinished(notebook: NotebookNode) -> None:
    """Mark a notebook that nbgrader writes before it is run."""
    notebook.metadata[STORED] = {STOCK: {"finished": False}}


def mark_finished(notebook: NotebookNode, digest: str, **known: object) -> None:
    """Mark a notebook that is run now: nbgrader writes it only after its scores are in the gradebook.

    Args:
        notebook: The notebook.
        digest: Digest of the submission (:func:`autograder.gradebook.regrading.digest_of`).
        **known: What other commands show: ``isolation``, ``readable``, ``notes`` of a repair.
    """
    notebook.metadata[STORED] = {SUBMITTED: digest, STOCK: {"finished": True, **known}}


def note_stopped(notebook: NotebookNode, stopped: list[str]) -> None:
    """Add the cells that a limit stopped to the mark of a notebook."""
    if stopped:
        notebook.metadata[STORED][STOCK]["stopped"] = stopped


def finished(folder: Path, notebooks: Iterable[str]) -> bool:
    """Return whether the grading in a folder of results was completed.

    Args:
        folder: Folder of the autograded submission.
        notebooks: Not used: a submission need not have all notebooks.
    """
    paths = list(folder.glob("*.ipynb"))
    return bool(paths) and not any(_is_unfinished(path) for path in paths)


def unfinished(folder: Path, notebooks: Iterable[str], digest: str) -> str:
    """Return why a submission must be graded again; empty if its grading is up to date, or stock nbgrader made it.

    Args:
        folder: Folder of the autograded submission.
        notebooks: Names of the submitted notebooks.
        digest: Digest of the submission now.
    """
    for name in notebooks:
        path = folder / f"{name}.ipynb"
        if not path.exists() or _is_unfinished(path):
            return "grading was interrupted"
        if _stored(path).get(SUBMITTED, digest) != digest:
            return "the submission has changed since it was graded"
    return ""


def _is_unfinished(path: Path) -> bool:
    stock = _stored(path).get(STOCK)
    return isinstance(stock, Mapping) and stock.get("finished") is not True


def _stored(path: Path) -> Mapping[str, Any]:
    """Return the mark of a notebook; that of an unfinished one if the file is damaged."""
    try:
        stored = json.loads(path.read_bytes())["metadata"].get(STORED, {})
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {STOCK: {}}
    return stored if isinstance(stored, Mapping) else {}
