"""Unexpected ids and folders, with the real nbgrader command line.

They are graded, or refused by name with an exit status, and nobody else is affected.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from autograder.collect.submission_folders import MAX_DEPTH, MAX_ENTRIES, refusal
from tests.conftest import autograder_cli, nbgrader, new_course, scores, submit
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK

GRADED = [
    "aa", "zz", "Ada", "ada", "a +@b.org", "50%25", "{student_id}", "--help", "ölçer", "^(a|b),$(touch x)`id`;#~",
    "x'; DROP TABLE student; --".replace("'", ""), "a\\b", "n" * 128,
]  # fmt: skip
REFUSED = {
    "o'brien": "has characters with a meaning in HTML: rename it with 'mv 'submitted/o",
    "<b>": "has characters with a meaning in HTML",
    'a"b': "has characters with a meaning in HTML",
    "a&b": "has characters with a meaning in HTML",
    "[x]": "has characters that nbgrader treats as a pattern: rename it with 'mv 'submitted/[x]' submitted/x'",
    "a*": "treats as a pattern",
    "a?": "treats as a pattern",
    "line\nbreak": "cannot be displayed: rename it with 'mv $'submitted/line\\x0abreak' submitted/line_break'",
    "\u202eevil": "cannot be displayed",
    os.fsdecode(b"latin\xe9"): "cannot be displayed",
    " blank": "begins or ends with a space",
    ".hidden": "begins with a dot",
    "m" * 129: "is longer than the 128 characters",
}


def deep(folder: Path, depth: int = 1500) -> None:
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)


def remove_deep(folder: Path) -> None:
    """Remove a folder that is too deep for shutil."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def endpoint(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket has to be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(here)


def loop(folder: Path) -> None:
    (folder / "loop").symlink_to(".")


def crowd(folder: Path) -> None:
    for i in range(MAX_ENTRIES + 1):
        (folder / f"{i}.txt").touch()


def wide(folder: Path) -> None:
    for i in range(10_001):
        (folder / f"{i % 100}").mkdir(exist_ok=True)
        (folder / f"{i % 100}" / f"{i}").touch()


def no_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).touch()


def escape_code(folder: Path) -> None:
    (folder / "a\x1b[2Jb").touch()


FOLDERS = {
    "deep": (deep, f"more than {MAX_DEPTH} deep"),
    "pipe": (pipe, "a link or a device instead of a regular file: pipe"),
    "socket": (endpoint, "a link or a device"),
    "loop": (loop, "a link or a device instead of a regular file: loop"),
    "crowd": (crowd, "more than 3,000 files"),
    "wide": (wide, "more than 10,000 files"),
    "no_text": (no_text, "cannot be displayed"),
    "escape_code": (escape_code, "cannot be displayed"),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    for student in [*GRADED, *REFUSED, *FOLDERS]:
        submit(course, student, b"Dear TA")
    for student, (make, _) in FOLDERS.items():
        make(course / "submitted" / student / ASSIGNMENT)
    (course / "submitted" / "a_file").mkdir()
    (course / "submitted" / "a_file" / ASSIGNMENT).write_text("Dear TA")
    (course / "submitted" / "a_link").symlink_to("aa")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    remove_deep(course / "submitted" / "deep")
    return course, done.returncode, done.stderr


def test_student_id_refused_others_graded(graded: tuple[Path, int, str]) -> None:
    """All students with acceptable ids are graded; the exit status reports the refusals."""
    course, status, log = graded
    assert status == 1
    assert "Traceback" not in log
    for student in GRADED:
        assert set(scores(course, student).values()) >= {0.0}, student
    assert f"{len(GRADED)} submissions: {len(GRADED)} graded" in log


@pytest.mark.parametrize("student", [*REFUSED, *FOLDERS, "a_file", "a_link"])
def test_student_id_refusal_message(graded: tuple[Path, int, str], student: str) -> None:
    """A refusal names the folder, the reason and the remedy."""
    course, _, log = graded
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in student)
    (line,) = [line for line in log.splitlines() if f"Look at {shown}:" in line]
    expected = REFUSED.get(student) or FOLDERS.get(student, ("", ""))[1]
    assert expected in line
    assert "grade again" in line
    assert not (course / "autograded" / student).exists()


def test_student_id_feedback_and_scores(graded: tuple[Path, int, str]) -> None:
    """Feedback exists for all graded students; the table shows the others with the reason."""
    course, _, _ = graded
    assert nbgrader(course, "generate_feedback", ASSIGNMENT).returncode == 0
    pages = {path.parent.parent.name for path in course.glob(f"feedback/*/{ASSIGNMENT}/*.html")}
    assert pages == set(GRADED)
    table = autograder_cli(course, "scores", ASSIGNMENT).stdout
    for student, why in {"o'brien": "rename it with", "pipe": "a link or a device", "wide": "10,000 files"}.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"{student} ")]
        assert "not graded" in row
        assert why in row


def test_student_id_rename_command_works(graded: tuple[Path, int, str]) -> None:
    """The command in the refusal renames the folder, which can then be graded."""
    course, _, log = graded
    (line,) = [line for line in log.splitlines() if "Look at o'brien" in line]
    command = line.partition("rename it with '")[2].rpartition("' and grade again")[0]
    subprocess.run(["bash", "-c", command], cwd=course, check=True)
    assert shlex.split(command)[2] == "submitted/obrien"
    done = nbgrader(course, "autograde", ASSIGNMENT, "--student=obrien")
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(scores(course, "obrien").values()) >= {0.0}


def test_folder_unreadable_refused(tmp_path: Path) -> None:
    """A folder without read permission is refused with that reason."""
    folder = tmp_path / "ada" / "lab"
    (folder / "closed").mkdir(parents=True)
    (folder / NOTEBOOK).touch()
    assert refusal(folder, "ada") == ""
    (folder / NOTEBOOK).chmod(0)
    (folder / "closed").chmod(0)
    why = refusal(folder, "ada")
    shutil.rmtree(folder, ignore_errors=True)
    assert os.geteuid() == 0 or "correct its permissions" in why
