"""Submissions as Canvas and Moodle deliver them, through the real ``nbgrader zip_collect``."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader

from autograder.collect import recognise, student_name

STEM = "transfer_learning"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course with a release, which is all that collecting looks at."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    (tmp_path / "assignments").symlink_to(ROOT / "assignments")
    return tmp_path


def deliver(course: Path, name: str, files: dict[str, str | dict[str, str]], day: int = 1) -> None:
    """A zip as it was downloaded on a day; a file that is a dictionary is a zip in it."""
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    archive.mkdir(parents=True, exist_ok=True)
    _zip(archive / name, files)
    os.utime(archive / name, (day * 86_400, day * 86_400))


def _zip(path: Path, files: dict[str, str | dict[str, str]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            if isinstance(content, dict):
                inner = path.parent / "inner"
                _zip(inner, content)  # type: ignore[arg-type]
                archive.write(inner, name)
                inner.unlink()
            else:
                archive.writestr(name, content)


def collect(course: Path, *options: str) -> tuple[dict[str, str], str]:
    """Path in ``submitted`` without the assignment -> content, and the log."""
    done = nbgrader(course, "zip_collect", ASSIGNMENT, *options)
    assert done.returncode == 0, done.stderr
    submitted = course / "submitted"
    files = {str(path.relative_to(submitted)): path.read_text() for path in submitted.rglob("*") if path.is_file()}
    return {name.replace(f"/{ASSIGNMENT}/", "/"): content for name, content in files.items()}, done.stderr


def test_canvas(course: Path) -> None:
    deliver(
        course,
        "submissions.zip",
        {
            "lovelaceada_1001_2001_transfer_learning.ipynb": "ada",
            "olcerben_LATE_1002_2002_transfer_learning-2.ipynb": "ben, third upload, late",
            "curiemarie_1003_2003_transfer_learning.ipynb": "marie, first",
            "curiemarie_1003_2010_transfer_learning-1.ipynb": "marie, last",
            "noetheremmy_1004_2004_final version (1).ipynb": "emmy, renamed",
            "gausscarl_1005_2005_scratch.ipynb": "carl, something else",
            "gausscarl_1005_2004_transfer_learning.ipynb": "carl",
            "smithjohn_1006_2006_transfer_learning.ipynb": "one john",
            "smithjohn_1007_2007_transfer_learning.ipynb": "other john",
            "eulerleonhard_1008_2008_work.zip": {
                "hand in/transfer_learning.ipynb": "leonhard, zipped",
                "hand in/.ipynb_checkpoints/transfer_learning-checkpoint.ipynb": "stale",
                "__MACOSX/hand in/._transfer_learning.ipynb": "no notebook",
            },
            "holmessherlock_1009_2009_answer.txt": "no notebook",
            "notes of the TA.ipynb": "nobody's",
        },
    )
    files, log = collect(course)
    assert files == {
        "lovelaceada/transfer_learning.ipynb": "ada",
        "olcerben/transfer_learning.ipynb": "ben, third upload, late",
        "curiemarie/transfer_learning.ipynb": "marie, last",
        "noetheremmy/final version (1).ipynb": "emmy, renamed",
        "gausscarl/transfer_learning.ipynb": "carl",
        "smithjohn-1006/transfer_learning.ipynb": "one john",
        "smithjohn-1007/transfer_learning.ipynb": "other john",
        "eulerleonhard/transfer_learning.ipynb": "leonhard, zipped",
    }
    assert "olcerben: late, says Canvas" in log
    several = [line for line in log.splitlines() if "of several files" in line]
    assert len(several) == 2
    (marie,) = [line for line in several if "curiemarie" in line]
    assert marie.index("2010") < marie.index("not collected") < marie.index("2003_")
    assert "Skipped submission with no match information" in log
    assert "notes of the TA.ipynb" in log


def test_moodle(course: Path) -> None:
    folder = "{}_{}_assignsubmission_file_"
    deliver(
        course,
        "AML-Lab 1-4711.zip",
        {
            f"{folder.format('Ada Lovelace', 31)}/{NOTEBOOK}": "ada, old download",
            f"{folder.format('Ben Ölçer', 32)}/{NOTEBOOK}": "ben",
        },
        day=1,
    )
    deliver(
        course,
        "AML-Lab 1-4711 (1).zip",
        {
            f"{folder.format('Ada Lovelace', 31)}/my notebook.ipynb": "ada, last, renamed",
            f"{folder.format('Séamus O’Brien <b>', 33)}/{NOTEBOOK}": "seamus",
            f"{folder.format('Marie Curie', 34)[:-1]}/{NOTEBOOK}": "marie",
            f"{folder.format('Emmy Noether', 35)}{NOTEBOOK}": "emmy, without folders",
            "Carl Gauss_36_assignsubmission_onlinetext_/onlinetext.html": "no notebook",
            f"{folder.format('Anna Maria de la Cruz', 37)}/sub/{STEM} (2).ipynb": "anna, last",
            f"{folder.format('Anna Maria de la Cruz', 37)}/{NOTEBOOK}": "anna, first",
        },
        day=2,
    )
    files, log = collect(course)
    assert files == {
        "ada_lovelace/my notebook.ipynb": "ada, last, renamed",
        "ben_ölçer/transfer_learning.ipynb": "ben",
        "séamus_obrien_b/transfer_learning.ipynb": "seamus",
        "marie_curie/transfer_learning.ipynb": "marie",
        "emmy_noether/transfer_learning.ipynb": "emmy, without folders",
        "anna_maria_de_la_cruz/transfer_learning.ipynb": "anna, last",
    }
    assert "ada_lovelace: of several files" in log
    assert log.count("of several files") == 2


def test_a_later_download_replaces(course: Path) -> None:
    deliver(course, "submissions.zip", {f"ada_1_10_{NOTEBOOK}": "first"})
    assert collect(course)[0] == {f"ada/{NOTEBOOK}": "first"}
    # the later attempt has the higher number of the file, whenever the zip was saved
    deliver(course, "submissions (1).zip", {f"ada_LATE_1_11_{STEM}-1.ipynb": "second"}, day=0)
    assert collect(course, "--force")[0] == {f"ada/{NOTEBOOK}": "second"}


def test_a_course_may_have_its_own_rule(course: Path) -> None:
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("\nc.FileNameCollectorPlugin.named_regexp = r'.*/(?P<student_id>\\w+)@(?P<file_id>\\w+)'\n")
    deliver(course, "own.zip", {f"ada@{NOTEBOOK}": "own", f"ben_1_2_{NOTEBOOK}": "other"})
    assert collect(course)[0] == {f"ada/{NOTEBOOK}": "own"}


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("lovelaceada", "lovelaceada"),
        ("Ada  Lovelace", "ada_lovelace"),
        ("../../etc", "etc"),
        ("a*b[c]?{d}", "abcd"),
        ("\u202eevil\x1b", "evil"),
        ("…", ""),
    ],
)
def test_names_are_safe_ids(name: str, student: str) -> None:
    assert student_name(name) == student


def test_what_names_nobody(tmp_path: Path) -> None:
    for name in (NOTEBOOK, "a_1_b.ipynb", "_1_2_x.ipynb", "…_1_2_x.ipynb", ".a_1_2_x.ipynb", "1_2_x.ipynb"):
        assert recognise(tmp_path / name, tmp_path, [STEM]) is None, name
    found = recognise(tmp_path / "a" / f"eve_7_8_{STEM}-3.ipynb", tmp_path, [STEM])
    assert found is not None
    assert (found.person, found.file, found.again, found.archive, found.late) == (7, 8, 3, "a", False)
    # a lab whose name ends like a second upload
    again = recognise(tmp_path / "eve_7_8_lab-2.ipynb", tmp_path, ["lab-2", "lab"])
    assert again is not None
    assert (again.notebook, again.again) == ("lab-2", 0)
