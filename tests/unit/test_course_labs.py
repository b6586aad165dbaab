"""The labs of a course are found in its folder, before shipped ones, by everything that looks for labs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import amllab.checks
import amllab.lab
import autograder.checks
from amllab.lab import all_labs, find_lab, public_checks, released_notebooks, use_course
from autograder.authoring.leak_check import find_leaks
from autograder.authoring.new_course import new_course
from autograder.authoring.new_lab import new_lab
from autograder.course import Course
from autograder.exports.gradescope.package import _package_files
from autograder.labs.locations import hidden_checks, hidden_name
from autograder.labs.settings import load_lab
from autograder.sandbox.file_system import visible_paths
from tests.conftest import ASSIGNMENT, ROOT, sampled
from tests.helpers.course_labs import forgotten_course

LAB = "transfer_learning"
OTHER = "self-supervised-learning"


@pytest.fixture
def course(tmp_path: Path) -> Iterator[Course]:
    """A course with lab 1 and a lab of its own, which this process has found."""
    with forgotten_course():
        new_course(tmp_path / "c", [ASSIGNMENT])
        course = Course.find(tmp_path / "c")
        new_lab(course, "own-lab")
        yield course


def test_labs_of_the_course_come_first(course: Course) -> None:
    """A lab of the course takes the place of the shipped one; other shipped labs are still there."""
    labs = course.root / "labs"
    assert {"own_lab", LAB, "meta_learning"} <= set(all_labs())
    assert find_lab(ASSIGNMENT).folder == public_checks(LAB) == labs / "public" / LAB
    assert hidden_checks("own_lab") == labs / "hidden" / "own_lab"
    assert hidden_name(LAB, "points.toml") == f"labs/hidden/{LAB}/points.toml"
    assert find_lab("meta-learning").folder == ROOT / "amllab" / "checks" / "meta_learning"
    assert hidden_name("meta_learning", "points.toml") == "autograder/checks/meta_learning/points.toml"
    assert amllab.checks.__path__[0] == str(labs / "public")
    assert autograder.checks.__path__[0] == str(labs / "hidden")
    assert os.environ["AMLLAB_LABS"] == str(labs)


def test_settings_of_the_course_count(course: Course) -> None:
    """Deadline and limits are those in the course's folder."""
    file = course.root / "labs" / "public" / LAB / "lab.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}\n[deadline]\ndue = 2026-12-18T23:59:00+01:00\n", encoding="utf-8")
    assert "deadline" in load_lab(ASSIGNMENT).settings
    assert "deadline" not in find_lab("meta-learning").settings


def test_removed_lab_leaves_the_shipped_one(course: Course) -> None:
    """A lab that the course has removed is the shipped one again; a lab without settings is named."""
    folder = course.root / "labs" / "public"
    (folder / "own_lab" / "lab.toml").unlink()
    with pytest.raises(LookupError, match=r"labs/public/own_lab/lab\.toml is missing"):
        find_lab("own-lab")
    shutil.rmtree(folder / LAB)
    (folder / LAB / "__pycache__").mkdir(parents=True)  # as a deleted folder often looks
    assert find_lab(ASSIGNMENT).folder == ROOT / "amllab" / "checks" / LAB


def test_submissions_see_public_folder_only(course: Course) -> None:
    """The sandbox shows the public checks of the course, and hides the rest of it."""
    view = visible_paths([str(course.root)])
    labs = course.root / "labs"
    assert str(labs / "public") in view.readable
    assert {str(course.root), str(labs / "hidden")} <= set(view.hidden)


def test_gradescope_package_has_labs_of_the_course(course: Course) -> None:
    """The autograder for Gradescope takes the course's labs, in the places where the packages have theirs."""
    files = _package_files()
    labs = course.root / "labs"
    assert files["amllab/checks/own_lab/probes.py"] == labs / "public" / "own_lab" / "probes.py"
    assert files[f"autograder/checks/{LAB}/budget.py"] == labs / "hidden" / LAB / "budget.py"
    assert (
        files["autograder/checks/meta_learning/budget.py"]
        == ROOT / "autograder" / "checks" / "meta_learning" / "budget.py"
    )
    assert not [name for name in files if name.startswith("autograder/shipped")]


def test_releases_of_the_course(course: Course) -> None:
    """Released notebooks of the course take the place of shipped ones."""
    release = course.root / "assignments" / ASSIGNMENT / f"{LAB}.ipynb"
    release.parent.mkdir(parents=True)
    release.touch()
    found = released_notebooks()
    assert found[f"{ASSIGNMENT}/{LAB}.ipynb"] == release
    assert found["meta-learning/meta_learning.ipynb"].is_relative_to(ROOT / "assignments")


@pytest.mark.slow
def test_unbuilt_lab_is_no_leak(course: Course) -> None:
    """The stubs of a lab that was never built are no secrets, but its solutions are."""
    text = (ROOT / "source" / OTHER / "self_supervised_learning.py").read_text(encoding="utf-8")
    for folder in ("source", "solutions"):
        shutil.copytree(ROOT / folder / OTHER, course.root / folder / OTHER)
    release = course.root / "assignments" / ASSIGNMENT / f"{LAB}.ipynb"
    shutil.copytree(ROOT / "assignments" / ASSIGNMENT, release.parent)
    lab = find_lab(ASSIGNMENT)
    assert find_leaks(release, lab, course) == []
    solution = text.partition("BEGIN SOLUTION")[2].partition("END SOLUTION")[0]
    longest = max((line.strip() for line in solution.splitlines()), key=len)
    (course.root / "notes.md").write_text(longest)
    assert [leak.what.partition(":")[0] for leak in find_leaks(course.root / "notes.md", lab, course)] == [OTHER]


def test_course_without_labs_changes_nothing(tmp_path: Path) -> None:
    """A course that has only shipped labs, such as a clone, uses those of the package."""
    with forgotten_course():
        use_course(tmp_path)
        assert amllab.lab.course_labs() is None
        assert "AMLLAB_LABS" not in os.environ


@pytest.mark.parametrize("place", sampled(["source/own-lab", "submitted", ""], 3))
def test_labs_found_from_folder_of_course(course: Course, place: str) -> None:
    """A notebook that is opened anywhere in the course finds the labs, without any setting."""
    folder = course.root / place
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "AMLLAB_LABS"}
    command = [sys.executable, "-c", "import amllab.lab as lab; print(lab.find_lab('own-lab').folder)"]
    shown = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(course.root / "labs" / "public" / "own_lab")
