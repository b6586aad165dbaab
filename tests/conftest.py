"""What several test modules need: the built lab, and a class graded over the real nbgrader command line."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from amllab.lab import Lab, find_lab
from autograder.authoring.build import notebook_of
from autograder.grading.reference import Reference

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT, NOTEBOOK = "transfer-learning", "transfer_learning.ipynb"


def pytest_configure(config: pytest.Config) -> None:
    """Fewer random examples, unless slow tests are run too."""
    global _share
    _share = 1 if not config.getoption("markexpr") else 8


_share = 1


def examples(number: int) -> int:
    """How many random examples a test tries: so many by ``make test-all``."""
    return number // _share


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """Parameters of a test: one in ``every`` is a sample of its kind, the others are left to ``make test-all``."""
    return [pytest.param(value, marks=() if i % every == 0 else pytest.mark.slow) for i, value in enumerate(values)]


def selected(request: pytest.FixtureRequest, parameter: str) -> list[Any]:
    """The values of a parameter in the tests that are run, each once: what a class of submissions is made of."""
    values = [item.callspec.params.get(parameter) for item in request.session.items if hasattr(item, "callspec")]
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def nbgrader(course: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real command, with an environment in which nothing is activated."""
    environment = {**os.environ, "PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False)


@cache
def _released() -> Path:
    """A course with the lab's master built, released, and the shipped solution: made once, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="amllab-course-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # one after the other: the tests themselves run side by side
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8") + "c.GradeChecks.jobs = 1\n"
    (folder / "nbgrader_config.py").write_text(config, encoding="utf-8")
    master = ROOT / "source" / ASSIGNMENT / "transfer_learning.py"
    (folder / "source" / ASSIGNMENT).mkdir(parents=True)
    shutil.copy(master, folder / "source" / ASSIGNMENT)
    nbformat.write(notebook_of(master), folder / "source" / ASSIGNMENT / NOTEBOOK)
    shutil.copytree(ROOT / "solutions", folder / "solutions")
    done = nbgrader(folder, "generate_assignment", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    return folder


def new_course(folder: Path) -> Path:
    """A course of its own with the lab's master built, released, and the shipped solution."""
    return Path(shutil.copytree(_released(), folder, dirs_exist_ok=True))


def submit(course: Path, student: str, notebook: NotebookNode | bytes | None, name: str = NOTEBOOK) -> None:
    """Puts a notebook, some bytes, or nothing at all into a student's folder."""
    folder = course / "submitted" / student / ASSIGNMENT
    folder.mkdir(parents=True)
    if isinstance(notebook, bytes):
        (folder / name).write_bytes(notebook)
    elif notebook is not None:
        nbformat.write(notebook, folder / name)


def scores(course: Path, student: str) -> dict[str, float]:
    """Automatic score of each graded cell, from the gradebook."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        submission = gradebook.find_submission(ASSIGNMENT, student)
        return {grade.name: grade.auto_score for notebook in submission.notebooks for grade in notebook.grades}


def autograded(course: Path, student: str) -> NotebookNode:
    return nbformat.read(course / "autograded" / student / ASSIGNMENT / NOTEBOOK, as_version=4)


def report(course: Path, student: str, cell: str) -> str:
    """The text of a cell's report."""
    (found,) = [c for c in autograded(course, student).cells if c.metadata.get("nbgrader", {}).get("grade_id") == cell]
    return found.outputs[0].data["text/plain"]


@pytest.fixture(scope="session")
def lab() -> Lab:
    return find_lab(ASSIGNMENT)


@pytest.fixture(scope="session")
def release() -> NotebookNode:
    return nbformat.read(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)


@pytest.fixture
def reference(lab: Lab) -> Iterator[Reference]:
    reference = Reference(lab, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK)
    yield reference
    reference.close()


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return new_course(tmp_path)
