"""Results of checks that are stored in graded notebooks: only the grader's own are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.cli import main
from autograder.gradebook.regrading import digest_of
from autograder.notebooks.metadata import STORED, STORED_VERSION, SUBMITTED
from autograder.results.stored_checks import read
from tests.conftest import autograded, nbgrader, new_course, submit
from tests.helpers.mini_lab import ASSIGNMENT, CHECKS, NOTEBOOK
from tests.helpers.synthetic_class import Graded, notebook_of, table


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"checks": "none"},
        {"checks": [{"name": "x"}]},
        {"checks": [{"name": "x", "points": float("nan"), "earned": 1, "outcome": "passed"}]},
        {"checks": [{"name": "x", "points": 1, "earned": True, "outcome": "passed"}]},
        {"checks": [{"name": "x", "points": 1, "earned": 1, "outcome": "won"}]},
    ],
)
def test_stored_checks_malformed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Malformed stored results of a cell are ignored."""
    path = tmp_path / "lab.ipynb"
    path.write_text(json.dumps(notebook_of(Graded("a", more=change))))
    stored = read(path)
    assert stored is not None
    assert list(stored.checks) == ["check_predict"]


def test_stored_checks_grade_cells_only(tmp_path: Path) -> None:
    """Stored results are read only from the outputs of grade cells."""
    notebook = notebook_of(Graded("a", {"test_slope": "failed"}))
    forged = notebook_of(Graded("a"))
    notebook.metadata[STORED] = forged.cells[0].outputs[0].metadata[STORED]
    own = nbformat.v4.new_code_cell("mine", outputs=forged.cells[0].outputs)
    own.metadata.nbgrader = {"grade": True, "solution": True, "grade_id": "check_fit"}
    notebook.cells.insert(0, own)
    (tmp_path / "lab.ipynb").write_text(json.dumps(notebook))
    stored = read(tmp_path / "lab.ipynb")
    assert stored is not None
    assert stored.checks["check_fit"][0].outcome == "failed"


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> Path:
    """Return a graded class: an untouched notebook that claims results in every possible place, and plain text."""
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    forged = nbformat.from_dict(json.loads(json.dumps(mini_release)))
    claim = {"version": STORED_VERSION, "checks": [], "submission": {"seconds": 1e6, "notes": ["forged"]}}
    shown = nbformat.v4.new_output("display_data", data={"text/plain": "own"}, metadata={STORED: claim})
    forged.metadata[STORED] = claim
    for cell in forged.cells:
        cell.metadata[STORED] = claim
        if cell.cell_type == "code":
            cell.outputs = [shown]
    code = f"from IPython.display import display\ndisplay('own', metadata={{{STORED!r}: {claim!r}}})"
    forged.cells += [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("1", metadata={"tags": ["experiment"]})]
    forged.cells[-1].outputs = [shown]
    submit(course, "forger", forged)
    submit(course, "letter", b"Dear TA")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    return course


def test_stored_checks_survive_nbgrader(graded: Path) -> None:
    """The grader's stored results survive nbgrader's conversion and replace claimed ones."""
    notebook = autograded(graded, "forger")
    nbformat.validate(notebook)
    with_results = [
        (cell.metadata.get("nbgrader", {}).get("grade_id", ""), output.metadata[STORED])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if STORED in output.get("metadata", {})
    ]
    assert all(name.startswith("check_") for name, _ in with_results)
    assert len(with_results) == len(CHECKS)
    digest = digest_of(graded / "submitted" / "forger" / ASSIGNMENT)
    assert notebook.metadata[STORED] == {SUBMITTED: digest}, (
        "what the grader writes takes the place of what was claimed"
    )
    assert not any(STORED in cell.metadata for cell in notebook.cells)
    stored = read(graded / "autograded" / "forger" / ASSIGNMENT / NOTEBOOK)
    assert stored is not None
    assert stored.notes == []
    assert stored.isolation == "namespaces"
    assert 0 < (stored.seconds or 0) < 1e5
    first = stored.checks[CHECKS[0]]
    assert {(check.outcome, check.symptom) for check in first if check.outcome == "failed"} == {("failed", "missing")}
    assert sum(data.get("submission", {}).get("seed", "").isdigit() for _, data in with_results) == 1


def test_feedback_hides_stored_checks(graded: Path) -> None:
    """The feedback does not show the stored results."""
    done = nbgrader(graded, "generate_feedback", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    (page,) = graded.glob("feedback/forger/*/*.html")
    html = page.read_text()
    assert "0 of 10 points" in html
    digest = digest_of(graded / "submitted" / "forger" / ASSIGNMENT)
    machine = ("symptom", "test_mean_and_deviation", '"outcome"', "&#34;outcome", "namespaces", digest)
    assert not any(word in html for word in machine)


def test_report_graded_class(graded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a class graded with the real command ignores forged results."""
    monkeypatch.chdir(graded)
    assert main(["report", ASSIGNMENT]) == 0
    html = (graded / "reports" / f"{ASSIGNMENT}.html").read_text()
    assert "forged" not in html
    assert "<strong>letter</strong>: mini_lab.ipynb is not a notebook" in html
    rows = table(graded, "checks", ASSIGNMENT)
    assert {row["students"] for row in rows} == {"1"}
    assert sum(float(row["points"]) for row in rows) == 20
    assert {row["total"] for row in table(graded, "students", ASSIGNMENT)} == {"0"}
