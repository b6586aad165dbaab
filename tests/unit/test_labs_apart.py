"""Labs are independent: a mistake in one lab, or a change to it, does not affect the others."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from amllab.checks import notebook
from amllab.lab import Lab, all_labs, find_lab
from amllab.preflight import document
from amllab.preflight.document import UnusableNotebookError, read
from autograder import cli
from autograder.errors import SettingsError
from autograder.grading import session, trial_run
from autograder.labs import catalog
from autograder.labs.settings import load_lab
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT
from tests.helpers.labs import SETTINGS, labs_in, write_lab

BROKEN = {
    "half written": ('title = "Second"\nnoteb', "not valid TOML"),
    "empty": ("", "key 'title' is missing"),
    "without limits": ('title = "Second"\nnotebook = "second"\n', "key 'limits' is missing"),
    "of another kind": ('title = "Second"\nnotebook = "second"\nlimits = 3\n', "limits must be a table"),
    "a number as title": (SETTINGS.replace('"Second"', "2"), "title must be text in quotes"),
    "not UTF-8": (SETTINGS.replace("Second", "Zw\xf6lf").encode("latin-1"), "not text in UTF-8"),
    "deep": ("a = " + "[" * 100_000, "not valid TOML"),
    "a folder": (None, "cannot be read: Is a directory"),
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A second lab with broken settings, before lab 1 in the alphabet; return what its error says."""
    text, expected = BROKEN[request.param]
    write_lab(labs_in(tmp_path / "checks", monkeypatch) / "a_second", text)
    return expected


def test_settings_of_another_lab_broken(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken settings of a lab are reported only where this lab is used."""
    assert all_labs() == ["a_second", "transfer_learning"]
    assert find_lab(ASSIGNMENT) == load_lab(ASSIGNMENT)
    with pytest.raises(ValueError, match=rf"^a_second/lab\.toml: {broken}"):
        find_lab("a-second")
    with pytest.raises(SettingsError, match=r"^a_second/lab\.toml"):
        load_lab("a-second")

    assert notebook._find("freeze_layers", None, {})[0].name == "transfer_learning"
    with pytest.raises(ValueError, match=r"a_second/lab\.toml"):
        notebook._find("other", None, {})
    with pytest.raises(ValueError, match=r"a_second/lab\.toml"):
        notebook._find("freeze_layers", "a-second", {})
    with pytest.raises(LookupError, match=r"no exercise 'x'; there are: .*freeze_layers, other"):
        notebook._find("x", None, {})


def test_exercise_of_two_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If several labs have the same exercise, the functions of the notebook decide which one is meant."""
    folder = write_lab(labs_in(tmp_path / "checks", monkeypatch) / "a_second")
    (folder / "test_accuracy.py").write_text("")
    assert notebook._find("accuracy", None, {"freeze_layers": len, "other": 3})[0].name == "transfer_learning"
    assert notebook._find("accuracy", None, {"other": len})[0].name == "a_second"
    assert notebook._find("accuracy", "a-second", {"freeze_layers": len})[0].name == "a_second"
    for namespace in ({}, {"other": len, "freeze_layers": len}):
        with pytest.raises(LookupError, match=r"pass lab=, one of \['a_second', 'transfer_learning'\]"):
            notebook._find("accuracy", None, namespace)


def test_trial_another_lab_broken(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial of ``autograder doctor`` takes the first lab that can be used."""
    used: list[str] = []

    def worker(lab: Lab, *arguments: Any, **more: Any) -> Any:
        used.append(lab.name)
        return nullcontext()

    monkeypatch.setattr(trial_run, "Worker", worker)
    cell = new_code_cell("1")
    assert trial_run._run(cell, Any) is None
    assert used == ["transfer_learning"]


def test_preflight_another_lab_broken(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight finds the lab of a notebook whatever the settings and releases of other labs are."""
    released = tmp_path / "releases" / "a-second" / "second.ipynb"
    released.parent.mkdir(parents=True)
    own = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK
    paths = {f"{ASSIGNMENT}/{NOTEBOOK}": own, "a-second/second.ipynb": released}
    monkeypatch.setattr(document, "released_notebooks", lambda: paths)
    for damaged in ("", "{", '{"cells": 3}'):
        released.write_text(damaged)
        assert read(own).lab.name == "transfer_learning"

    graded = {"cell_type": "code", "source": "", "metadata": {"nbgrader": {"grade_id": "check_other", "grade": True}}}
    released.write_text(json.dumps({"cells": [graded]}))
    shutil.copy(released, tmp_path / "mine.ipynb")
    with pytest.raises(UnusableNotebookError, match=r"mine.ipynb belongs to the lab a_second, whose .*lab.toml"):
        read(tmp_path / "mine.ipynb")
    (tmp_path / "none.ipynb").write_text('{"cells": []}')
    with pytest.raises(
        UnusableNotebookError, match=r"Transfer learning .* the lab a_second cannot be read: .*lab.toml"
    ):
        read(tmp_path / "none.ipynb")


def test_catalog_another_lab_broken(broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page of checks has the labs that can be read, and the others are named."""
    assert catalog.main(tmp_path / "checks.md") == 1
    assert (tmp_path / "checks.md").read_text() == catalog.page([find_lab(ASSIGNMENT)])
    assert capsys.readouterr().err.startswith("left out: a_second/lab.toml: ")


def test_trial_without_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A course without labs gets a finding from the trial of ``autograder doctor``, and no traceback."""
    monkeypatch.setattr(trial_run, "all_labs", list)
    found = trial_run.trial()
    assert not found.works
    assert "there is no lab" in found.detail


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second lab with a release, next to lab 1; return the folder for notebooks."""
    write_lab(labs_in(tmp_path / "checks", monkeypatch) / "second")
    cells = [new_code_cell("def other(): pass", metadata={"nbgrader": {"grade_id": "other", "solution": True}})]
    cells += [new_code_cell("", metadata={"nbgrader": {"grade_id": "check_other", "grade": True}})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "release.ipynb")
    own = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK
    paths = {f"{ASSIGNMENT}/{NOTEBOOK}": own, "second/second.ipynb": tmp_path / "release.ipynb"}
    monkeypatch.setattr(document, "released_notebooks", lambda: paths)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    return tmp_path


class Session:
    """A stand-in for a grading session that notes what it is asked to grade."""

    graded: ClassVar[list[tuple[str, str]]] = []
    launcher = SimpleNamespace(isolates=True)

    def __init__(self, lab: str) -> None:
        self.lab = lab

    @classmethod
    def of_course(cls, course: Any, lab: str, isolation: str) -> Session:
        return cls(lab)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def grade(self, notebook: Path, seed: int | None) -> Any:
        self.graded.append((self.lab, notebook.name))
        return SimpleNamespace(as_dict=lambda: {"notebook": notebook.name})


def test_grade_each_notebook_by_its_lab(
    second: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notebooks of two labs are graded each by its own lab, whatever their names; others need ``--lab``."""
    monkeypatch.setattr(session, "GradingSession", Session)
    monkeypatch.setattr(Session, "graded", [])
    shutil.copy(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, "ada.ipynb")
    shutil.copy("release.ipynb", NOTEBOOK)  # by a student who chose the wrong name
    shutil.copy("release.ipynb", "second (1).ipynb")
    Path("second.ipynb").write_text("damaged")
    names = ["ada.ipynb", NOTEBOOK, "second (1).ipynb", "second.ipynb"]
    assert cli.main(["grade", "--json", *names]) == 0
    assert json.loads(capsys.readouterr().out) == [{"notebook": name} for name in names]
    assert Session.graded == list(zip(["transfer_learning", "second", "second", "second"], names, strict=True))

    Session.graded.clear()
    Path("damaged.ipynb").write_text("damaged")
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1")]), "other.ipynb")
    for name in ("damaged.ipynb", "other.ipynb"):
        assert cli.main(["grade", "ada.ipynb", name]) == 2
        said = capsys.readouterr().err
        assert f"cannot tell the lab of {name}: add --lab with one of second, transfer_learning" in said
    assert Session.graded == []
    assert cli.main(["grade", "--json", "--lab", "second", "damaged.ipynb", "ada.ipynb"]) == 0
    assert {lab for lab, _ in Session.graded} == {"second"}


def test_grade_next_to_broken_lab(
    second: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lab whose settings cannot be read does not stop grading of another one, and is named where it matters."""
    monkeypatch.setattr(session, "GradingSession", Session)
    monkeypatch.setattr(Session, "graded", [])
    (second / "checks" / "second" / "lab.toml").write_text("title = ")
    shutil.copy(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, "ada.ipynb")
    Path(NOTEBOOK).write_text("damaged")
    assert cli.main(["grade", "--json", "ada.ipynb", NOTEBOOK]) == 0
    assert Session.graded == [("transfer_learning", "ada.ipynb"), ("transfer_learning", NOTEBOOK)]
    Path("damaged.ipynb").write_text("damaged")
    assert cli.main(["grade", "damaged.ipynb"]) == 2
    assert "second/lab.toml: not valid TOML" in capsys.readouterr().err
