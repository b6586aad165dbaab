"""Labs are apart: a mistake in one lab, or an edit of it, changes nothing for the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from amllab.checks import notebook
from amllab.lab import all_labs, find_lab
from amllab.preflight import document
from amllab.preflight.document import UnusableNotebookError, read
from autograder.errors import SettingsError
from autograder.grading import trial_run
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
    """Broken settings of one lab are named where it is asked for, and nowhere else."""
    assert all_labs() == ["a_second", "transfer_learning"]
    assert find_lab(ASSIGNMENT) == load_lab(ASSIGNMENT)
    with pytest.raises(ValueError, match=rf"^a_second/lab\.toml: {broken}"):
        find_lab("a-second")
    with pytest.raises(SettingsError, match=r"^a_second/lab\.toml"):
        load_lab("a-second")

    assert notebook._find("freeze_layers", None)[0].name == "transfer_learning"
    with pytest.raises(ValueError, match=r"a_second/lab\.toml"):
        notebook._find("other", None)
    with pytest.raises(ValueError, match=r"a_second/lab\.toml"):
        notebook._find("freeze_layers", "a-second")
    with pytest.raises(LookupError, match=r"no exercise 'x'; there are: .*freeze_layers, other"):
        notebook._find("x", None)

    assert trial_run._first_lab() == (find_lab(ASSIGNMENT), broken_line(broken))


def broken_line(expected: str) -> str:
    """Return the line about the broken lab, as ``autograder doctor`` would show it."""
    with pytest.raises(ValueError, match=expected) as info:
        find_lab("a-second")
    return str(info.value)


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
