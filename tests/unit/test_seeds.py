"""The code of a submission is everything that is run, and nothing else that a student can vary; seeds of rounds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

from autograder.gradebook.rounds import Rounds
from autograder.gradebook.seeds import Seeds, code_of, seed_of
from autograder.labs.corpus import Solution
from autograder.notebooks.metadata import skipped_cells
from autograder.notebooks.normalize import normalize
from tests.conftest import NOTEBOOK
from tests.helpers.notebooks import notebook_of

EXPERIMENT = {"tags": ["experiment"]}
BITS = range(63)


def code(folder: Path, notebook: NotebookNode, release: NotebookNode, name: str = NOTEBOOK) -> str:
    """Return the digest by which a submission keeps its seed, from the normalized file."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)
    found = code_of("mallory", normalize(folder / NOTEBOOK, release).notebook)
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
def test_code_is_what_is_run(tmp_path: Path, plain: NotebookNode, release: NotebookNode, change: str) -> None:
    """Every change of what is run, or in which order, makes it other code."""
    assert code(tmp_path, edit(RUN[change])(plain), release) != code(tmp_path, plain, release)


@pytest.mark.parametrize("change", NOT_RUN)
def test_code_ignores_other_content(tmp_path: Path, plain: NotebookNode, release: NotebookNode, change: str) -> None:
    """With other content that is not run, it is the same code."""
    assert code(tmp_path, edit(NOT_RUN[change])(plain), release) == code(tmp_path, plain, release)


def test_code_ignores_files_and_names(tmp_path: Path, plain: NotebookNode, release: NotebookNode) -> None:
    """With other files, or another name of the notebook, it is the same code."""
    wanted = code(tmp_path, plain, release)
    (tmp_path / "helper.py").write_text("BITS = 1")
    assert code(tmp_path, plain, release) == wanted
    assert code(tmp_path / "other", plain, release, "renamed (2).ipynb") == wanted


def test_seed_cannot_be_encoded(tmp_path: Path, release: NotebookNode) -> None:
    """A notebook cannot encode the seed of a report in which cells are experiments, or in the positions of checks."""

    def encoded(bits: list[int]) -> NotebookNode:
        notebook = copy.deepcopy(release)
        own = [new_code_cell(f"BITS.append({i})", metadata={} if i in bits else EXPERIMENT) for i in BITS]
        notebook.cells[:0] = [new_code_cell("BITS = []"), *own, new_code_cell("SEED = sum(1 << i for i in BITS)")]
        return notebook

    known = seed_of("secret of the course", 1)  # reports state it
    graded = code(tmp_path, encoded([]), release)
    seeds = Seeds(seed_of("secret of the course", 2), {graded: known})
    again = encoded([i for i in BITS if known >> i & 1])
    run: dict[str, int] = {}
    for i, cell in enumerate(again.cells[:65]):
        if i not in skipped_cells(again):
            exec(cell.source, run)
    assert run["SEED"] == known != seeds.of("mallory", again)
    assert seeds.of("mallory", encoded([])) == known

    def places(before: int) -> NotebookNode:
        notebook = copy.deepcopy(release)
        counted = [new_code_cell("N = 0"), *(new_code_cell("N += 1") for _ in range(9))]
        counted.insert(1 + before, notebook.cells.pop(place(notebook, "check_freeze_layers")))
        notebook.cells += counted
        return notebook

    assert len({code(tmp_path, places(before), release) for before in range(10)}) == 10


def test_seeds_of_rounds(tmp_path: Path, plain: NotebookNode) -> None:
    """A round has one seed. After it, only code that was graded in it keeps it, and only for the same student."""
    place = f"sqlite:///{tmp_path}/gradebook.db"
    first = Rounds(place, "secret")
    assert first.seeds.of("alice", plain) == first.seeds.of("bob", plain) == seed_of("secret", 1)
    first.record(code_of("alice", plain))
    second = Rounds(place, "secret")
    assert second.seeds == first.seeds, "nobody has seen the seed yet"
    assert not second.end(seed_of("secret", 2)), "it was not in feedback"
    assert second.end(first.seeds.current)
    second.end(first.seeds.current)  # the next page
    other = edit(RUN["a space"])(plain)
    later = Rounds(place, "secret")
    assert later.number == 2
    assert Rounds(place, "other assignment").number == 1
    assert later.seeds.of("alice", plain) == seed_of("secret", 1)
    assert later.seeds.of("bob", plain) == later.seeds.of("alice", other) == seed_of("secret", 2)
    later.record(code_of("alice", plain))
    later.record(code_of("alice", other))
    second.record(code_of("alice", other))  # by a run that began before the round ended
    assert not later.end(first.seeds.current), "feedback is generated again"
    assert not Rounds(place, "other assignment").end(), "nothing was graded in it"
    assert Rounds(place, "secret").number == 2
    assert later.end(later.seeds.current)
    last = Rounds(place, "secret").seeds
    assert [last.of("alice", notebook) for notebook in (plain, other)] == [seed_of("secret", 1), seed_of("secret", 2)]
    assert len({seed_of("secret", number) for number in range(1, 9)} | {seed_of("other", 1)}) == 9
