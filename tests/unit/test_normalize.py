"""Cells of a submission are restored to the structure of the release, and answers are found."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.notebooks.normalize import add_notes, normalize
from tests.helpers.damaged_notebooks import NAME, by_id, graded_ids, repaired


def test_normalize_intact_notebook(tmp_path: Path, release: NotebookNode) -> None:
    """An intact notebook is left as it is."""
    submitted = copy.deepcopy(release)
    by_id(submitted, "freeze_layers").source = "mine = 1"
    submitted.cells.insert(3, nbformat.v4.new_code_cell("own = 2"))
    got = repaired(tmp_path, release, submitted)
    assert got.notes == []
    assert [c.source for c in got.notebook.cells] == [c.source for c in submitted.cells]
    assert graded_ids(got.notebook) == graded_ids(release)


def test_normalize_restores_checks_and_points(tmp_path: Path, release: NotebookNode) -> None:
    """Checks, points and flags come from the release."""
    submitted = copy.deepcopy(release)
    cell = by_id(submitted, "check_freeze_layers")
    cell.source, cell.metadata.tags = "20", ["skip-execution"]
    cell.metadata.nbgrader.update(points=100, solution=True, locked=False)
    got = by_id(repaired(tmp_path, release, submitted).notebook, "check_freeze_layers")
    assert got.source == by_id(release, "check_freeze_layers").source
    assert got.metadata == by_id(release, "check_freeze_layers").metadata


def test_normalize_copied_and_deleted_cells(tmp_path: Path, release: NotebookNode) -> None:
    """Copies of graded cells stay as plain cells, and deleted graded cells are restored."""
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


def test_normalize_deleted_solution_cell(tmp_path: Path, release: NotebookNode) -> None:
    """Restoring a deleted solution cell does not overwrite a function that is defined elsewhere."""
    submitted = copy.deepcopy(release)
    submitted.cells.remove(by_id(submitted, "freeze_layers"))
    submitted.cells.insert(2, nbformat.v4.new_code_cell("def freeze_layers(model, n): return model"))
    got = repaired(tmp_path, release, submitted)
    assert "NotImplementedError" not in by_id(got.notebook, "freeze_layers").source


def test_normalize_is_idempotent(tmp_path: Path, release: NotebookNode) -> None:
    """Normalizing the result again adds and removes no cell of the release."""
    (tmp_path / NAME).write_text("nonsense")
    once = normalize(tmp_path / NAME, release).notebook
    nbformat.write(once, tmp_path / NAME)
    twice = normalize(tmp_path / NAME, release).notebook
    assert [c.source for c in twice.cells if "grading-note" not in c.metadata.get("tags", [])] == [
        c.source for c in release.cells
    ]


def bare(notebook: NotebookNode, *, ids: bool = True) -> NotebookNode:
    """Return the notebook as left by a tool that drops all metadata, and possibly ids."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if not ids:
            del cell["id"]
    return notebook


def test_normalize_copied_setup_cell(tmp_path: Path, release: NotebookNode) -> None:
    """A copy of the setup cell does not move it after the cells that need it."""
    submitted = copy.deepcopy(release)
    submitted.cells.append(copy.deepcopy(by_id(release, "setup")))
    got = repaired(tmp_path, release, submitted)
    assert graded_ids(got.notebook) == graded_ids(release)
    assert [c.source for c in got.notebook.cells[1:]] == [c.source for c in release.cells]


def test_normalize_copied_check(tmp_path: Path, release: NotebookNode) -> None:
    """Of several copies of a check the last one counts, where the student last checked the functions."""
    submitted = copy.deepcopy(release)
    submitted.cells.append(copy.deepcopy(by_id(release, "check_freeze_layers")))
    got = repaired(tmp_path, release, submitted).notebook
    assert sorted(graded_ids(got)) == sorted(graded_ids(release))
    assert graded_ids(got)[-1] == "check_freeze_layers"


@pytest.mark.parametrize("grade_id", ["freeze_layers", "reflection"])
def test_normalize_untouched_copy(tmp_path: Path, release: NotebookNode, grade_id: str) -> None:
    """An untouched copy of a cell does not replace the answer."""
    submitted = copy.deepcopy(release)
    by_id(submitted, grade_id).source = "mine"
    submitted.cells.append(copy.deepcopy(by_id(release, grade_id)))
    got = repaired(tmp_path, release, submitted)
    assert by_id(got.notebook, grade_id).source == "mine"
    assert len(got.notebook.cells) == len(release.cells)
    assert got.notes == []


def test_normalize_several_answers(tmp_path: Path, release: NotebookNode) -> None:
    """Of several answers the last one counts, and all of them are run."""
    submitted = copy.deepcopy(release)
    second = copy.deepcopy(by_id(submitted, "freeze_layers"))
    by_id(submitted, "freeze_layers").source = "first"
    second.source = "second"
    submitted.cells.append(second)
    got = repaired(tmp_path, release, submitted)
    assert by_id(got.notebook, "freeze_layers").source == "second"
    (first,) = [c for c in got.notebook.cells if c.source == "first"]
    assert "nbgrader" not in first.metadata
    assert "several cells `freeze_layers`" in got.notes[0]


@pytest.mark.parametrize("ids", [True, False])
def test_lost_metadata(tmp_path: Path, release: NotebookNode, ids: bool) -> None:
    """Cells without metadata, with or without ids, are identified by their content."""
    submitted = copy.deepcopy(release)
    by_id(submitted, "build_transfer_model").source = "def build_transfer_model(backbone, num_classes, n): return 1"
    by_id(submitted, "reflection").source = by_id(release, "reflection").source.replace("YOUR ANSWER HERE", "4 points")
    sources = {grade_id: by_id(submitted, grade_id).source for grade_id in graded_ids(submitted)}
    got = repaired(tmp_path, release, bare(submitted, ids=ids))
    assert graded_ids(got.notebook) == graded_ids(release)
    assert {grade_id: by_id(got.notebook, grade_id).source for grade_id in sources} == sources
    assert "identified by their content" in got.notes[0]
    assert len(got.notes) == 1
    experiments = [c.source for c in release.cells if "experiment" in c.metadata.get("tags", [])]
    assert [c.source for c in got.notebook.cells if "experiment" in c.metadata.get("tags", [])] == experiments


def test_answer_identified_by_heading(tmp_path: Path, release: NotebookNode) -> None:
    """Without metadata, an answer is identified by the heading before it."""
    submitted = copy.deepcopy(release)
    by_id(submitted, "reflection").source = "Transfer gave me ten points more."
    got = repaired(tmp_path, release, bare(submitted, ids=False))
    assert by_id(got.notebook, "reflection").source == "Transfer gave me ten points more."


def test_answer_identified_by_function(tmp_path: Path, release: NotebookNode) -> None:
    """A retyped cell is identified by the function that it defines."""
    submitted = copy.deepcopy(release)
    submitted.cells.remove(by_id(submitted, "freeze_layers"))
    submitted.cells.insert(2, nbformat.v4.new_code_cell("def freeze_layers(model, n): return model"))
    got = repaired(tmp_path, release, submitted)
    assert by_id(got.notebook, "freeze_layers").source.endswith("return model")


def test_normalize_restores_cell_types(tmp_path: Path, release: NotebookNode) -> None:
    """The types of graded cells come from the release."""
    submitted = copy.deepcopy(release)
    for grade_id, kind in [("freeze_layers", "markdown"), ("reflection", "raw"), ("check_accuracy", "raw")]:
        cell = by_id(submitted, grade_id)
        cell.cell_type, cell.source = kind, f"my {grade_id}"
    got = repaired(tmp_path, release, submitted).notebook
    kinds = [by_id(got, grade_id).cell_type for grade_id in ("freeze_layers", "reflection", "check_accuracy")]
    assert kinds == ["code", "markdown", "code"]
    assert by_id(got, "freeze_layers").source == "my freeze_layers"
    assert by_id(got, "reflection").source == "my reflection"


def experiments(notebook: NotebookNode) -> set[str]:
    return {c.source for c in notebook.cells if "experiment" in c.metadata.get("tags", [])}


def test_experiment_tags(tmp_path: Path, release: NotebookNode) -> None:
    """The release decides which of its cells are experiments; students can tag only the cells that they add."""
    submitted = copy.deepcopy(release)
    plain = next(c for c in submitted.cells if c.cell_type == "code" and not c.metadata)
    plain.metadata.tags = by_id(submitted, "freeze_layers").metadata.tags = ["experiment"]
    untagged, tagged = (nbformat.v4.new_code_cell(text) for text in ("new_1", "new_2"))
    tagged.metadata.tags = ["experiment", "skip-execution"]
    submitted.cells += [untagged, tagged]
    first = next(c for c in submitted.cells if "experiment" in c.metadata.get("tags", []) and c.id.startswith("cell-"))
    first.metadata.tags = []
    got = repaired(tmp_path, release, submitted).notebook
    assert experiments(got) == experiments(release) | {"new_2"}
    assert all(c.metadata.get("tags", []) in ([], ["experiment"]) for c in got.cells)


def test_note_tag_on_graded_cells(tmp_path: Path, release: NotebookNode) -> None:
    """The tag of grading notes does not hide a graded cell."""
    submitted = copy.deepcopy(release)
    for cell in submitted.cells:
        cell.metadata.tags = ["grading-note"]
    by_id(submitted, "reflection").source = by_id(submitted, "freeze_layers").source = "mine"
    got = repaired(tmp_path, release, submitted)
    assert by_id(got.notebook, "reflection").source == by_id(got.notebook, "freeze_layers").source == "mine"


def test_notes_name_restored_locked_cells(tmp_path: Path, release: NotebookNode) -> None:
    """Locked cells that were changed, turned into text or deleted are restored, and a note names each of them."""
    submitted = copy.deepcopy(release)
    by_id(submitted, "check_freeze_layers").source += "\nassert True"
    by_id(submitted, "check_accuracy").source += "  \n"  # nobody sees this
    submitted.cells.remove(by_id(submitted, "check_build_transfer_model"))
    check = by_id(submitted, "check_train_with_early_stopping")
    check.cell_type = "markdown"
    del check["outputs"], check["execution_count"]
    got = repaired(tmp_path, release, submitted)
    assert got.notes == [
        "Locked cells were missing; they were added again: `check_build_transfer_model`.",
        "Locked cells had been changed; those of the release replaced them: `check_freeze_layers`, "
        "`check_train_with_early_stopping`.",
    ]
    assert all(note in got.notebook.cells[0].source for note in got.notes)
    assert by_id(got.notebook, "check_freeze_layers").source == by_id(release, "check_freeze_layers").source


@pytest.mark.parametrize("edited", [False, True])
def test_notes_added_after_grading(tmp_path: Path, release: NotebookNode, edited: bool) -> None:
    """Notes on what happened while the notebook ran join those on what was repaired, in one cell at the top."""
    submitted = copy.deepcopy(release)
    if edited:
        submitted.cells.remove(by_id(submitted, "check_accuracy"))
    notebook = repaired(tmp_path, release, submitted).notebook
    add_notes(notebook, [])
    add_notes(notebook, ["One cell failed.", "Another one did."])
    nbformat.validate(notebook)
    notes = [c for c in notebook.cells if "grading-note" in c.metadata.get("tags", [])]
    assert notes == notebook.cells[:1]
    assert notes[0].source.endswith("\n- One cell failed.\n- Another one did.")
    assert notes[0].source.count("**From the grading**") == 1
    assert ("check_accuracy" in notes[0].source) == edited
