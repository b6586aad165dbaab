"""Submissions as Canvas and Moodle deliver them, through the real ``nbgrader zip_collect``."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from autograder.collect.names import notebook_of, recognise, student_name
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader

STEM = "transfer_learning"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Return a course with a release, which is all that collecting needs."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    (tmp_path / "assignments").symlink_to(ROOT / "assignments")
    return tmp_path


def deliver(course: Path, name: str, files: dict[str, str | dict[str, str]], day: int = 1) -> None:
    """Write a zip as downloaded on a day; a dictionary in place of a file's content is a zip within it."""
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


def collect(course: Path, *options: str, status: int = 0) -> tuple[dict[str, str], str]:
    """Collect; return the contents by path in ``submitted`` (without the assignment), and the log."""
    done = nbgrader(course, "zip_collect", ASSIGNMENT, *options)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    submitted = course / "submitted"
    files = {str(path.relative_to(submitted)): path.read_text() for path in submitted.rglob("*") if path.is_file()}
    return {name.replace(f"/{ASSIGNMENT}/", "/"): content for name, content in files.items()}, done.stderr


def test_collect_canvas_download(course: Path) -> None:
    """Files of a Canvas download go to their students; of several attempts, the last one counts."""
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
    files, log = collect(course, status=1)
    assert "answer.txt: it is a text, not the notebook" in files.pop("holmessherlock/collected.txt")
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
    assert "olcerben: marked late by Canvas" in log
    several = [line for line in log.splitlines() if "of several files" in line]
    assert len(several) == 2
    (marie,) = [line for line in several if "curiemarie" in line]
    assert marie.index("2010") < marie.index("not collected") < marie.index("2003_")
    assert "Not collected: notes of the TA.ipynb in submissions.zip: the file name does not tell whose it is" in log


def test_collect_moodle_downloads(course: Path) -> None:
    """Folders of Moodle downloads go to their students; a later download replaces an earlier one."""
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
    assert "onlinetext.html: text or a link typed into the form" in files.pop("carl_gauss/collected.txt")
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


def test_collect_later_download_replaces(course: Path) -> None:
    """A later attempt replaces an earlier one."""
    deliver(course, "submissions.zip", {f"ada_1_10_{NOTEBOOK}": "first"})
    assert collect(course)[0] == {f"ada/{NOTEBOOK}": "first"}
    # the later attempt has the higher file number, no matter when the zip was saved
    deliver(course, "submissions (1).zip", {f"ada_LATE_1_11_{STEM}-1.ipynb": "second"}, day=0)
    assert collect(course, "--force")[0] == {f"ada/{NOTEBOOK}": "second"}


def test_collect_custom_name_pattern(course: Path) -> None:
    """A pattern for file names in the course's configuration takes precedence."""
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
def test_student_name_is_safe_id(name: str, student: str) -> None:
    """Names become ids without characters that are unsafe in paths."""
    assert student_name(name) == student


@pytest.mark.parametrize(
    "name",
    [NOTEBOOK, "a_1_b.ipynb", "1_2_x.ipynb", ".a_1_2_x.ipynb", "work.zip", "Ada - notes.ipynb", "Ada_31_file_x.ipynb"],
)
def test_file_name_without_owner(name: str) -> None:
    """File names that do not identify a student are not recognised."""
    assert recognise([name], [STEM]) is None


@pytest.mark.parametrize(
    ("path", "platform", "person", "student", "rest"),
    [
        (f"eve_7_8_{STEM}-3.ipynb", "canvas", "7", "eve", f"{STEM}-3.ipynb"),
        ("eve_LATE_7_8_a_1_2_b.ipynb", "canvas", "7", "eve", "a_1_2_b.ipynb"),
        ("ölçerben_7_8_x.zip", "canvas", "7", "ölçerben", "x.zip"),
        ("_7_8_x.ipynb", "canvas", "7", "canvas-7", "x.ipynb"),
        ("anon_AbC12_987_x.ipynb", "canvas", "AbC12", "anon_abc12", "x.ipynb"),
        ("LATE_anon_12345_987_x.ipynb", "canvas", "12345", "anon_12345", "x.ipynb"),
        ("eve_7_text.html", "canvas", "7", "eve", ""),
        ("Ada Lovelace_31_assignsubmission_file_/x.ipynb", "moodle", "31", "ada_lovelace", ""),
        ("Ada Lovelace_31_assignsubmission_file/a/x.ipynb", "moodle", "31", "ada_lovelace", ""),
        ("Ada O'Neil_31_assignsubmission_file_x.ipynb", "moodle", "31", "ada_oneil", "x.ipynb"),
        ("Participant_31_assignsubmission_file_/x.ipynb", "moodle", "31", "participant-31", ""),
        ("Teilnehmer in_31_assignsubmission_file_/x.ipynb", "moodle", "31", "participant-31", ""),
        ("Default group_assignsubmission_file/x.ipynb", "moodle", "", "default_group", ""),
        ("Group A_5_assignsubmission_file/x.ipynb", "moodle", "5", "group_a", ""),
        ("Lab 1_eve9_attempt_2026-01-30-15-00-00_x.ipynb", "blackboard", "eve9", "eve9", "x.ipynb"),
        ("Lab_eve9_attempt_2026-01-30-15-00-00_a_bob_attempt_2027-01-30-15-00-00_x", "blackboard", "eve9", "eve9",
         "a_bob_attempt_2027-01-30-15-00-00_x"),
        ("Lab 1_eve9_attempt_2026-01-30-15-00-00.txt", "blackboard", "eve9", "eve9", ""),
        ("12-34 - Anna-Maria Eve - Oct 3, 2026 1105 PM/x.ipynb", "brightspace", "12", "anna-maria_eve", ""),
        ("12-34 - Eve - 3 octobre 2026 23h05 - x - y.ipynb", "brightspace", "12", "eve", "x - y.ipynb"),
        ("Abgaben/Team 4/Lovelace_Ada_alove_77/x.ipynb", "ilias", "77", "alove", ""),
        ("Section/[1] - eve9 - x.ipynb", "openedx", "eve9", "eve9", "x.ipynb"),
        ("Ada Lovelace - Transfer Learning.ipynb", "google", "", "ada_lovelace", "Transfer Learning.ipynb"),
    ],
)  # fmt: skip
def test_file_name_by_platform(path: str, platform: str, person: str, student: str, rest: str) -> None:
    """The file names of each platform are parsed into student and file."""
    found = recognise(path.split("/"), [STEM])
    assert found is not None
    assert (found.platform, found.person, found.id, found.rest) == (platform, person, student, rest)


@pytest.mark.parametrize(
    ("stem", "notebook", "again"),
    [
        ("lab-2", "lab-2", 0),  # a lab whose name ends like a second upload
        ("lab-2-1", "lab-2", 1),
        ("Lab 2 (3)", "lab-2", 3),
        ("Copy of lab-2", "lab-2", 0),
        ("lab-2-Copy1", "lab-2", 1),
        ("other-4", "other-4", 4),
    ],
)
def test_file_name_to_notebook(stem: str, notebook: str, again: int) -> None:
    """Names of copies and repeated uploads lead to their notebook."""
    assert notebook_of(stem, ["lab-2", "lab"]) == (notebook, again)
