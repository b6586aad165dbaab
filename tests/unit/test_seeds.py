"""The seed of a submission's checks depends on all executed code, and on nothing else that a student can vary."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

from autograder.grading.class_session import seed_of
from autograder.labs.corpus import Solution
from autograder.notebooks.metadata import skipped_cells
from autograder.notebooks.normalize import normalize
from tests.conftest import NOTEBOOK
from tests.helpers.notebooks import notebook_of

EXPERIMENT = {"tags": ["experiment"]}
BITS = range(63)


def seed(folder: Path, notebook: NotebookNode, release: NotebookNode, name: str = NOTEBOOK) -> int:
    """Return the seed as grading derives it, from the normalized file."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)
    found = seed_of("secret of the course", "mallory", normalize(folder / NOTEBOOK, release).notebook)
    (folder / name).unlink()
    return found


@pytest.fixture
def plain(release: NotebookNode) -> NotebookNode:
    notebook = notebook_of(Solution("plain"), release)
    own = [
        new_code_cell("SEEN = []"),
        new_code_cell("SEEN.append(1)"),
        new_code_cell("SEEN.append(2)", metadata=EXPERIMENT),
    ]
    notebook.cells[3:3] = own
    return notebook


def place(notebook: NotebookNode, grade_id: str) -> int:
    return next(
        i for i, c in enumerate(notebook.cells) if (c.metadata.get("nbgrader") or {}).get("grade_id") == grade_id
    )


def edit(change: Callable[[NotebookNode], object]) -> Callable[[NotebookNode], NotebookNode]:
    def edited(notebook: NotebookNode) -> NotebookNode:
        other = copy.deepcopy(notebook)
        change(other)
        return other

    return edited


def check_up(notebook: NotebookNode) -> None:
    """Move the check of the last exercise before the student's own cells."""
    notebook.cells.insert(2, notebook.cells.pop(place(notebook, "check_accuracy")))


def again(cell: NotebookNode) -> NotebookNode:
    twin = copy.deepcopy(cell)
    twin.id = "again"
    return twin


def swap(i: int, j: int) -> Callable[[NotebookNode], None]:
    def swapped(notebook: NotebookNode) -> None:
        cells = notebook.cells
        cells[i], cells[j] = cells[j], cells[i]

    return swapped


RUN = {
    "an experiment is run": lambda n: n.cells[5].metadata.pop("tags"),
    "a cell becomes an experiment": lambda n: n.cells[4].metadata.update(EXPERIMENT),
    "a cell is run before another": swap(3, 4),
    "a cell is cut in two": lambda n: (
        n.cells.insert(4, new_code_cell("SEEN = []")) or setattr(n.cells[3], "source", "1")
    ),
    "a cell becomes text": lambda n: n.cells.__setitem__(4, new_markdown_cell("SEEN.append(1)")),
    "a check comes earlier": check_up,
    "a check comes after a cell": lambda n: n.cells.insert(place(n, "check_freeze_layers"), n.cells.pop(4)),
    "the code of a solution": lambda n: n.cells[place(n, "freeze_layers")].update(source="def freeze_layers(): 1"),
    "a space": lambda n: n.cells[4].update(source="SEEN.append(1) "),
    "a second copy of a check, which is where it counts": lambda n: n.cells.append(
        again(n.cells[place(n, "check_freeze_layers")])
    ),
    "a cell twice": lambda n: n.cells.insert(4, again(n.cells[4])),
}
NOT_RUN = {
    "text": lambda n: n.cells.insert(0, new_markdown_cell("more")),
    "raw text": lambda n: n.cells.append(new_raw_cell("more")),
    "attachments": lambda n: n.cells[0].update(attachments={"a.png": {"image/png": "iVBORw0KGgo="}}),
    "an empty cell": lambda n: n.cells.insert(4, new_code_cell(" \n")),
    "an experiment": lambda n: n.cells[5].update(source="SEEN.append(3)"),
    "another experiment": lambda n: n.cells.insert(4, new_code_cell("4", metadata=EXPERIMENT)),
    "outputs": lambda n: n.cells[4].update(outputs=[new_output("stream", text="1")], execution_count=7),
    "metadata of the notebook": lambda n: n.metadata.update(kernelspec={"name": "x"}, language_info={"name": "y"}, z=1),
    "metadata of a cell": lambda n: n.cells[4].metadata.update(tags=["x", "y"], slideshow={"slide_type": "skip"}),
    "ids of cells": lambda n: [cell.update(id=f"new-{i}") for i, cell in enumerate(n.cells)],
    "points and locks": lambda n: n.cells[place(n, "check_accuracy")].metadata.nbgrader.update(points=9, locked=False),
    "the text of a check": lambda n: n.cells[place(n, "check_accuracy")].update(source="SEEN = 5"),
    "the reflection": lambda n: n.cells[place(n, "reflection")].update(source="other words"),
}


@pytest.mark.parametrize("change", RUN)
def test_seed_depends_on_executed_code(tmp_path: Path, plain: NotebookNode, release: NotebookNode, change: str) -> None:
    """Every change of what is run, or in which order, changes the seed."""
    assert seed(tmp_path, edit(RUN[change])(plain), release) != seed(tmp_path, plain, release)


@pytest.mark.parametrize("change", NOT_RUN)
def test_seed_ignores_other_content(tmp_path: Path, plain: NotebookNode, release: NotebookNode, change: str) -> None:
    """Content that is not run does not change the seed."""
    assert seed(tmp_path, edit(NOT_RUN[change])(plain), release) == seed(tmp_path, plain, release)


def test_seed_ignores_files_and_names(tmp_path: Path, plain: NotebookNode, release: NotebookNode) -> None:
    """Other files and the name of the notebook do not change the seed."""
    wanted = seed(tmp_path, plain, release)
    (tmp_path / "helper.py").write_text("BITS = 1")
    assert seed(tmp_path, plain, release) == wanted
    assert seed(tmp_path / "other", plain, release, "renamed (2).ipynb") == wanted


def test_seed_cannot_be_encoded(tmp_path: Path, release: NotebookNode) -> None:
    """A notebook cannot encode its own seed in which cells are experiments, or in the positions of checks."""

    def code(bits: list[int]) -> NotebookNode:
        notebook = copy.deepcopy(release)
        own = [new_code_cell(f"BITS.append({i})", metadata={} if i in bits else EXPERIMENT) for i in BITS]
        notebook.cells[:0] = [new_code_cell("BITS = []"), *own, new_code_cell("SEED = sum(1 << i for i in BITS)")]
        return notebook

    known = seed(tmp_path, code([]), release)  # reports state it
    again = code([i for i in BITS if known >> i & 1])
    run: dict[str, int] = {}
    for i, cell in enumerate(again.cells[:65]):
        if i not in skipped_cells(again):
            exec(cell.source, run)
    assert run["SEED"] == known != seed(tmp_path, again, release)

    def places(before: int) -> NotebookNode:
        notebook = copy.deepcopy(release)
        counted = [new_code_cell("N = 0"), *(new_code_cell("N += 1") for _ in range(9))]
        counted.insert(1 + before, notebook.cells.pop(place(notebook, "check_freeze_layers")))
        notebook.cells += counted
        return notebook

    assert len({seed(tmp_path, places(before), release) for before in range(10)}) == 10
