"""Whatever is handed in comes out in the release's shape."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode

from autograder.repair import clean_outputs, repair

NAME = "transfer_learning.ipynb"


def graded_ids(notebook: NotebookNode) -> list[str]:
    return [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]


def by_id(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    (cell,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id]
    return cell


def repaired(tmp_path: Path, release: NotebookNode, notebook: NotebookNode):
    (tmp_path / NAME).write_text(json.dumps(notebook))
    return repair(tmp_path / NAME, release)


def test_an_intact_notebook_keeps_everything(tmp_path: Path, release: NotebookNode) -> None:
    submitted = copy.deepcopy(release)
    by_id(submitted, "freeze_layers").source = "mine = 1"
    submitted.cells.insert(3, nbformat.v4.new_code_cell("own = 2"))
    got = repaired(tmp_path, release, submitted)
    assert got.notes == []
    assert [c.source for c in got.notebook.cells] == [c.source for c in submitted.cells]
    assert graded_ids(got.notebook) == graded_ids(release)


def test_checks_points_and_flags_are_the_releases(tmp_path: Path, release: NotebookNode) -> None:
    submitted = copy.deepcopy(release)
    cell = by_id(submitted, "check_freeze_layers")
    cell.source, cell.metadata.tags = "20", ["skip-execution"]
    cell.metadata.nbgrader.update(points=100, solution=True, locked=False)
    got = by_id(repaired(tmp_path, release, submitted).notebook, "check_freeze_layers")
    assert got.source == by_id(release, "check_freeze_layers").source
    assert got.metadata == by_id(release, "check_freeze_layers").metadata


def test_copied_and_deleted_cells(tmp_path: Path, release: NotebookNode) -> None:
    submitted = copy.deepcopy(release)
    check = by_id(submitted, "check_freeze_layers")
    solution = by_id(submitted, "freeze_layers")
    solution.source = "first = 1"
    second = copy.deepcopy(solution)
    second.source = "second = 2"
    submitted.cells += [copy.deepcopy(check), second]
    submitted.cells.remove(by_id(submitted, "check_accuracy"))
    submitted.cells.remove(by_id(submitted, "reflection"))
    got = repaired(tmp_path, release, submitted)
    assert sorted(graded_ids(got.notebook)) == sorted(graded_ids(release))
    assert {"first = 1", "second = 2"} <= {c.source for c in got.notebook.cells}
    assert any("reflection" in note for note in got.notes)


def test_a_deleted_solution_cell_does_not_undo_a_function_defined_elsewhere(
    tmp_path: Path, release: NotebookNode
) -> None:
    submitted = copy.deepcopy(release)
    submitted.cells.remove(by_id(submitted, "freeze_layers"))
    submitted.cells.insert(2, nbformat.v4.new_code_cell("def freeze_layers(model, n): return model"))
    got = repaired(tmp_path, release, submitted)
    assert "NotImplementedError" not in by_id(got.notebook, "freeze_layers").source


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"import torch", "not valid JSON"),
        (b"\x80\x81\xff\x00", "not text"),
        (b"[1, 2]", "not of a notebook"),
        (b"{}", "not of a notebook"),
        (b'{"nbformat": 4}', "damaged"),
        (b'{"nbformat": 4, "cells": [3]}', "damaged"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
    ],
)
def test_unreadable_files_become_the_release_with_a_note(
    tmp_path: Path, release: NotebookNode, data: bytes, says: str
) -> None:
    (tmp_path / NAME).write_bytes(data)
    got = repair(tmp_path / NAME, release)
    assert len(got.notes) == 1
    assert re.search(says, got.notes[0]), got.notes
    assert graded_ids(got.notebook) == graded_ids(release)
    assert got.notes[0] in got.notebook.cells[0].source


def test_missing_and_renamed_notebooks(tmp_path: Path, release: NotebookNode) -> None:
    assert "the folder is empty" in repair(tmp_path / NAME, release).notes[0]
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    assert "report.pdf" in repair(tmp_path / NAME, release).notes[0]
    submitted = copy.deepcopy(release)
    by_id(submitted, "freeze_layers").source = "mine = 1"
    nbformat.write(submitted, tmp_path / "transfer_learning (1).ipynb")
    got = repair(tmp_path / NAME, release)
    assert "transfer_learning (1).ipynb" in got.notes[0]
    assert by_id(got.notebook, "freeze_layers").source == "mine = 1"


def test_old_notebook_format(tmp_path: Path, release: NotebookNode) -> None:
    nbformat.write(nbformat.convert(copy.deepcopy(release), 3), tmp_path / NAME, version=3)
    got = repair(tmp_path / NAME, release)
    assert graded_ids(got.notebook) == graded_ids(release)


def test_repair_is_idempotent(tmp_path: Path, release: NotebookNode) -> None:
    (tmp_path / NAME).write_text("nonsense")
    once = repair(tmp_path / NAME, release).notebook
    nbformat.write(once, tmp_path / NAME)
    twice = repair(tmp_path / NAME, release).notebook
    assert [c.source for c in twice.cells if "grading-note" not in c.metadata.get("tags", [])] == [
        c.source for c in release.cells
    ]


def test_outputs_keep_text_and_pictures_only() -> None:
    data = {"text/html": "<script>1</script>", "application/javascript": "1", "text/plain": "x", "image/png": "AA=="}
    outputs = [
        {"output_type": "display_data", "data": data, "metadata": {}},
        {"output_type": "stream", "name": "stdout", "text": ["a", "b"]},
        {"output_type": "display_data", "data": {"text/html": "<b>"}, "metadata": {}},
        {"nonsense": 1},
    ]
    got = clean_outputs(outputs, 10_000)
    assert [o.output_type for o in got] == ["display_data", "stream"]
    assert got[0].data == {"text/plain": "x", "image/png": "AA=="}
    assert clean_outputs([{"output_type": "stream", "name": "stdout", "text": "x" * 99}], 10)[0].text.startswith("...")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda c: (
        st.lists(c, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "metadata", "source", "nbgrader", "tags", "outputs", "grade_id", "cell_type"]),
            c,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=json_values, metadata=json_values)
def test_damaged_notebooks_never_stop_the_batch(
    tmp_path: Path, release: NotebookNode, cells: object, metadata: object
) -> None:
    (tmp_path / NAME).write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells, "metadata": metadata}))
    got = repair(tmp_path / NAME, release)
    assert sorted(graded_ids(got.notebook)) == sorted(graded_ids(release))
