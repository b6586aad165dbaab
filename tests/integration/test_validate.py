"""``nbgrader validate`` and the Validate button show the report of ``check``."""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.apps import NbGraderApp
from nbgrader.server_extensions.validate_assignment.handlers import ValidateAssignmentHandler
from nbgrader.validator import Validator
from traitlets.config import Config

from autograder.labs.corpus import Solution
from tests.conftest import forked
from tests.helpers import mini_lab
from tests.helpers.mini_lab import CHECKS, PLAIN, RIGHT, submission
from tests.helpers.preflight_findings import cell_of

SUCCESS = "Success! Your notebook passes all the tests."


def only(notebook: NotebookNode, check: str) -> NotebookNode:
    """Return the notebook with its first cell and the check of one exercise."""
    short = copy.deepcopy(notebook)
    names = ("setup", check)
    short.cells = [cell for cell in short.cells if (cell.metadata.get("nbgrader") or {}).get("grade_id") in names]
    return short


@dataclass
class Validated:
    """What students see.

    Attributes:
        right: what the command prints for a correct notebook.
        wrong: the same for one with a wrong function and a stub.
        log: of the command.
        button: answer of the Validate button to a notebook without a function.
        executed: outputs of a check's cell in a notebook that is executed for another purpose.
    """

    right: str
    wrong: str
    log: str
    button: dict[str, Any]
    executed: list[dict[str, Any]]


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> Validated:
    """Validate all notebooks in one process, with kernels that are forked from one that has loaded PyTorch."""
    folder = tmp_path_factory.mktemp("validate")
    wrong = copy.deepcopy(mini_release)  # the other function is a stub
    cell_of(wrong, "standardise").source = PLAIN["standardise"].replace("dim=0", "dim=1, keepdim=True")
    notebooks = {
        "right": submission(RIGHT, mini_release),
        "wrong": wrong,
        "missing": only(submission(Solution("missing", {**PLAIN, "rescale": ""}), mini_release), CHECKS[1]),
    }
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")

    def run() -> None:
        mini_lab.register(pytest.MonkeyPatch())
        Validator.stream = sys.stdout
        with suppress(SystemExit):
            NbGraderApp.launch_instance(["validate", "--Execute.timeout=300", "right.ipynb", "wrong.ipynb"])
        server = SimpleNamespace(root_dir=str(folder), load_config=Config, log=logging.getLogger())
        answer = ValidateAssignmentHandler.validate_notebook(server, "missing.ipynb")
        executed = only(mini_release, CHECKS[0])
        NotebookClient(executed, resources={"metadata": {"path": str(folder)}}).execute()
        (folder / "answers.json").write_text(json.dumps([answer, executed.cells[-1].outputs]))

    done = forked(folder, run, {"JUPYTER_DEFAULT_PROVISIONER_NAME": "amllab-warm"})
    assert done.returncode == 0, done.stderr
    said = re.split(r"(?=VALIDATION FAILED)", done.stdout)
    return Validated(*said, done.stderr, *json.loads((folder / "answers.json").read_text()))


def test_validate_correct_passes(validated: Validated) -> None:
    """Correct work passes without a warning."""
    assert SUCCESS in validated.right
    assert "cannot be converted" not in validated.log


def test_validate_wrong_shows_check_report(validated: Validated) -> None:
    """Wrong work fails with the uncut report of ``check``."""
    said = " ".join(validated.wrong.split())
    assert SUCCESS not in said
    assert "means 0, 0, 0 and standard deviations 1, 1, 1" in said
    assert "expected" in said
    assert "seen" in said
    assert not [line for line in validated.wrong.splitlines() if line.endswith("...")]  # nothing is cut
    assert "Traceback" not in said
    assert "run_checks" not in said


def test_validate_fails_every_cell(validated: Validated) -> None:
    """Each cell without full points fails: a wrong function, a stub, and a question without an answer."""
    said = " ".join(validated.wrong.split())
    assert "VALIDATION FAILED ON 3 CELL(S)!" in said
    assert said.count("The following cell failed") == 3
    assert "still the stub" in said


def test_validate_button(validated: Validated) -> None:
    """The Validate button shows the same report."""
    assert validated.button["success"]
    (failed,) = validated.button["value"]["failed"]
    assert "no function named `rescale`" in " ".join(failed["raw_error"].split())


def test_check_raises_only_in_validate(validated: Validated) -> None:
    """If a notebook is executed for another purpose, such as the solution, the report is the result."""
    (output,) = validated.executed
    assert output["output_type"] == "execute_result"
    assert "0 of" in output["data"]["text/plain"]
