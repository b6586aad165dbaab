"""Git ignores what a running course writes about its students, and downloads and tables with their names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from autograder.collect.record import FILE as COLLECTED
from autograder.course import Course
from autograder.exports.formats import FORMATS
from autograder.gradebook.attempts import FOLDER as ATTEMPTS
from autograder.gradebook.extensions import FILE as EXTENSIONS
from autograder.grading.cache import FOLDER as GRADED
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
NOTEBOOK = "ada/transfer-learning/transfer_learning.ipynb"
# of nbgrader and Dask, of the report and the list of similar code, and of make demo
OTHERS = (
    "downloaded/transfer-learning/archive/lovelaceada_1_2_transfer_learning.ipynb",
    "downloaded/transfer-learning/extracted/x.ipynb",
    "reports/transfer-learning/students.csv",
    "demo/gradebook.db",
    "dask-scratch-space/worker-1/x",
    "nbgrader.log",
    "grades.csv",
)


def ignored(folder: Path, paths: list[str]) -> set[str]:
    """Return which of these paths git ignores in a new repository with the course's .gitignore."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    shutil.copy(ROOT / ".gitignore", folder)
    command = ["git", "-C", str(folder), "-c", "core.excludesFile=", "check-ignore", "--no-index", *paths]
    return set(subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines())


def written_by_commands() -> list[str]:
    """Return a path in each folder, and each file, that commands write with students' data."""
    course = Course.find(ROOT)
    roles = ("submitted_directory", "autograded_directory", "feedback_directory")
    paths = [f"{course.directories[role].relative_to(ROOT).as_posix()}/{NOTEBOOK}" for role in roles]
    gradebook = Path(course.db_url.removeprefix("sqlite:///")).relative_to(ROOT).as_posix()
    paths += [gradebook + end for end in ("", "-journal", "-wal", "-shm", ".2026-12-18T10-00-00")]
    paths += [f"{GRADED}/x", f"{ATTEMPTS}/transfer-learning/ada/1/x.ipynb", COLLECTED, EXTENSIONS]
    return [*paths, *(file.format("transfer-learning") for file in FORMATS.values()), *OTHERS]


def named_in_docs() -> list[str]:
    """Return the files with students' data that the pages for graders tell them to write or to download."""
    pages = [(ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("ta.md", "instructor.md", "new-lab.md")]
    return re.findall(r"--(?:csv|roster)[ =](\S+\.csv)", "\n".join(pages))


def test_student_data_ignored(tmp_path: Path) -> None:
    """No file of a running course can be committed by accident."""
    paths = written_by_commands() + named_in_docs()
    assert len(paths) > 20
    assert set(paths) - ignored(tmp_path, paths) == set()


def test_course_not_ignored(tmp_path: Path) -> None:
    """What belongs to the course itself stays visible to git."""
    course = Course.find(ROOT)
    roles = ("source_directory", "release_directory", "solution_directory")
    paths = [f"{course.directories[role].relative_to(ROOT).as_posix()}/x-lab/x_lab.ipynb" for role in roles]
    paths += ["autograder/checks/x_lab/corpus.py", "amllab/checks/x_lab/lab.toml", "bench/results/x.csv", "docs/x.md"]
    assert ignored(tmp_path, paths) == set()
