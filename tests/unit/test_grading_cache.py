"""The cache of gradings and its keys; the scores in check cells; digests of submitted folders."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from amllab.lab import Lab
from autograder.gradebook.regrading import digest_of
from autograder.grading.cache import CachedGrading, GradingCache, key_of
from autograder.notebooks.metadata import score_of
from tests.conftest import NOTEBOOK

CHECKS = ("check_freeze_layers", "check_build_transfer_model", "check_train_with_early_stopping", "check_accuracy")


def test_cache_write_matching_notebook_only(release: NotebookNode) -> None:
    """A cached grading is written only into a notebook with the same check cells."""
    notebook = copy.deepcopy(release)
    places = {
        str(i): c for i, c in enumerate(notebook.cells) if (c.metadata.get("nbgrader") or {}).get("grade_id") in CHECKS
    }
    result = [new_output("execute_result", data={"text/plain": "7"}, execution_count=1)]
    cells = {i: {"outputs": result, "execution_count": 1} for i in places}
    given = {cell.metadata.nbgrader.grade_id: 7.0 for cell in places.values()}
    graded = CachedGrading(cells, 28, 90, 1.0, [], scores=given)
    graded.write(notebook)
    for wrong in (
        replace(graded, cells={}),
        replace(graded, cells=dict(list(cells.items())[1:])),
        replace(graded, scores=given | {"check_accuracy": 20.0}),
        replace(graded, scores={}),
        replace(graded, cells={str(int(i) + 1): written for i, written in cells.items()}),
        replace(graded, cells=cells | {next(iter(cells)): {"outputs": [], "execution_count": 1}}),
        replace(graded, cells=cells | {next(iter(cells)): {"outputs": 2 * result, "execution_count": 1}}),
    ):
        with pytest.raises(ValueError, match="check cells have"):
            wrong.write(copy.deepcopy(release))


@pytest.mark.parametrize("points", ["20", "-1", "21", "nan", "inf", "'20'", "True", "", "20 points", None])
def test_score_of_cell(release: NotebookNode, points: str | None) -> None:
    """A score is a number between zero and the points of the cell."""
    cell = copy.deepcopy(next(c for c in release.cells if c.get("id") == "check_accuracy"))
    data = {} if points is None else {"text/plain": points}
    cell.outputs = [new_output("display_data", data={"text/plain": "a report"})]
    cell.outputs.append(new_output("execute_result", data=data, execution_count=1))
    assert score_of(cell) == (20 if points == "20" else None)
    cell.outputs.append(new_output("stream", name="stderr", text="careful"))  # nbgrader gives 0 for it
    assert score_of(cell) is None


def test_cache_rejects_damaged_entries(tmp_path: Path) -> None:
    """The cache returns what was stored, and nothing from damaged or foreign entries."""
    kept, graded = GradingCache(tmp_path), CachedGrading({}, 1.0, 2.0, 3.0, [], scores={"check": 1.0})
    kept.put("a", graded)
    assert kept.get("a") == graded
    whole = (tmp_path / "a.json").read_text()
    stored = json.loads(whole)
    (tmp_path / "b.json").write_text(whole)  # of another submission
    damaged = [
        whole.replace('{"check": 1.0}', '{"check": 2.0}'),
        whole[:-9],
        whole.replace('"earned"', '"found"'),
        json.dumps([whole]),
        json.dumps(stored["graded"]),
        json.dumps({**stored, "format": 1}),
        json.dumps({"format": stored["format"], "graded": stored["graded"]}),
        "",
        "[" * 100_000,
    ]
    assert kept.get("b") is None
    for text in damaged:
        (tmp_path / "a.json").write_text(text)
        assert kept.get("a") is None, text[:80]
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.json").mkdir()
    assert kept.get("a") is None


def test_cache_key_cell_order_and_type(lab: Lab) -> None:
    """The cache key depends on the order and the types of cells."""
    a, check, text = new_code_cell("a = 1"), new_code_cell("check()"), new_markdown_cell("text")
    raw = new_raw_cell("text")
    orders = [[a, check, text], [text, a, check], [a, text, check], [a, check], [a, check, raw], [a, check, text, text]]
    keys = [key_of(new_notebook(cells=cells), lab, seed=1) for cells in orders]
    assert len(set(keys)) == len(orders)


def test_cache_key_sources(lab: Lab) -> None:
    """The cache key depends on the code of a submission, and not on its texts."""

    def key(code: str, text: str) -> str:
        return key_of(new_notebook(cells=[new_code_cell(code), new_markdown_cell(text)]), lab, seed=1)

    assert key("a = 1", "text") != key("a = 2", "text")
    assert key("a = 1", "text") == key("a = 1", "other words")


def test_digest_covers_every_file(tmp_path: Path) -> None:
    """The digest of a submission depends on the names and contents of all files except checkpoints."""
    folder = tmp_path / "submitted"
    (folder / "data").mkdir(parents=True)
    (folder / NOTEBOOK).write_text("{}")
    (folder / "data" / "x.csv").write_text("1,2")
    known = {digest_of(folder)}
    changes: list[Callable[[], object]] = [
        lambda: (folder / NOTEBOOK).write_text("{ }"),
        lambda: (folder / "data" / "x.csv").write_text("1,3"),
        lambda: (folder / "timestamp.txt").write_text("2030-01-01"),
        lambda: (folder / "timestamp.txt").write_text("2030-01-02"),
        lambda: (folder / "data" / "x.csv").rename(folder / "x.csv"),
        lambda: (folder / "x.csv").rename(folder / "y.csv"),
        lambda: (folder / "data").rmdir(),
        lambda: (folder / "a").write_text(""),
        lambda: (folder / "timestamp.txt").unlink(),
        lambda: (folder / "caf\udce9.txt").write_text("a name that is no UTF-8"),
        lambda: (folder / "y.csv").chmod(0) or (folder / "b").write_text("y.csv"),
    ]
    for i, change in enumerate(changes, 2):
        change()
        known.add(digest_of(folder))
        assert len(known) == i
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "x").write_text("looked at")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    assert digest_of(folder) in known
