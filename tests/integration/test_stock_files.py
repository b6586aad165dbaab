"""Files next to the notebooks of an ordinary assignment: large ones, many, and some in the way of others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nbformat import NotebookNode

from autograder.sandbox.file_system import SCRATCH_FILES
from autograder.stock.files import too_much
from autograder.stock.process import LIMITS
from tests.conftest import nbgrader
from tests.helpers.stock_courses import OURS, Assignment, locked_test, new_stock_course, recorded, stock_notebook

MB = 1_000_000
SIZES = "import os\nassert {name: os.path.getsize(name) for name in os.listdir() if name.endswith('.bin')} == %r"


def sized(path: Path, size: int) -> Path:
    """Write a file of this size, which takes no space on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def a_class(root: Path, students: list[str], test: str = "assert True", config: str = "") -> Path:
    notebook: NotebookNode = stock_notebook(locked_test("one", test))
    course = new_stock_course(
        root,
        Assignment(
            {"p1.ipynb": notebook, "data/set.csv": "1"}, {name: {"p1.ipynb": notebook} for name in students}, config
        ),
        OURS,
    )
    assert nbgrader(course, "generate_assignment", "ps1").returncode == 0
    return course


def folder_of(course: Path, student: str) -> Path:
    return course / "submitted" / student / "ps1"


def test_files_that_are_too_large_or_in_the_way(tmp_path: Path) -> None:
    """Each such submission is left out with a line that names file and limit; the others are graded."""
    course = a_class(
        tmp_path,
        ["ada", "large", "many_mb", "file_in_the_way", "folder_in_the_way", "pipe", "link", "zoe"],
        config="c.GradeChecks.limits = {'file_bytes': 30_000_000, 'scratch_bytes': 100_000_000}\n",
    )
    sized(folder_of(course, "large") / "model.bin", 31 * MB)
    for number in range(4):
        sized(folder_of(course, "many_mb") / f"{number}.bin", (20 + number) * MB)
    (folder_of(course, "file_in_the_way") / "data").write_text("x")
    (folder_of(course, "folder_in_the_way") / "data" / "set.csv").mkdir(parents=True)
    os.mkfifo(folder_of(course, "pipe") / "queue")
    (folder_of(course, "link") / "secret").symlink_to("/etc/passwd")
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    said = {
        line.split("Look at ")[1].split(":")[0]: line.split(": not graded, ")[1]
        for line in done.stderr.splitlines()
        if "Look at" in line
    }
    assert said == {
        "large": "its file model.bin has 31 MB, and a file may have 30 MB; remove it, or set c.GradeChecks.limits = "
        "{'file_bytes': 100_000_000}, and grade again",
        "many_mb": "its files have 86 MB, and may have 83 MB together; the largest is 3.bin with 23 MB; remove it, or set "
        "c.GradeChecks.limits = {'scratch_bytes': 200_000_000}, and grade again",
        "file_in_the_way": "its file data has the name of a folder of the course; rename or remove it and grade again",
        "folder_in_the_way": "its folder set.csv has the name of a file of the course; rename or remove it and grade again",
        "pipe": "it contains a link or a device instead of a regular file: queue; remove it and grade again",
        "link": "it contains a link or a device instead of a regular file: secret; remove it and grade again",
    }
    assert "Traceback" not in done.stderr
    assert {place[0] for place in recorded(course)} == {"ada", "zoe"}
    assert recorded(course)["zoe", "p1"][0] == 1


@pytest.mark.slow
def test_large_files_arrive(tmp_path: Path) -> None:
    """A file that the limits allow arrives complete, in pieces, whatever its size; so does an empty one."""
    sizes = {"large.bin": 300 * MB, "small.bin": 0}
    course = a_class(tmp_path, ["ada"], SIZES % sizes)
    for name, size in sizes.items():
        sized(folder_of(course, "ada") / name, size)
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 0, done.stderr
    assert recorded(course)["ada", "p1"][0] == 1


@pytest.mark.slow
def test_large_file_of_the_course(tmp_path: Path) -> None:
    """If a file of the course is too large, nothing is graded; nbgrader's own step has no such limit."""
    course = a_class(tmp_path, ["ada", "bob"])
    sized(course / "source" / "ps1" / "data" / "large.bin", 600 * MB)
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    assert (
        "Nothing was graded: the files in source/ps1 are too much: its file data/large.bin has 600 MB, and a file may have 537 MB; "
        "remove it, or set c.GradeChecks.limits = {'file_bytes': 600_000_000}"
    ) in done.stderr
    assert not (course / "autograded").exists()
    (course / "nbgrader_config.py").write_text(f"{OURS}c.GradeChecks.stock = 'nbgrader'\n")
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 0, done.stderr
    assert recorded(course)["bob", "p1"][0] == 1


def test_limits_of_files(tmp_path: Path) -> None:
    """Each limit is named with the setting that changes it."""
    small, large = sized(tmp_path / "small", 1), sized(tmp_path / "large", LIMITS["file_bytes"])
    assert too_much({}, LIMITS) == ""
    assert too_much({"a": small, "b": large}, LIMITS) == ""
    assert "a file may have 537 MB" in too_much({"b": sized(tmp_path / "more", LIMITS["file_bytes"] + 1)}, LIMITS)
    assert "'scratch_bytes': 1_100_000_000" in too_much({"a": large, "b": large}, LIMITS)
    huge = too_much({"b": sized(tmp_path / "huge", 4_000 * MB)}, LIMITS)
    assert "{'file_bytes': 4_000_000_000, 'scratch_bytes': 4_100_000_000, 'memory_bytes': 4_100_000_000}" in huge
    assert too_much({f"f/{i}": small for i in range(SCRATCH_FILES - 1002)}, LIMITS) == ""
    assert "at most 19,000 are possible" in too_much({str(i): small for i in range(SCRATCH_FILES)}, LIMITS)
