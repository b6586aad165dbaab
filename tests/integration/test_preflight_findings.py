"""What the preflight finds in a notebook without running it: missing, changed and unfinished parts."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from nbformat import NotebookNode

import amllab
from amllab.lab import released_notebooks
from amllab.preflight import document
from amllab.preflight import inspections as looks
from amllab.preflight.__main__ import main
from amllab.preflight.document import Document, UnusableNotebookError, find_notebook, is_stub, read
from amllab.preflight.inspections import inspect_cells, inspect_functions, unanswered
from autograder.grading.worker import Worker
from autograder.notebooks.metadata import skipped_cells
from autograder.notebooks.normalize import normalize
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, examples
from tests.helpers.preflight_findings import SOLUTION, cell_of, plain, texts


def test_preflight_uses_release() -> None:
    """The preflight compares with the release of the checkout; tests of bundle and packages cover the wheels."""
    assert released_notebooks()[f"{ASSIGNMENT}/{NOTEBOOK}"] == ROOT / "assignments" / ASSIGNMENT / NOTEBOOK


def predicted(notebook: NotebookNode) -> list[NotebookNode]:
    """Write down all predictions of a notebook, and return their cells."""
    cells = [cell for cell in notebook.cells if "prediction" in cell.metadata.get("tags", [])]
    for cell in cells:
        cell.source += " 60 %, I think"
    return cells


def test_preflight_finished_no_findings(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """A finished notebook has no findings."""
    predicted(solution)
    assert inspect_cells(saved(solution)) == []


def test_preflight_predictions(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Predictions that are not written down are a note, with the headings where they are."""
    released = len(predicted(copy.deepcopy(solution)))
    (note,) = texts(inspect_cells(saved(solution)), "note")
    assert note.startswith(f"None of the {released} predictions is written down: under “")
    cells = predicted(solution)
    cells[0].source = cells[0].source.removesuffix(" 60 %, I think") + "\n\n*YOUR ANSWER HERE*"
    cells[1].source = "about 30 %"  # in place of the question
    cells[2].source += "\n\nin a paragraph of its own"
    solution.cells.remove(cells[3])
    (note,) = texts(inspect_cells(saved(solution)), "note")
    assert note.startswith(f"2 of {released} predictions are not written down: under “")
    cells[0].source += " 60 %"
    (note,) = texts(inspect_cells(document := saved(solution)), "note")
    assert note.startswith(f"1 of {released} predictions is not written down: under “")
    document.release = [cell for cell in document.release if cell.cell_id == cells[3].id]
    (note,) = texts(inspect_cells(document), "note")
    assert note.startswith("The prediction is not written down: under “")
    assert texts(inspect_cells(saved(solution))) == []


# what students and their tools do to a cell
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "metadata": lambda cell: cell.update(metadata={}),
    "tags": lambda cell: cell["metadata"].pop("tags", None),
    "id": lambda cell: cell.pop("id", None),
    "kind": lambda cell: cell.update(cell_type="markdown" if cell["cell_type"] == "code" else "code"),
    "experiment": lambda cell: cell["metadata"].update(tags=["experiment"]),
    "note": lambda cell: cell["metadata"].update(tags=["grading-note"]),
    "text": lambda cell: cell.update(source=["x = 1\n", *cell["source"]]),
    "all text": lambda cell: cell.update(source=["Mine"]),
    "headings": lambda cell: cell.update(source=[re.sub("^#+ ", "# My ", line) for line in cell["source"]]),
}
GRADED = [i for i, cell in enumerate(nbformat.read(SOLUTION, as_version=4).cells) if "nbgrader" in cell.metadata]
STEP = st.tuples(
    st.sampled_from(["one", "all", "copy", "move", "delete"]),
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from(GRADED) | st.integers(0, 99),
    st.integers(0, 99),
)


def damage(cells: list[dict[str, Any]], action: str, change: str, at: int, to: int) -> None:
    at %= len(cells)
    if action == "copy":
        cells.insert(to, copy.deepcopy(cells[at]))
    elif action in ("move", "delete"):
        moved = cells.pop(at)
        cells[to:to] = [moved] if action == "move" else []
    for cell in cells if action == "all" else cells[at : at + 1]:
        CHANGES[change](cell)


@settings(
    max_examples=examples(400),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(STEP, max_size=8))
@example([("one", "all text", 48, 0), ("all", "metadata", 0, 0), ("all", "id", 0, 0)])  # only the heading identifies it
def test_preflight_runs_same_cells_as_grading(
    release: NotebookNode, tmp_path: Path, steps: list[tuple[str, str, int, int]]
) -> None:
    """However a notebook was changed, the preflight runs and checks the same cells as grading."""
    notebook = json.loads(SOLUTION.read_text(encoding="utf-8"))
    for step in steps:
        damage(notebook["cells"], *step)
    (tmp_path / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    try:
        looked = read(tmp_path / NOTEBOOK)
    except UnusableNotebookError:
        reject()  # nothing is left that identifies the lab
    repaired = normalize(tmp_path / NOTEBOOK, release).notebook
    worker = Worker(looked.lab, repaired, skipped_cells(repaired))
    assert [cell.source for cell in looked.to_run()] == worker.cells
    assert [cell.source for cell in looked.experiments()] == worker.not_run
    assert list(looked.checks().items()) == list(worker._above.items())
    sources = {cell.metadata.nbgrader.grade_id: cell.source for cell in repaired.cells if "nbgrader" in cell.metadata}
    assert {grade_id: place.cell.source for grade_id, place in looked.graded.items()} == sources


def test_preflight_duplicate_check_cells(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Of two check cells the last counts; a missing one is restored after its exercise."""
    for place, grade_id in ((2, "check_accuracy"), (3, "check_freeze_layers"), (90, "check_build_transfer_model")):
        check = copy.deepcopy(cell_of(solution, grade_id))
        check.id += "-copy"
        solution.cells.insert(place, check)
    solution.cells.remove(cell_of(solution, "check_train_with_early_stopping"))
    assert saved(solution).checks() == {
        "check_freeze_layers": 4,
        "check_train_with_early_stopping": 7,
        "check_accuracy": 7,
        "check_build_transfer_model": 7,
    }


def test_preflight_untouched_release(release: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """The untouched release lacks all answers, experiments and functions."""
    looked = saved(release)
    reflection, experiments = texts(inspect_cells(looked))
    assert "“1. What did transfer give?”, “2. How many layers?”, “3. Overfitting”" in reflection
    assert experiments.startswith("All 15 experiments were not run")
    stubs = texts(inspect_functions(looked, looked.functions()))
    assert [text.split()[0] for text in stubs] == [f"`{name}`" for name in looked.functions()]
    assert len(looked.functions()) == 3


def test_preflight_unanswered_questions(release: NotebookNode) -> None:
    """Unanswered questions of the reflection are named."""
    text = cell_of(release, "reflection").source
    first = text.replace("YOUR ANSWER HERE", "It gave 12 points.", 1)
    assert unanswered(first, text) == ["2. How many layers?", "3. Overfitting"]
    assert unanswered(first.replace("YOUR ANSWER HERE", ""), text) == ["2. How many layers?", "3. Overfitting"]
    assert unanswered(text.replace("YOUR ANSWER HERE", "It gave 12 points."), text) == []
    assert unanswered("An essay of my own, without the questions.", text) == []
    assert len(unanswered("", text)) == 3


# released answer cells of other labs, and the questions in them that a message can name
OTHER_LABS = {
    "YOUR ANSWER HERE": [],
    "YOUR ANSWER HERE\n\n*At most five lines.*": [],
    "Write here what you think.": [],  # a course with another placeholder
    "What does the loss say of\nthe temperature?\n\nYOUR ANSWER HERE": ["What does the loss say of the temperature?"],
    "# A\nWhy?\n\nYOUR ANSWER HERE\n\n# B\nHow?\n\nYOUR ANSWER HERE": ["A Why?", "B How?"],
}


@pytest.mark.parametrize("released", OTHER_LABS)
@pytest.mark.parametrize("kind", ["markdown", "code"])
def test_preflight_answer_of_other_lab(
    release: NotebookNode, saved: Callable[[NotebookNode], Document], released: str, kind: str
) -> None:
    """An answer cell that still has the text of the release is named, whatever that text is."""

    def found(source: str) -> list[str]:
        looked = saved(release)
        cells = [cell for cell in looked.release if cell.grade_id == "reflection"]
        for cell in (*cells, looked.graded["reflection"].submitted):
            assert cell is not None
            cell.kind, cell.source = kind, source if cell not in cells else released
        return [text for text in texts(inspect_cells(looked)) if "reflection" in text and "experiments" not in text]

    nothing = [
        released,
        "",
        " \n",
        f"\n{released}  \n\n",
        released.replace("YOUR ANSWER HERE", ""),
        "**YOUR ANSWER HERE**",
    ]
    for source in nothing:
        (text,) = found(source)
        assert text.startswith("The reflection has no answer yet")
        assert all(question in text for question in OTHER_LABS[released])
    answer = "At 1 the first choice, at 10 the others too."
    for source in (answer, released.replace("YOUR ANSWER HERE", answer), f"YOUR ANSWER HERE: {answer}"):
        assert source == released or found(source) == []
    if released.count("YOUR ANSWER HERE") == 2:
        (text,) = found(released.replace("YOUR ANSWER HERE", answer, 1))
        assert "no answer yet to “B How?” (" in text


def test_preflight_changed_and_missing_cells(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Changed, missing and duplicate cells are reported."""
    cell_of(solution, "check_freeze_layers").source += "  # again"
    solution.cells.remove(cell_of(solution, "setup"))
    solution.cells.remove(cell_of(solution, "reflection"))
    solution.cells.append(copy.deepcopy(cell_of(solution, "freeze_layers")))
    solution.cells[-1].id = "copy"
    ran = [cell for cell in solution.cells if "experiment" in cell.metadata.get("tags", [])]
    ran[3].outputs, ran[3].execution_count = [], None
    solution.cells.remove(ran[4])
    findings = inspect_cells(saved(solution))
    assert [text.split(".")[0] for text in texts(findings)[:3]] == [
        "The locked cell `setup` is missing",
        "The locked cell `check_freeze_layers` was changed",
        "The cell of the reflection is missing (10 points)",
    ]
    assert [text.split(":")[0] for text in texts(findings)[3:]] == [
        "1 of 15 experiments were not run, or their outputs were removed",
        "1 of 15 experiments are missing",
    ]
    assert texts(findings, "note")[0].startswith("There are 2 cells `freeze_layers`")


def test_preflight_lost_metadata(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Cells without metadata and ids are recognised by their content."""
    predicted(solution)
    for i, cell in enumerate(solution.cells):
        cell.metadata.clear()
        cell.id = f"other-{i}"
    looked = saved(solution)
    assert inspect_cells(looked) == []
    assert all(place.submitted and place.is_by_content for place in looked.graded.values())


def test_preflight_renamed_function(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """A renamed function is reported with the expected name."""
    cell = cell_of(solution, "freeze_layers")
    cell.source = cell.source.replace("def freeze_layers", "def freeze")
    (text,) = texts(inspect_functions(saved(solution), {"build_transfer_model", "train_with_early_stopping"}))
    assert text.endswith("Its cell defines `freeze`: the name must be `freeze_layers`.")


def test_is_stub() -> None:
    """A function is a stub if it only raises NotImplementedError."""
    assert is_stub('def f(x):\n    """Doc."""\n    # YOUR CODE HERE\n    raise NotImplementedError()', "f")
    assert is_stub("def f(x): raise NotImplementedError", "f")
    assert not is_stub("def f(x):\n    raise ValueError", "f")
    assert not is_stub("def f(x):\n    if x: raise NotImplementedError\n    return x", "f")
    assert not is_stub("def f(:", "f")


def test_preflight_too_large(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Code or outputs beyond the size limits of grading are reported."""
    solution.cells.append(nbformat.v4.new_code_cell("weights = '" + "0" * 200_000 + "'"))
    (text,) = texts(inspect_cells(saved(solution)))
    assert "more than 200 kB cannot be graded" in text
    output = nbformat.v4.new_output("stream", text="x" * 10_100_000)
    solution.cells[-1] = nbformat.v4.new_code_cell("print(x)", outputs=[output])
    large = inspect_cells(saved(solution))
    assert texts(large) == []
    assert "at most 10 MB of them, those of experiments first" in texts(large, "note")[0]
    output.text *= 5
    assert "more than 50 MB cannot be graded" in texts(inspect_cells(saved(solution)))[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"def freeze_layers(): ...", "not valid JSON"),
        (b"[]", "no list of cells"),
        (b'{"worksheets": []}', "no list of cells"),
        (b'{"cells": [{"cell_type": "code", "source": ["x = 1"]}]}', "not a notebook of a lab"),
    ],
)
def test_preflight_bad_files(content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are not a notebook of a lab are reported with the reason."""
    file = tmp_path / "work.ipynb"
    file.write_bytes(content)
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("preflight: work.ipynb is not a notebook")
    report = amllab.preflight(file)
    assert not report.is_ready
    assert says in plain(report)
    assert repr(report) == report.problem


def test_find_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solution: NotebookNode) -> None:
    """The notebook is found from the session, the editor or the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with pytest.raises(UnusableNotebookError, match="working directory: none"):
        find_notebook(None, {})
    with pytest.raises(UnusableNotebookError, match=r"no file absent\.ipynb"):
        find_notebook(Path("absent.ipynb"), {})
    nbformat.write(solution, tmp_path / "mine.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "other.ipynb")
    assert find_notebook(None, {}) == tmp_path / "mine.ipynb"
    assert texts(looks._name(read(tmp_path / "mine.ipynb")), "note") == [
        f"The file is named `mine.ipynb`: submit it as `{NOTEBOOK}`."
    ]
    nbformat.write(solution, tmp_path / NOTEBOOK)
    with pytest.raises(UnusableNotebookError, match=rf"mine\.ipynb, {NOTEBOOK}\. Pass one"):
        find_notebook(None, {})
    assert find_notebook(None, {"__vsc_ipynb_file__": str(tmp_path / "mine.ipynb")}) == tmp_path / "mine.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / NOTEBOOK))
    assert find_notebook(None, {"In": []}) == tmp_path / NOTEBOOK


def test_preflight_lab_without_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook of a lab without a release is not recognised."""
    monkeypatch.setattr(document, "released_notebooks", dict)
    with pytest.raises(UnusableNotebookError, match="is not a notebook of a lab"):
        read(SOLUTION)
