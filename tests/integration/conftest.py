"""Fixtures that several tests of the commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from amllab.preflight.document import Document, read
from tests.conftest import NOTEBOOK
from tests.helpers.preflight_findings import SOLUTION
from tests.helpers.synthetic_class import build_four


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Return a synthetic class of four, with a student who has not submitted and one who is not graded."""
    return build_four(tmp_path)


@pytest.fixture
def solution() -> NotebookNode:
    """Return the shipped solution."""
    return nbformat.read(SOLUTION, as_version=4)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[NotebookNode], Document]:
    """Return a function that saves a notebook and reads it as the preflight does."""

    def save(notebook: NotebookNode) -> Document:
        nbformat.write(notebook, tmp_path / NOTEBOOK)
        return read(tmp_path / NOTEBOOK)

    return save
