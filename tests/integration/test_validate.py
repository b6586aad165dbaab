"""``nbgrader validate`` and the Validate button show the report of ``check``."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.server_extensions.validate_assignment.handlers import ValidateAssignmentHandler
from traitlets.config import Config

from autograder.checks.transfer_learning.corpus import FREEZE
from autograder.labs.corpus import Solution
from tests.conftest import NOTEBOOK, nbgrader_command
from tests.helpers.notebooks import notebook_of

SUCCESS = "Success! Your notebook passes all the tests."
# exercises whose checks do not train
SHORT = ("check_freeze_layers", "check_build_transfer_model")


def shortened(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook without experiments and without the cells that train."""
    short = copy.deepcopy(notebook)
    short.cells = [
        cell
        for cell in short.cells
        if "experiment" not in cell.metadata.get("tags", [])
        and not (cell.metadata.get("nbgrader") or {}).get("grade_id", "").startswith(("check_train", "check_acc"))
    ]
    return short


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> dict[str, str]:
    """Return what the command prints for a correct notebook, a wrong one and a stub."""
    folder = tmp_path_factory.mktemp("validate")
    inverted = FREEZE.replace("index >= cut", "index < cut")
    notebooks = {
        "right": notebook_of(Solution("right"), release),
        "wrong": notebook_of(Solution("wrong", sources={"freeze_layers": inverted}), release),
        "stub": release,
    }
    found = {}
    for name, notebook in notebooks.items():
        nbformat.write(shortened(notebook), folder / f"{name}.ipynb")
        done = nbgrader_command(folder, "validate", "--Execute.timeout=300", f"{name}.ipynb")
        assert done.returncode == 0, done.stderr
        found[name] = done.stdout
        found[f"log of {name}"] = done.stderr
    return found


def test_validate_correct_passes(validated: dict[str, str]) -> None:
    """Correct work passes without a warning."""
    assert SUCCESS in validated["right"]
    assert "cannot be converted" not in validated["log of right"]


def test_validate_wrong_shows_check_report(validated: dict[str, str]) -> None:
    """Wrong work fails with the uncut report of ``check``."""
    said = " ".join(validated["wrong"].split())
    assert SUCCESS not in said
    assert "VALIDATION FAILED ON 1 CELL(S)!" in said
    assert "last `n_trainable` layers" in said
    assert "expected" in said
    assert "seen" in said
    assert not [line for line in validated["wrong"].splitlines() if line.endswith("...")]  # nothing is cut
    assert "Traceback" not in said
    assert "run_checks" not in said


def test_validate_stub_fails_every_cell(validated: dict[str, str]) -> None:
    """An untouched stub fails in every graded cell."""
    said = " ".join(validated["stub"].split())
    assert "VALIDATION FAILED ON 3 CELL(S)!" in said  # with the reflection
    assert said.count("still the stub") >= 2


def test_validate_button(tmp_path: Path, release: NotebookNode) -> None:
    """The Validate button shows the same report."""
    notebook = shortened(notebook_of(Solution("missing", sources={"build_transfer_model": ""}), release))
    notebook.cells = [
        c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") in ("setup", SHORT[1])
    ]
    nbformat.write(notebook, tmp_path / NOTEBOOK)
    server = SimpleNamespace(root_dir=str(tmp_path), load_config=Config, log=logging.getLogger())
    answer = ValidateAssignmentHandler.validate_notebook(server, NOTEBOOK)
    assert answer["success"]
    (failed,) = answer["value"]["failed"]
    assert "no function named `build_transfer_model`" in " ".join(failed["raw_error"].split())


def test_check_raises_only_in_validate(tmp_path: Path, release: NotebookNode) -> None:
    """If a notebook is executed for another purpose, such as the solution, the report is the result."""
    notebook = shortened(release)
    notebook.cells = [
        c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") in ("setup", SHORT[0])
    ]
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[-1].outputs
    assert output.output_type == "execute_result"
    assert "0 of" in output.data["text/plain"]
