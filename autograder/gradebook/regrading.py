"""Decide whether a submission must be graded again.

The metadata of a graded notebook has a digest of everything in the submitted folder (:func:`digest_of`). A grading is
up to date if this is still the digest of the folder, and if the gradebook has the scores of the graded notebook.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import BaseCell, Grade, Gradebook, GradeCell, Notebook, SubmittedAssignment, SubmittedNotebook

from autograder.notebooks.metadata import STORED, SUBMITTED, graded_cells, scores_of, submitted_of

# left by editors and operating systems when a person opens a submission
_IGNORED = {".ipynb_checkpoints", "__pycache__", ".DS_Store"}
_MOST_LEVELS = 50
_SAME = 1e-6  # points; smaller differences are rounding errors

# notebook -> graded cell -> automatic score, None if it has none
Scores = dict[str, dict[str, float | None]]


def digest_of(folder: Path) -> str:
    """Return a digest of the names and contents of all files in a folder, independent of their times."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _IGNORED)
        if len(Path(place).relative_to(folder).parts) > _MOST_LEVELS:  # too deep: not graded
            folders.clear()
        for name in [*folders, *sorted(set(files) - _IGNORED)]:
            path = Path(place, name)
            digest.update(f"{path.relative_to(folder)}\0".encode(errors="surrogateescape") + _content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind != stat.S_IFREG:  # reading a pipe would block
            return str(kind).encode()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:  # reported when grading reads the file
        return str(error.strerror).encode()


def mark(notebook: NotebookNode, digest: str) -> None:
    """Store the digest of the submission in the metadata of its graded notebook."""
    notebook.metadata[STORED] = {SUBMITTED: digest}


def book_scores(gradebook: Gradebook, assignment: str) -> dict[str, Scores]:
    """Fetch the automatic scores of all graded cells from the gradebook in one query, by student."""
    rows = (
        gradebook.db.query(SubmittedAssignment.student_id, Notebook.name, BaseCell.name, Grade.auto_score)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Notebook, SubmittedNotebook.notebook_id == Notebook.id)
        .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
        .join(BaseCell, Grade.cell_id == BaseCell.id)
        .filter(SubmittedAssignment.assignment_id == gradebook.find_assignment(assignment).id)
    )
    found: dict[str, Scores] = {}
    for student, notebook, cell, score in rows:
        found.setdefault(student, {}).setdefault(notebook, {})[cell] = score
    return found


def book_cells(notebook: Notebook) -> dict[str, float]:
    """Return the graded cells of a notebook in the gradebook, with their points."""
    return {cell.name: float(cell.max_score) for cell in [*notebook.grade_cells, *notebook.task_cells]}


def check_cells(notebook: Notebook) -> dict[str, float]:
    """Return the check cells of a notebook in the gradebook, with their points."""
    answers = {cell.name for cell in notebook.solution_cells}
    cells: list[GradeCell] = [c for c in notebook.grade_cells if c.cell_type == "code" and c.name not in answers]
    return {cell.name: float(cell.max_score) for cell in cells}


def graded_notebook(path: Path) -> NotebookNode | None:
    """Read a graded notebook; return ``None`` if its grading was not completed.

    The notebook is written twice: first without scores, then with scores, after the gradebook has them. A truncated
    file is not valid JSON. Scores in all check cells therefore show that all earlier steps are done.
    """
    try:
        notebook = nbformat.from_dict(json.loads(path.read_bytes()))
        return None if None in scores_of(notebook).values() else notebook
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def is_graded(folder: Path, notebooks: Iterable[str]) -> bool:
    """Return whether the grading of a submission was completed.

    Args:
        folder: Folder of the autograded submission.
        notebooks: Names of the assignment's notebooks, without ``.ipynb``.
    """
    return all(graded_notebook(folder / f"{name}.ipynb") is not None for name in notebooks)


def why_again(folder: Path, cells: Mapping[str, Mapping[str, float]], digest: str, book: Scores | None) -> str:
    """Return why a submission must be graded again; empty if its grading is up to date.

    Args:
        folder: Folder of the autograded submission.
        cells: Notebook of the assignment -> graded cell -> points in the gradebook.
        digest: Current :func:`digest_of` the submitted folder.
        book: Scores of the submission in the gradebook; ``None`` if it is not there.
    """
    for name in cells:
        notebook = graded_notebook(folder / f"{name}.ipynb")
        if notebook is None:
            return "grading was interrupted"
        if submitted_of(notebook) != digest:
            return (
                "the submission has changed since it was graded"
                if submitted_of(notebook)
                else "it was graded by an older version"
            )
        if book is None:
            return "it is not in the gradebook"
        if graded_cells(notebook.cells) != cells.get(name, {}):
            return "the gradebook has other graded cells"
        scores, known = scores_of(notebook), book.get(name, {})
        if any(known.get(cell) is None or abs(known[cell] - score) > _SAME for cell, score in scores.items()):
            return "the gradebook has other scores"
    return ""
