"""Helpers that several test modules share: the built lab, and a class graded with the real nbgrader command line."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import nbformat
import pytest
import sqlalchemy.dialects.sqlite  # noqa: F401
import timm  # noqa: F401
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderApp

# like SQLite and timm, loaded before the forks, each of which would have to load it, and PyTorch with it
import autograder.grading.worker
import autograder.nbgrader_plugins.exporter
import autograder.nbgrader_plugins.preprocessors
from amllab.checks.transfer_learning import accuracy_task
from amllab.kit import task
from amllab.lab import Lab, find_lab
from autograder import cli
from autograder.authoring.build import notebook_of
from autograder.grading.cache import FOLDER
from autograder.grading.checked_points import require_points
from autograder.grading.reference import Reference
from autograder.labs import locations
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.sandbox.launcher import Launcher
from tests.helpers import mini_lab

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT, NOTEBOOK = "transfer-learning", "transfer_learning.ipynb"


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer random examples, unless slow tests are run too."""
    global _share
    _share = 1 if not config.getoption("markexpr") else 8
    if getattr(config.option, "numprocesses", None):  # this process starts others, which run the tests
        os.environ[_SERVER] = _shared_server()


_share = 1
_SERVER = "AMLLAB_TEST_FORK_SERVER"  # variable that tells the processes of pytest-xdist the address of the server


def examples(number: int) -> int:
    """Return how many random examples a test tries: ``number`` of them with ``make test-all``."""
    return number // _share


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """Return parameters of a test: one in ``every`` is a sample of its kind, the others run with ``make test-all``."""
    return [pytest.param(value, marks=() if i % every == 0 else pytest.mark.slow) for i, value in enumerate(values)]


def selected(request: pytest.FixtureRequest, parameter: str) -> list[Any]:
    """Return the distinct values of a parameter in the selected tests, from which a class of submissions is made."""
    values = [item.callspec.params.get(parameter) for item in request.session.items if hasattr(item, "callspec")]
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def nbgrader(course: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``nbgrader`` in a fork of this process, which has loaded everything that it needs.

    Except for the start of Python, this is the real command. Its workers are forked from a server that all tests of
    this process share.
    """
    return forked(course, lambda: _launched(arguments), variables)


def nbgrader_command(course: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a separate process, with an environment in which nothing is activated."""
    environment = {**os.environ, "PATH": "/usr/bin:/bin", **variables}
    if assignment_of(course) == mini_lab.ASSIGNMENT:
        environment["PYTHONPATH"] = mini_lab.startup()
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False)


def autograder_cli(course: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``autograder`` in a fork of this process; see :func:`nbgrader`."""
    return forked(course, lambda: cli.main(list(arguments)), variables)


def _launched(arguments: Iterable[str]) -> object:
    status: object = 0
    try:
        NbGraderApp.launch_instance(list(arguments))
    except SystemExit as error:
        status = error.code
    gc.collect()  # free what a run holds, as in formgrader's server
    return status


@cache
def _shared_server() -> str:
    """Return the address of the fork server that all tests share; it ends with the process that runs pytest."""
    if _SERVER in os.environ:
        return os.environ[_SERVER]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", mini_lab.startup())  # it serves courses of both labs
        return Launcher().address


@cache
def shared_launcher() -> Launcher:
    """Return a launcher of workers for the tests' own process, which shares the server."""
    return Launcher(address=_shared_server())


autograder.grading.worker.default_launcher = shared_launcher  # type: ignore[assignment]


def forked(
    course: Path, command: Callable[[], object], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command in a fork of this process, in a course's folder, with additional environment variables."""
    address = _shared_server()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(course, command, variables, address, out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess([str(course)], status, *texts)


def _become(
    course: Path, command: Callable[[], object], variables: Mapping[str, str], address: str, out: int, err: int
) -> NoReturn:
    status: object = 1
    try:
        gc.freeze()  # the garbage collector would copy the memory that this process shares with the tests
        _forget_fork_server()
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, mode, closefd=False) for i, mode in enumerate("rww"))
        os.environ.update({"PATH": "/usr/bin:/bin", **variables})
        os.chdir(course)
        if assignment_of(course) == mini_lab.ASSIGNMENT:
            mini_lab.register(pytest.MonkeyPatch())
        assert Launcher.__init__.__kwdefaults__ is not None
        Launcher.__init__.__kwdefaults__["address"] = address
        status = command()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status if isinstance(status, int) else 1 if status else 0)


def _forget_fork_server() -> None:
    """Let multiprocessing start a fork server for this process; it cannot wait for the one of its parent."""
    inherited = forkserver._forkserver  # type: ignore[attr-defined]
    inherited._forkserver_pid = inherited._forkserver_address = None


def assignment_of(course: Path) -> str:
    """Return the assignment of a course that :func:`new_course` made; lab 1 in a course of several."""
    found = [folder.name for folder in (course / "source").glob("[!.]*/")]
    return found[0] if len(found) == 1 else ASSIGNMENT


def notebook_in(course: Path) -> str:
    """Return the name of the notebook of a course that :func:`new_course` made."""
    return f"{assignment_of(course).replace('-', '_')}.ipynb"


@cache
def _released(assignment: str) -> Path:
    """Return a course with the lab built and released, and its solution; created once, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="amllab-course-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # one at a time: the tests themselves run in parallel
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8") + "c.GradeChecks.jobs = 1\n"
    (folder / "nbgrader_config.py").write_text(config, encoding="utf-8")
    origin = mini_lab.files() if assignment == mini_lab.ASSIGNMENT else ROOT
    master = folder / "source" / assignment / f"{assignment.replace('-', '_')}.py"
    master.parent.mkdir(parents=True)
    shutil.copy(origin / "source" / assignment / master.name, master)
    if origin == ROOT:
        nbformat.write(notebook_of(master), master.with_suffix(".ipynb"))
        shutil.copytree(ROOT / "solutions" / assignment, folder / "solutions" / assignment)
        done = nbgrader(folder, "generate_assignment", assignment)
    else:
        done = autograder_cli(folder, "build", assignment)
    assert done.returncode == 0, done.stderr
    if origin == ROOT:  # as autograder build does; a test that needs the course may have replaced the hidden checks
        with mock.patch.object(locations, "HIDDEN_CHECKS", HIDDEN_CHECKS):
            require_points(find_lab(assignment), master, notebook_of(master), folder / FOLDER)
    return folder


def new_course(folder: Path, assignment: str = ASSIGNMENT) -> Path:
    """Create a separate course with a lab built and released, and its solution."""
    return Path(shutil.copytree(_released(assignment), folder, dirs_exist_ok=True))


def submit(course: Path, student: str, notebook: NotebookNode | bytes | None, name: str = "") -> None:
    """Write a notebook, some bytes, or nothing at all into a student's folder."""
    folder = course / "submitted" / student / assignment_of(course)
    folder.mkdir(parents=True)
    file = folder / (name or notebook_in(course))
    if isinstance(notebook, bytes):
        file.write_bytes(notebook)
    elif notebook is not None:
        nbformat.write(notebook, file)


def scores(course: Path, student: str) -> dict[str, float]:
    """Return the automatic score of each graded cell, from the gradebook."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        submission = gradebook.find_submission(assignment_of(course), student)
        return {grade.name: grade.auto_score for notebook in submission.notebooks for grade in notebook.grades}


def autograded(course: Path, student: str) -> NotebookNode:
    return nbformat.read(course / "autograded" / student / assignment_of(course) / notebook_in(course), as_version=4)


def report(course: Path, student: str, cell: str) -> str:
    """Return the text of a cell's report."""
    (found,) = [c for c in autograded(course, student).cells if c.metadata.get("nbgrader", {}).get("grade_id") == cell]
    return found.outputs[0].data["text/plain"]


SMALL = {"train_images": 128, "val_images": 32, "test_images": 200, "max_epochs": 1}
_small = False
_budget_of, _calibrations = accuracy_task.budget_of, task.calibrations
# once and for all, as other modules import functions by name
accuracy_task.budget_of = lambda lab: _budget_of(lab) | (SMALL if _small else {})
task.calibrations = lambda own: _any_score(own) if _small else _calibrations(own)


def _any_score(own: task.Task) -> dict[str, Any]:
    wanted = {"start": 0.0, "full": 0.01} if own.score.higher_is_better else {"start": 1e6, "full": 1e5}
    return {own.data: {"budget": own.budget, "thresholds": wanted}}


@pytest.fixture(scope="module", autouse=True)
def small_training(request: pytest.FixtureRequest) -> Iterator[None]:
    """Train on few images in tests of the commands, except in modules with the mark ``full_training``.

    Any trained model then gets all points of the accuracy check. Processes that are not forked from this one, such as
    those of several jobs, train as the lab's settings say.
    """
    global _small
    _small = "unit" not in request.path.parts and request.node.get_closest_marker("full_training") is None
    yield
    _small = False


@pytest.fixture(scope="session")
def lab() -> Lab:
    return find_lab(ASSIGNMENT)


@pytest.fixture(scope="session")
def release() -> NotebookNode:
    return nbformat.read(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)


@pytest.fixture(scope="session")
def mini_release() -> NotebookNode:
    """Return what students get of the mini lab."""
    return nbformat.read(
        _released(mini_lab.ASSIGNMENT) / "assignments" / mini_lab.ASSIGNMENT / mini_lab.NOTEBOOK, as_version=4
    )


@pytest.fixture
def reference(lab: Lab) -> Iterator[Reference]:
    reference = Reference(lab, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK)
    yield reference
    reference.close()


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return new_course(tmp_path)
