"""Files of a submission never run because a command is run in its folder, nor those that another account planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amllab.course_folder import CONFIG, TRUSTED
from autograder.course import Course
from tests.conftest import ROOT, autograder_cli
from tests.helpers.course_labs import forgotten_course

PLAIN = "c = get_config()\n"
OTHER = 12345  # an account that does not exist


@pytest.fixture(autouse=True)
def no_course_is_remembered() -> Iterator[None]:
    with forgotten_course():
        yield


def hostile(folder: Path) -> str:
    """Return a program that tells that it ran."""
    return f"import pathlib\npathlib.Path({str(folder / 'ran')!r}).touch()\n"


def planted(course: Path, folder: str) -> Path:
    """Plant a configuration, and return its folder."""
    place = course / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / CONFIG).write_text(hostile(course) + PLAIN)
    return place


def a_course(root: Path, more: str = "") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / CONFIG).write_text(f"{PLAIN}{more}")
    return root


@pytest.mark.parametrize(
    "folder",
    [
        "submitted/ada/lab",
        "submitted/ada",
        "submitted",
        "submitted/ada/lab/a/b",
        "downloaded/lab/archive",
        "downloaded/lab/extracted/ada",
        "autograded/ada/lab",
        "feedback/ada/lab",
        "attempts/lab/ada/1",
        "Abgaben/ada/lab",
        "zips/in/ada/lab",
    ],
)
def test_configurations_of_submissions_are_not_used(
    tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Commands in the folder of a submission, and below it, use the course, and name the file that they do not use."""
    names = "c.CourseDirectory.submitted_directory = 'Abgaben'\nc.ZipCollectApp.downloaded_directory = './zips/in'\n"
    course = a_course(tmp_path / "course", names)
    place = planted(course, folder)
    (place / "labs" / "public" / "own").mkdir(parents=True)
    for start in (place, place / "labs" / "public"):
        assert Course.find(start).root == course
    assert not (course / "ran").exists()
    assert "AMLLAB_LABS" not in os.environ
    assert f"{place / CONFIG} is not used, as it came with a submission: the course is {course}" in caplog.text


def test_linked_folders_of_submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of submissions that is a link to another place is one, whichever way a person went there."""
    course, elsewhere = a_course(tmp_path / "course"), tmp_path / "disk" / "2026"
    elsewhere.mkdir(parents=True)
    (course / "submitted").symlink_to(elsewhere)
    planted(course, "submitted/ada/lab")
    (course / "here").symlink_to(elsewhere / "ada")
    monkeypatch.chdir(course / "submitted" / "ada" / "lab")
    monkeypatch.setenv("PWD", str(course / "submitted" / "ada" / "lab"))
    assert Course.find().root == course
    monkeypatch.setenv("PWD", "/")
    assert Course.find(course / "submitted" / "ada" / "lab").root == course
    assert not (course / "ran").exists()


def test_submission_without_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a course, a message says what is not used, and how to use it after all."""
    place = planted(tmp_path, "submitted/ada/lab")
    unused = "is not used, as it came with a submission. If that is a course, run 'export AMLLAB_TRUSTED=FOLDER'"
    with pytest.raises(FileNotFoundError, match=re.escape(unused)):
        Course.find(place)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv(TRUSTED, str(place))
    assert Course.find(place).root == place
    assert (tmp_path / "ran").exists()


def test_course_in_a_course(tmp_path: Path) -> None:
    """A course made in the folder of another one, such as a clone of the repository, is a course of its own."""
    a_course(tmp_path)
    a_course(tmp_path / "my-course")
    for more in ("", "c.CourseDirectory.root = '.'\n", f"c.CourseDirectory.root = {str(tmp_path / 'my-course')!r}\n"):
        (tmp_path / "my-course" / CONFIG).write_text(f"{PLAIN}{more}")
        found = Course.find(tmp_path / "my-course")
        assert found.root == tmp_path / "my-course"
        assert found.directories["submitted_directory"] == found.root / "submitted"
        assert found.db_url == f"sqlite:///{found.root}/gradebook.db"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
@pytest.mark.parametrize("what", [[CONFIG], [""], [CONFIG, ""]])
def test_configuration_of_another_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: list[str]) -> None:
    """A course of another account runs nothing until a person says so; that of the account behind sudo does."""
    place = planted(tmp_path, "course")
    (place / "labs" / "public").mkdir(parents=True)
    for name in what:
        os.chown(place / name, OTHER, OTHER)
    with pytest.raises(ValueError, match=f"belongs to the account {OTHER}.*export {TRUSTED}={place}"):
        Course.find(place / "labs")
    done = autograder_cli(place, "scores", "lab")
    assert done.returncode == 2
    assert f"belongs to the account {OTHER}" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert "AMLLAB_LABS" not in os.environ
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    assert Course.find(place).root == place
    monkeypatch.setenv("SUDO_UID", "")
    monkeypatch.setenv(TRUSTED, f"/nowhere{os.pathsep}{place}")
    assert Course.find(place).root == place
    assert (tmp_path / "ran").exists()


def test_configuration_that_everybody_can_plant(tmp_path: Path) -> None:
    """An outer configuration of another account does not make folders of a course those of submissions."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another account")
    (tmp_path / CONFIG).write_text("c.CourseDirectory.submitted_directory = 'course'\n")
    os.chown(tmp_path / CONFIG, OTHER, OTHER)
    assert Course.find(a_course(tmp_path / "course")).root == tmp_path / "course"


def test_modules_in_the_working_directory(tmp_path: Path) -> None:
    """``python -m autograder`` does not load modules of the working directory, nor do labs of a submission count."""
    place = planted(a_course(tmp_path / "course"), "submitted/ada/lab")
    public = place / "labs" / "public" / "own"
    public.mkdir(parents=True)
    (public / "lab.toml").write_text("title = 'x'\n")
    for name in ("click", "numpy", "nbgrader", "amllab", "torch", "sitecustomize", "usercustomize"):
        (place / f"{name}.py").write_text(hostile(tmp_path))
    look = (
        "import runpy, sys\ntry:\n    runpy.run_module('autograder', run_name='__main__', alter_sys=True)\nfinally:\n"
    )
    look += "    from amllab.lab import course_labs; print(course_labs(), 'amllab' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PWD": str(place)}
    for command in (["-m", "autograder", "--version"], ["-c", look, "--version"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert "autograder, version" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "None True"
    assert not (tmp_path / "ran").exists()
