"""``check`` and ``check_all`` in an open notebook: what they say of missing functions and of hidden checks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython
import pytest
import torch
from nbformat import NotebookNode

import amllab
from amllab.checks import exercises, hints, notebook
from amllab.checks.notebook import CheckReport
from amllab.checks.results import CheckResult
from amllab.lab import Lab, all_labs, find_lab
from amllab.worker.environment import SETTINGS
from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.labs.catalog import checks_of
from tests.conftest import ROOT
from tests.helpers.labs import labs_in, write_lab
from tests.unit.test_feedback import html_words


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the variables of an open notebook that has only been started."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(user_ns=found))
    monkeypatch.setattr(hints, "_failed", {})
    # the real function would make this process a notebook, for all tests that follow
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata=None: None)
    return found


def run_cell(variables: dict[str, Any], function: str) -> None:
    """Run the cell of a correct solution."""
    exec(
        "import torch\nfrom torch import nn\nfrom amllab import layers_of, load_backbone\n" + PLAIN[function], variables
    )


def words(report: object) -> str:
    return " ".join(repr(report).split())


def test_check_before_its_cell(variables: dict[str, Any]) -> None:
    """If a function is not defined, the report says which cell to run; a variable of its name is another case."""
    said = words(amllab.check("freeze_layers", lab="transfer_learning"))
    assert "`freeze_layers` is not defined yet: run its cell above first (Exercise 1: freeze layers)" in said
    # an exercise without a function of its own names the one that it needs
    said = words(amllab.check("accuracy", lab="transfer_learning"))
    assert "`build_transfer_model` is not defined yet: run its cell above first (Exercise 2: build the" in said
    variables["freeze_layers"] = 3
    said = words(amllab.check("freeze_layers"))
    assert "is not defined as a function, it is a variable of type `int`: run its cell above again" in said


def test_check_needs_another_exercise(variables: dict[str, Any]) -> None:
    """If a student's function calls one whose cell was not run, the report says which cell that is."""
    variables["freeze_layers"] = eval("lambda model, n_trainable: build_transfer_model('net6', 5, 1)", variables)
    said = words(amllab.check("freeze_layers"))
    assert "`build_transfer_model` is not defined yet: run its cell above first (Exercise 2" in said
    variables["freeze_layers"] = eval("lambda model, n_trainable: my_helper(model)", variables)
    assert "run its cell" not in words(amllab.check("freeze_layers"))


def test_check_while_validating(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is validated has been run: there a missing function is reported as such."""
    monkeypatch.setenv("NBGRADER_VALIDATING", "1")
    with pytest.raises(notebook.ChecksFailedError, match="no function named `freeze_layers`") as error:
        amllab.check("freeze_layers", lab="transfer_learning")
    assert "0 of 10 public points; hidden checks give 10 more" in str(error.value)


def test_check_says_what_hidden_checks_give(variables: dict[str, Any]) -> None:
    """Full points in the public checks are not shown as all points of the exercise."""
    run_cell(variables, "freeze_layers")
    report = amllab.check("freeze_layers")
    total = "10 of 10 public points; hidden checks give 10 more"
    assert repr(report).splitlines()[-1] == total
    assert " ".join(html_words(report._repr_html_())).replace(" ;", ";").startswith(total)


@pytest.mark.parametrize(
    ("hidden", "text"), [(None, "3 of 3 points in these checks"), (0.0, "3 of 3 points in these checks")]
)
def test_report_without_hidden_checks(hidden: float | None, text: str) -> None:
    """Nothing is said of hidden checks if there are none, or if the lab is not released."""
    report = CheckReport([CheckResult("test_x", "Title.", "check_x", 3, "passed")], hidden)
    assert repr(report).splitlines()[-1] == text
    assert "public points" not in report._repr_html_()
    assert ("hidden" in report._repr_html_()) == (hidden is None)


@pytest.mark.parametrize("name", all_labs())
def test_hidden_points_of_exercises(name: str) -> None:
    """The points of hidden checks, as students see them, are those that grading gives."""
    lab = find_lab(name)
    for exercise in exercises.exercises_of(lab):
        checks = [check for check in checks_of(lab) if check.cell == f"check_{exercise.name}"]
        public = [CheckResult(c.function, c.function, c.cell, c.points, "passed") for c in checks if not c.hidden]
        assert exercise.hidden_points(public) == sum(c.points for c in checks if c.hidden)
        assert exercise.heading.startswith("Exercise")


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3}', '{"cells": [3]}', None])
def test_exercises_without_release(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Without a released notebook that can be read, exercises are known by the names of their files."""
    path = tmp_path / "lab.ipynb"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(exercises, "released_notebooks", lambda: {f"{lab.assignment}/{lab.notebook}.ipynb": path})
    found = exercises.exercises_of(lab)
    assert {exercise.name for exercise in found} >= {"accuracy", "freeze_layers"}
    assert {exercise.points for exercise in found} == {None}
    assert found[0].hidden_points([]) is None


def test_check_all(variables: dict[str, Any]) -> None:
    """One table has the public points of all exercises, and what failed first."""
    run_cell(variables, "freeze_layers")
    variables["build_transfer_model"] = lambda backbone, num_classes, n_trainable: torch.nn.Linear(2, num_classes)
    report = amllab.check_all()
    head, *rows, total, advice = repr(report).splitlines()
    assert head == "Transfer learning: public checks"
    names = ["freeze_layers", "build_transfer_model", "train_with_early_stopping", "accuracy"]
    assert [row.split()[1] for row in rows] == names
    assert rows[0].split()[2:] == ["10", "of", "10"]
    assert "The model is returned" in rows[1]
    assert "`train_with_early_stopping` is not defined yet" in rows[2]
    assert total == "10 of 43 public points; hidden checks give 47 more."
    assert advice == 'check("build_transfer_model") explains what failed.'
    html = report._repr_html_()
    shown = html_words(html)
    assert shown.count("✗") == 3
    assert all(word.replace("`", "") in " ".join(shown) for row in rows for word in row.split())


def test_check_all_stays_out_of_grading(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is left in the notebook costs no time in grading and in the preflight."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    report = amllab.check_all(lab="transfer_learning")
    assert report.results == []
    assert "already runs in grading" in repr(report)
    assert "already runs in grading" in report._repr_html_()


def test_check_all_without_public_checks(
    variables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab whose checks are all hidden has no table, and says so."""
    (write_lab(labs_in(tmp_path / "checks", monkeypatch) / "a_second") / "test_other.py").unlink()
    report = amllab.check_all(lab="a_second")
    assert repr(report) == "The lab Second has no public checks."
    assert "has no public checks" in report._repr_html_()


def test_check_all_finds_the_lab(variables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab is the one whose functions the notebook defines; if that is none, it has to be named."""
    write_lab(labs_in(tmp_path / "checks", monkeypatch) / "a_second")
    assert notebook.open_lab(None, {"freeze_layers": len}).name == "transfer_learning"
    assert notebook.open_lab("transfer-learning", {"other": len}).name == "transfer_learning"
    assert notebook.open_lab(None, {"other": len}).name == "a_second"
    with pytest.raises(LookupError, match=r"pass lab=, one of \['a_second', 'transfer_learning'\]"):
        amllab.check_all()
    with pytest.raises(LookupError, match="no lab 'x'"):
        amllab.check_all(lab="x")


def test_check_outside_of_notebooks() -> None:
    """Outside of notebooks, the error names the function that was called."""
    for function, name in ((lambda: amllab.check("freeze_layers"), "check"), (amllab.check_all, "check_all")):
        with pytest.raises(RuntimeError, match=rf"^{name}\(\) inspects"):
            function()


IMPORTS = "\n".join(
    ["import sys, warnings", "import ipykernel.zmqshell", "sys.modules['ipywidgets'] = None  # not installed", ""]
)


@pytest.mark.parametrize(
    ("code", "warned"),
    [
        pytest.param("import amllab, timm, tqdm.auto", False, marks=pytest.mark.slow),
        ("import tqdm.auto", True),  # shows that the first one tests it
    ],
)
def test_imports_without_widgets(code: str, warned: bool) -> None:
    """In a notebook without ipywidgets, importing the library says nothing about progress bars."""
    other = "\nfrom tqdm.std import TqdmWarning\nwarnings.warn('another', TqdmWarning)"
    done = subprocess.run([sys.executable, "-c", IMPORTS + code + other], capture_output=True, text=True, check=True)
    assert ("IProgress not found" in done.stderr) == warned
    assert "another" in done.stderr


def test_first_cell_of_the_notebook(release: NotebookNode) -> None:
    """The first cell of a notebook prints no warning where the library is installed with what it requires.

    The cell imports timm before the library, so that no filter of the library is in force.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(requirement.startswith("ipywidgets") for requirement in project["dependencies"])
    (setup,) = [c.source for c in release.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "setup"]
    code = f"import ipykernel.zmqshell\n{setup}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_hints_open_after_failures(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second failed run in a row on, each run opens one more hint; a missing function does not count."""
    shown: list[str] = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data", lambda data, metadata=None: shown.append(data["text/markdown"])
    )

    def after(runs: int) -> list[str]:
        shown.clear()
        for _ in range(runs):
            amllab.check("freeze_layers", lab="transfer_learning")
        return [" ".join(re.findall("<details open>.*?Hint [0-9]", text)) for text in shown]

    assert after(3) == []  # not defined yet
    variables["freeze_layers"] = lambda model, n_trainable: model
    opened = [f"<details open><summary><b>Hint {number}" for number in (1, 2, 3, 3)]
    assert after(5) == opened
    assert shown[0].count("<details") == 1
    assert shown[-1].count("<details") == 3
    run_cell(variables, "freeze_layers")
    assert after(1) == []
    variables["freeze_layers"] = lambda model, n_trainable: model
    assert after(2) == opened[:1]


@pytest.mark.parametrize("name", all_labs())
def test_exercises_have_their_hints(name: str) -> None:
    """Every hint that a notebook folds away belongs to one exercise, with its whole text."""
    lab = find_lab(name)
    release = (ROOT / "assignments" / lab.assignment / f"{lab.notebook}.ipynb").read_text(encoding="utf-8")
    found = [hint for exercise in exercises.exercises_of(lab) for hint in exercise.hints]
    assert len(found) == len(set(found)) == release.count("<summary><b>Hint")
    assert all(title.startswith("<b>Hint ") and text and "<" + "/details>" not in text for title, text in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<details>\n<summary>A</summary>\n\nx\n</details>", [("A", "x")]),
        ("<details open><summary>A</summary>\nx\n</details>", [("A", "x")]),
        ("<DETAILS><summary>A</summary>\n\nx\n</DETAILS>", [("A", "x")]),
        ("<details><summary>A</summary>x</details>", [("A", "x")]),
        ("<details><summary>A</summary>\n\n<details><summary>B</summary>\n\nx\n</details>\n\n</details>", [("B", "x")]),
        ("<details><summary>A</summary>\n\n</details>", []),
        ("<details><summary>A</summary>x", []),
    ],
)
def test_forms_of_hints(text: str, found: list[tuple[str, str]]) -> None:
    """A fold is a hint however it is written, unless it is empty or has another fold in it."""
    assert [(title, hint.strip()) for title, hint in exercises._HINT.findall(text)] == found
