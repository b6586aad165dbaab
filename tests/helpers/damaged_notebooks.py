"""Damaged notebooks: their repair, and the cells found in them."""

from __future__ import annotations

import json
from pathlib import Path

from nbformat import NotebookNode

from autograder.notebooks.normalize import NormalizedSubmission, normalize

NAME = "transfer_learning.ipynb"


def graded_ids(notebook: NotebookNode) -> list[str]:
    return [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]


def by_id(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    (cell,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id]
    return cell


def repaired(tmp_path: Path, release: NotebookNode, notebook: NotebookNode) -> NormalizedSubmission:
    (tmp_path / NAME).write_text(json.dumps(notebook))
    return normalize(tmp_path / NAME, release)
