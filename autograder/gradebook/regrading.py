"""Whether a submission has to be graded again: what was submitted, the graded notebook and the gradebook are compared.

A graded notebook names what was submitted (:func:`digest_of`, of everything in the folder) in its metadata. A submission is
up to date where that is what is there now, and where the gradebook has the scores of the graded notebook.
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

# what editors and systems leave behind when a person looks at a submission
_IGNORED = {".ipynb_checkpoints", "__pycache__", ".DS_Store"}
_MOST_LEVELS = 50
_SAME = 1e-6  # points: floats that differ by less are equal

# notebook -> graded cell -> its automatic score, None where it has none
Scores = dict[str, dict[str, float | None]]


def digest_of(folder: Path) -> str:
    """Changes with the name and content of every file in a folder, whatever their times say."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _IGNORED)
        if len(Path(place).relative_to(folder).parts) > _MOST_LEVELS:  # nothing of it is graded
            folders.clear()
        for name in [*folders, *sorted(set(files) - _IGNORED)]:
            path = Path(place, name)
            digest.update(f"{path.relative_to(folder)}\0".encode(errors="surrogateescape") + _content(path))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind != stat.S_IFREG:  # a pipe would be waited for
            return str(kind).encode()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:  # it is said where it is read for grading
        return str(error.strerror).encode()


def mark(notebook: NotebookNode, digest: str) -> None:
    """Writes into a notebook from what it was made."""
    notebook.metadata[STORED] = {SUBMITTED: digest}


def book_scores(gradebook: Gradebook, assignment: str) -> dict[str, Scores]:
    """Student -> automatic scores of all graded cells, as the gradebook has them, in one query."""
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
    """Graded cells of a notebook in the gradebook, with their points."""
    return {cell.name: float(cell.max_score) for cell in [*notebook.grade_cells, *notebook.task_cells]}


def check_cells(notebook: Notebook) -> dict[str, float]:
    """Check cells of a notebook in the gradebook, with their points."""
    answers = {cell.name for cell in notebook.solution_cells}
    cells: list[GradeCell] = [c for c in notebook.grade_cells if c.cell_type == "code" and c.name not in answers]
    return {cell.name: float(cell.max_score) for cell in cells}


def graded_notebook(path: Path) -> NotebookNode | None:
    """A notebook with a score in each of its check cells, ``None`` where grading did not come to its end.

    The notebook is written twice, without and with scores, the second time after the gradebook has them; a file that was
    cut off in the middle is no JSON. So scores in all check cells tell that everything before was done.
    """
    try:
        notebook = nbformat.from_dict(json.loads(path.read_bytes()))
        return None if None in scores_of(notebook).values() else notebook
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def is_graded(folder: Path, notebooks: Iterable[str]) -> bool:
    """Whether grading of a submission came to its end.

    Args:
        folder: of the autograded submission.
        notebooks: names of those that the assignment consists of, without ``.ipynb``.
    """
    return all(graded_notebook(folder / f"{name}.ipynb") is not None for name in notebooks)


def why_again(folder: Path, cells: Mapping[str, Mapping[str, float]], digest: str, book: Scores | None) -> str:
    """Why a submission has to be graded again; empty where it is up to date.

    Args:
        folder: of the autograded submission.
        cells: notebook of the assignment -> graded cell -> points, as the gradebook has them.
        digest: of what is submitted now, :func:`digest_of`.
        book: its scores in the gradebook, ``None`` where that does not have it.
    """
    for name in cells:
        notebook = graded_notebook(folder / f"{name}.ipynb")
        if notebook is None:
            return "grading was cut short"
        if submitted_of(notebook) != digest:
            return "it is not what was graded" if submitted_of(notebook) else "an older version graded it"
        if book is None:
            return "the gradebook does not have it"
        if graded_cells(notebook.cells) != cells.get(name, {}):
            return "the gradebook has other graded cells"
        scores, known = scores_of(notebook), book.get(name, {})
        if any(known.get(cell) is None or abs(known[cell] - score) > _SAME for cell, score in scores.items()):
            return "the gradebook has other scores"
    return ""
