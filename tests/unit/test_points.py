"""Points of checks add up to those of their cells, and students get none of those of hidden checks."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from nbformat import NotebookNode

from amllab.checks.runner import run_checks
from amllab.lab import Lab, find_lab
from amllab.protocol.submission import InProcessSubmission
from autograder import cli
from autograder.authoring.build import notebook_of
from autograder.errors import SettingsError
from autograder.grading import checked_points, grader
from autograder.grading.checked_points import require_points
from autograder.grading.lab_digest import files_digest
from autograder.labs import locations
from autograder.labs.catalog import checks_of
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.labs.points import check_points, name_problems, point_problems
from autograder.labs.settings import load_lab
from autograder.notebooks.normalize import NormalizedSubmission, read_release
from autograder.sandbox.launcher import Launcher
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader, submit

MASTER = ROOT / "source" / "transfer-learning" / "transfer_learning.py"


def test_points_differ_from_cell() -> None:
    """Checks whose points do not add up to those of their cell are reported."""
    notebook, checks = notebook_of(MASTER), checks_of(find_lab("transfer-learning"))
    assert point_problems(notebook, checks) == []
    dearer = [replace(c, points=c.points + 1) if c.name == "test_thaws" else c for c in checks]
    (problem,) = point_problems(notebook, dearer)
    assert problem == (
        "check_freeze_layers: the cell is worth 20 points in the master text, its checks 21, in "
        "amllab/checks/transfer_learning/test_freeze_layers.py, "
        "autograder/checks/transfer_learning/test_freeze_layers_hidden.py: make both the same"
    )
    elsewhere = [replace(c, cell="check_nothing") if c.cell == "check_accuracy" else c for c in checks]
    without, nowhere = point_problems(notebook, elsewhere)
    assert without == "check_accuracy: the cell is worth 20 points in the master text, but has no check"
    assert nowhere.startswith(
        "check_nothing: checks worth 20 points in amllab/checks/transfer_learning/test_accuracy.py"
    )
    with pytest.raises(SettingsError, match=r"transfer-learning/transfer_learning.py: check_freeze_layers: .* 21, "):
        check_points(find_lab("transfer-learning"), MASTER, notebook, dearer)


def weighted(lab: Lab, **points: float) -> Lab:
    return replace(lab, settings={**lab.settings, "points": points})


def test_points_overridden_by_settings(lab: Lab) -> None:
    """Points in the settings replace those in the check files."""
    other = weighted(lab, test_returns_the_model=3, test_last_layers_are_trainable=3)
    before, after = ({check.name: check.points for check in checks_of(one)} for one in (lab, other))
    assert {name for name in after if after[name] != before[name]} == {
        name for name in before if name.startswith(("test_returns_the_model", "test_last_layers_are_trainable"))
    }
    assert point_problems(notebook_of(MASTER), checks_of(other)) == []
    results = run_checks(other, [lab.folder / "test_freeze_layers.py"], InProcessSubmission(lab.name, {}))
    assert {result.name: result.points for result in results}.items() <= after.items()


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab) -> Path:
    """A copy of the folder of hidden checks, which the grader uses in place of its own."""
    folder = tmp_path / "autograder" / "checks"
    shutil.copytree(HIDDEN_CHECKS / lab.name, folder / lab.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", folder)
    return folder / lab.name


def test_points_of_hidden_checks(lab: Lab, hidden: Path) -> None:
    """Points of hidden checks are read from a file next to them, and lab.toml cannot set any of them."""
    before = {check.name: check.points for check in checks_of(lab)}
    (hidden / "points.toml").write_text("test_thaws = 2.5\ntest_returns_the_model = 9\n")
    for one in (lab, weighted(lab, test_thaws=9)):
        after = {check.name: check.points for check in checks_of(one)}
        assert {name: after[name] for name in after if after[name] != before[name]} == {"test_thaws": 2.5}
    (problem,) = point_problems(notebook_of(MASTER), checks_of(lab))
    assert problem.startswith("check_freeze_layers: the cell is worth 20 points in the master text, its checks ")
    assert name_problems(lab, checks_of(lab)) == [
        "autograder/checks/transfer_learning/points.toml, line 2: test_returns_the_model: is a public check: give it points "
        "in [points] of transfer_learning/lab.toml"
    ]


def test_points_of_hidden_checks_are_graded(lab: Lab, hidden: Path, release: NotebookNode) -> None:
    """A grading uses the points of the file."""
    (hidden / "points.toml").write_text("test_thaws = 0\ntest_every_architecture = 8\n")
    launcher = Launcher("none", hidden)
    found = grader.grade(
        NormalizedSubmission(copy.deepcopy(release), readable=False), lab, InProcessSubmission(lab.name, {}), launcher
    )
    launcher.close()
    worth = {result.name: result.points for result in found.results}
    assert worth == {check.name: check.points for check in checks_of(lab)}
    assert worth["test_thaws"] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("test_thaws = -1", "transfer_learning/points.toml, line 1: test_thaws: must be at least 0, not -1"),
        ('\ntest_thaws = "4"', "transfer_learning/points.toml, line 2: test_thaws: must be a number, not '4'"),
        ("test_thaws = true", "transfer_learning/points.toml, line 1: test_thaws: must be a number, not True"),
        ("test_thaws = nan", "transfer_learning/points.toml, line 1: test_thaws: must be a finite number, not nan"),
        ("[points]\ntest_thaws = 4", "transfer_learning/points.toml, line 1: points: must be a number, not "),
        ("test_thaws 4", "transfer_learning/points.toml: not valid TOML: "),
    ],
)
def test_points_file_with_mistake(lab: Lab, hidden: Path, text: str, says: str) -> None:
    """A mistake in the file is reported with its line, before anything is built or graded."""
    (hidden / "points.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load_lab(lab.name)
    assert str(error.value).startswith(says)


def test_points_of_unknown_check(lab: Lab, tmp_path: Path, hidden: Path) -> None:
    """The message for points of an unknown or hidden check names a similar one, or the file for it."""
    given = {"test_thaws": 4, "test_returns_the_modle": 4, "test_nothing": 1}
    lines = "".join(f"{name} = {value}\n" for name, value in given.items())
    text = (lab.folder / "lab.toml").read_text() + "[points]\n" + lines
    (tmp_path / "lab.toml").write_text(text)
    (hidden / "points.toml").write_text("test_thawz = 4\n")
    other = replace(weighted(lab, **given), folder=tmp_path)
    with pytest.raises(SettingsError) as error:
        check_points(other, MASTER, notebook_of(MASTER), checks_of(lab))
    line = text[: text.index("test_thaws")].count("\n") + 1
    file = "transfer_learning/lab.toml, line "
    assert str(error.value).splitlines() == [
        f"{file}{line + 2}: points.test_nothing: there is no such check",
        f"{file}{line + 1}: points.test_returns_the_modle: there is no such check; did you mean test_returns_the_model?",
        f"{file}{line}: points.test_thaws: is a hidden check, and students get this file: give it points in "
        "autograder/checks/transfer_learning/points.toml",
        "autograder/checks/transfer_learning/points.toml, line 1: test_thawz: there is no such check; did you mean test_thaws?",
    ]


def test_time_limit_of_unknown_cell(lab: Lab, tmp_path: Path) -> None:
    """A time limit for an unknown check cell is reported with its line, and with the cell that may be meant."""
    text = (lab.folder / "lab.toml").read_text()
    assert "check_accuracy = " in text
    (tmp_path / "lab.toml").write_text(text.replace("check_accuracy = ", "check_acuracy = "))
    with pytest.raises(SettingsError) as error:
        check_points(replace(lab, folder=tmp_path), MASTER, notebook_of(MASTER), checks_of(lab))
    line = text[: text.index("check_accuracy = ")].count("\n") + 1
    assert str(error.value) == (
        f"transfer_learning/lab.toml, line {line}: limits.answer_seconds_at.check_acuracy: there is no such check cell; "
        "did you mean check_accuracy?"
    )


def test_points_mismatch_stops_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is built if points do not add up."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    folder = tmp_path / "source" / "transfer-learning"
    folder.mkdir(parents=True)
    text = MASTER.read_text()
    assert text.count('"points": 30') == 1
    (folder / MASTER.name).write_text(text.replace('"points": 30', '"points": 31'))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["build", "transfer-learning"]) == 2
    said = capsys.readouterr().err
    assert "check_train_with_early_stopping: the cell is worth 31 points in the master text, its checks 30, in" in said
    assert [path.name for path in folder.iterdir()] == [MASTER.name]


def test_points_mismatch_stops_autograde(course: Path, hidden: Path) -> None:
    """Nothing is graded if points do not add up, since everybody would lose some."""
    (hidden / "points.toml").write_text("test_thaws = 3\n")
    submit(course, "ada", b"Dear TA")
    files_digest.cache_clear()  # a process reads these files once
    done = nbgrader(course, "autograde", ASSIGNMENT)
    files_digest.cache_clear()
    assert done.returncode == 1
    assert (
        "Nothing was graded: transfer-learning/transfer_learning.ipynb: check_freeze_layers: the cell is worth 20 "
        in done.stderr
    )
    assert not (course / "autograded").exists()


def test_points_are_compared_once(lab: Lab, tmp_path: Path, hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The points of the same checks and cells are compared once; after any change, and if they were wrong, again."""
    compared: list[str] = []
    monkeypatch.setattr(checked_points, "checks_of", lambda lab: compared.append(lab.name) or checks_of(lab))
    path, folder = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, tmp_path / ".graded"
    release = read_release(path)
    for _ in range(2):
        require_points(lab, path, release, folder)
    assert len(compared) == 1
    cell = next(cell for cell in release.cells if cell.metadata.get("nbgrader", {}).get("points") == 20)
    cell.metadata.nbgrader.points = 21
    for expected in (2, 3):
        with pytest.raises(SettingsError, match="worth 21 points"):
            require_points(lab, path, release, folder)
        assert len(compared) == expected
    cell.metadata.nbgrader.points = 20
    other = replace(lab, settings={**lab.settings, "points": {"test_returns_the_model": 9}})
    with pytest.raises(SettingsError, match="its checks"):
        require_points(other, path, release, folder)
    next(folder.iterdir()).write_bytes(b"\xff damaged")
    require_points(lab, path, release, folder)
    assert len(compared) == 5
