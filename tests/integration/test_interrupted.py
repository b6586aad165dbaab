"""A class whose grading is killed at any moment: the next plain run completes the gradebook.

The moments are those at which a run changes something: every file that it opens for writing, every half-written
notebook, every file or folder that it creates or removes, every commit. A configuration of the course counts them and
sends the process group a SIGKILL at a given one. Tests of many moments run the command in a fork of this process, which
has already loaded PyTorch, and replace the checks by scores drawn from the seed: another seed would give other scores.
"""

from __future__ import annotations

import fcntl
import gc
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderApp

from autograder.labs.corpus import Solution
from tests.conftest import new_course, scores, submit
from tests.helpers import mini_lab
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK, RIGHT, submission

# a module of the course: counts the moments of a run, and kills it at the one whose number is DIE_AT
MOMENTS = """
import os, signal, sys
import nbconvert.writers.files
from sqlalchemy import event
from sqlalchemy.engine import Engine

count, listed = 0, os.open(os.environ.get("MOMENTS", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

def moment(what):
    global count
    count += 1
    os.write(listed, (what + "\\n").encode())
    if count == int(os.environ.get("DIE_AT", 0)):
        os.killpg(0, signal.SIGKILL)

def audit(name, arguments):
    changes = name in ("os.mkdir", "os.chmod") or (name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if changes and isinstance(arguments[0], (str, os.PathLike)) and "autograded" in os.fspath(arguments[0]):
        moment(name + os.path.splitext(arguments[0])[1])
    elif name in ("os.remove", "os.rmdir"):
        moment(name)

class Halves:
    def __init__(self, path, mode, **how):
        self.file = open(path, mode, **how)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def write(self, text):
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        moment("half written")
        self.file.write(text[len(text) // 2 :])

nbconvert.writers.files.open = Halves
event.listen(Engine, "commit", lambda connection: moment("commit"))
sys.addaudithook(audit)
"""

# a module of the course that replaces the checks; the grader fails on submissions with the text of the variable FAILS
STAND_IN = """
import contextlib, os, random
import nbformat
import autograder.grading.class_session
from amllab.checks.results import CheckResult
from autograder.notebooks.metadata import is_autograded
from autograder.errors import ReferenceFailedError
from autograder.grading.result import GradingResult
from moments import moment

def drawn_scores(submission, lab, reference, launcher, seed):
    moment("grade")
    notebook = submission.notebook
    with contextlib.suppress(ReferenceFailedError):  # a check that meets it is broken, and the others go on
        if os.environ.get("ASKS"):
            reference.ask("standardise")
    if os.environ.get("FAILS") and any(os.environ["FAILS"] in cell.source for cell in notebook.cells):
        raise RuntimeError("out of paper")
    draw = random.Random(seed)
    for cell in notebook.cells:
        if is_autograded(cell):
            # quarters: their sum, a late penalty, does not depend on the order in which SQLite adds them up
            points = str(draw.randint(0, 4 * cell.metadata.nbgrader.points) / 4)
            cell.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": points}, execution_count=1)]
    return GradingResult([CheckResult("test_it", "It works.", "x", 1, "passed")], seed, 0.0)

autograder.grading.class_session.grade = drawn_scores
"""

CONFIG = """
import sys
sys.path.insert(0, c.CourseDirectory.root)
import moments
c.LateSubmissionPlugin.penalty_method = "zero"
c.CourseDirectory.db_url = "sqlite:///gradebook.db?timeout=0.5"
"""
STUDENTS = ("ada", "ben", "cyd")
DUE, IN_TIME, LATE, AGAIN = (f"2030-01-0{day} 12:00:00 UTC" for day in (2, 1, 3, 4))


@dataclass
class Ran:
    """A run of the command: its status (negative: the signal that ended it), its log, the moments that it reached."""

    status: int
    log: str
    moments: list[str]

    @property
    def graded(self) -> list[str]:
        return re.findall(r"(\w+): \S+ of \S+ automatic points", self.log)


def autograde(course: Path, *arguments: str, **variables: str | int) -> Ran:
    """Run ``nbgrader autograde`` in a fork of this process with its own process group."""
    log, moments = course / "log.txt", course / "moments.txt"
    environment = {"MOMENTS": str(moments), **{name: str(value) for name, value in variables.items()}}
    with log.open("wb") as file:
        child = os.fork()
        if child == 0:
            _become(course, file.fileno(), ("autograde", ASSIGNMENT, *arguments), environment)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ran(status, log.read_text(), moments.read_text().splitlines())


def _become(course: Path, log: int, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Run the command in the child process, which exits here."""
    status: object = 70
    try:
        gc.freeze()  # the garbage collector would copy the memory that this process shares with the tests
        mini_lab.register(pytest.MonkeyPatch())
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
        os.environ.update(environment)
        os.chdir(course)
        try:
            NbGraderApp.launch_instance(list(arguments))
            status = 0
        except SystemExit as error:
            status = error.code
        gc.collect()  # free what a run holds, as in formgrader's server
    finally:
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def everything(course: Path) -> set[str]:
    """Return all rows of the gradebook, with names in place of random ids, and every file that grading wrote."""
    with closing(sqlite3.connect(course / "gradebook.db")) as database:
        database.row_factory = sqlite3.Row
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")] for name in names}
    stands_for: dict[object, object] = {}
    for name in ("assignment", "notebook", "base_cell", "submitted_assignment", "submitted_notebook"):
        for row in tables[name]:
            key = [row.get("name"), *(stands_for.get(v, v) for k, v in row.items() if k.endswith("_id"))]
            stands_for[row["id"]] = (name, *key)
    for name in ("grade", "comment"):
        for row in tables[name]:
            del row["id"]
    rows = [
        f"{name}: { {k: stands_for.get(v, v) for k, v in row.items()} }"
        for name, rows in tables.items()
        for row in rows
    ]
    assert len(rows) == len(set(rows)), "rows are there twice"
    files = [path for path in (course / "autograded").rglob("*") if path.is_file()]
    return {*rows, *(f"{path.relative_to(course)}: {path.read_text()}" for path in files)}


def hand_in(course: Path, student: str, timestamp: str, notebook: NotebookNode | bytes | None) -> None:
    shutil.rmtree(course / "submitted" / student, ignore_errors=True)
    submit(course, student, notebook)
    (course / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text(timestamp)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> Path:
    """Return an ungraded class: a late notebook, an unreadable one, and none at all."""
    course = new_course(tmp_path_factory.mktemp("fresh"), ASSIGNMENT)
    (course / "moments.py").write_text(MOMENTS)
    (course / "stand_in.py").write_text(STAND_IN)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(CONFIG + "import stand_in\n")
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.update_or_create_assignment(ASSIGNMENT, duedate=DUE)
    hand_in(course, "ada", LATE, submission(RIGHT, mini_release))
    hand_in(course, "ben", IN_TIME, b"Dear TA")
    hand_in(course, "cyd", IN_TIME, None)
    return course


@pytest.fixture(scope="module")
def by_hand(fresh: Path, tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> Path:
    """Return the class with manual scores, after all students have submitted again."""
    course = copy_of(fresh, tmp_path_factory.mktemp("by_hand"))
    assert autograde(course).status == 0
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        for student in STUDENTS:
            mark = book.find_grade("reflection", NOTEBOOK.removesuffix(".ipynb"), ASSIGNMENT, student)
            mark.manual_score, mark.extra_credit, mark.needs_manual_grade = 3.5, 1.0, False
            book.find_grade("check_rescale", NOTEBOOK.removesuffix(".ipynb"), ASSIGNMENT, student).manual_score = 10
            comment = book.find_comment("reflection", NOTEBOOK.removesuffix(".ipynb"), ASSIGNMENT, student)
            comment.manual_comment = f"Well argued, {student}."
        book.db.commit()
    for student in STUDENTS:
        hand_in(course, student, AGAIN, submission(Solution("again", {"standardise": student}), mini_release))
    return course


def copy_of(course: Path, folder: Path) -> Path:
    return shutil.copytree(course, folder, dirs_exist_ok=True)


@pytest.fixture
def course(fresh: Path, tmp_path: Path) -> Path:
    return copy_of(fresh, tmp_path)


def spread(moments: list[str], number: int) -> list[int]:
    """Return evenly spaced moments of a run, and one of each kind, spread over the class."""
    kinds = sorted(set(moments))
    places = {kind: [i for i, what in enumerate(moments, 1) if what == kind] for kind in kinds}
    each = {places[kind][round((len(places[kind]) - 1) * k / len(kinds))] for k, kind in enumerate(kinds)}
    return sorted(each | {round(1 + i * (len(moments) - 1) / (number - 1)) for i in range(number)})


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fresh", "by_hand"])
def test_autograde_killed_at_any_moment(start: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """After a kill at any moment, the next run produces the gradebook of an undisturbed run."""
    before = request.getfixturevalue(start)
    course = copy_of(before, tmp_path / "undisturbed")
    undisturbed = autograde(course)
    assert (undisturbed.status, undisturbed.graded) == (0, list(STUDENTS)), undisturbed.log
    wanted = everything(course)
    tried = spread(undisturbed.moments, 6)
    assert len(tried) >= 12
    for moment in tried:
        course = copy_of(before, tmp_path / str(moment))
        killed = autograde(course, DIE_AT=moment)
        what = f"moment {moment} of {len(undisturbed.moments)}: {undisturbed.moments[moment - 1]}"
        assert killed.status == -signal.SIGKILL, what
        second = autograde(course)
        assert second.status == 0, f"{what}\n{second.log}"
        assert everything(course) ^ wanted == set(), f"{what}\n{second.log}"
        assert not set(killed.graded[:-1]) & set(second.graded), what
        shutil.rmtree(course)


def marks(course: Path) -> list[object]:
    """Return everything that people entered in the gradebook."""
    with closing(sqlite3.connect(course / "gradebook.db")) as database:
        grades = "SELECT id, manual_score, extra_credit FROM grade ORDER BY id"
        comments = "SELECT id, manual_comment FROM comment ORDER BY id"
        return [*database.execute(grades), *database.execute(comments)]


@pytest.mark.parametrize("force", [(), pytest.param(("--force",), marks=pytest.mark.slow)], ids=["plain", "force"])
def test_regrade_keeps_manual_scores(by_hand: Path, tmp_path: Path, force: tuple[str, ...]) -> None:
    """Grading again keeps manual scores, extra credit and comments."""
    course = copy_of(by_hand, tmp_path)
    wanted = marks(course)
    first, second = autograde(course), autograde(course, *force)
    assert (first.status, second.status) == (0, 0)
    assert first.graded == list(STUDENTS)
    assert second.graded == (list(STUDENTS) if force else [])
    assert marks(course) == wanted
    assert sum(row[1] == 3.5 and row[2] == 1.0 for row in wanted) == len(STUDENTS)


@pytest.mark.slow
def test_regrade_after_partial_removal(by_hand: Path, tmp_path: Path) -> None:
    """An old grading without its timestamp is graded again: nbgrader removes the folder file by file."""
    course = copy_of(by_hand, tmp_path)
    (course / "autograded" / "ben" / ASSIGNMENT / "timestamp.txt").unlink()
    assert autograde(course, "--student", "ben").graded == ["ben"]


@pytest.mark.slow
def test_autograde_grader_error_costs_nothing(course: Path) -> None:
    """A submission on which the grader fails is not graded, and the next run grades it."""
    undisturbed = copy_of(course, course / "undisturbed")
    assert autograde(undisturbed).status == 0
    first = autograde(course, FAILS="is not valid JSON")
    assert (first.status, first.graded) == (1, ["ada", "cyd"])
    assert "3 submissions: 2 graded, 0 already graded, 1 not graded" in first.log
    assert "Look at ben: not graded" in first.log
    assert set(scores(course, "ben").values()) == {None}
    second = autograde(course)
    assert (second.status, second.graded) == (0, ["ben"])
    assert "3 submissions: 1 graded, 2 already graded, 0 not graded" in second.log
    assert everything(course) == everything(undisturbed)


@pytest.mark.slow
def test_autograde_course_error_stops_run(course: Path) -> None:
    """A missing solution stops the run before anything is graded."""
    (course / "solutions").rename(course / "elsewhere")
    stopped = autograde(course, ASKS=1)
    assert (stopped.status, stopped.graded) == (1, [])
    assert "Grading stopped at" in stopped.log
    assert "autograder build" in stopped.log
    assert "Traceback" not in stopped.log
    assert set(scores(course, "ada").values()) == {None}
    (course / "elsewhere").rename(course / "solutions")
    assert autograde(course).graded == list(STUDENTS)


def test_autograde_unreadable_named_at_end(course: Path) -> None:
    """Unreadable submissions are named at the end of the log."""
    last = autograde(course).log.splitlines()[-3:]
    assert "3 submissions: 3 graded, 0 already graded, 0 not graded" in last[0]
    assert "Look at ben: mini_lab.ipynb is not a notebook" in last[1]
    assert "Look at cyd: The submission has no notebook" in last[2]


@pytest.mark.slow
def test_gradebook_locked_or_damaged(course: Path) -> None:
    """With a locked or damaged gradebook nothing is graded."""
    with closing(sqlite3.connect(course / "gradebook.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        locked = autograde(course)
    assert locked.status == 1
    assert "Nothing was graded: the gradebook cannot be read: database is locked" in locked.log
    kept = (course / "gradebook.db").read_bytes()
    (course / "gradebook.db").write_bytes(b"no database " * 100)
    damaged = autograde(course)
    assert damaged.status == 1
    assert "file is not a database" in damaged.log
    assert "Traceback" not in locked.log + damaged.log
    assert not (course / "autograded").exists()
    (course / "gradebook.db").write_bytes(kept)
    assert autograde(course).graded == list(STUDENTS)


@pytest.mark.slow
def test_autograde_concurrent_run(course: Path) -> None:
    """A submission that another run is grading is left to that run."""
    moments = autograde(copy_of(course, course / "whole")).moments
    assert autograde(course, DIE_AT=moments.index("grade") + 1).status == -signal.SIGKILL
    other = os.open(course, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    second = autograde(course)
    assert "ada: skipped, because another run is grading it" in second.log
    assert second.graded == ["ben", "cyd"]
    os.close(other)
    assert autograde(course).graded == ["ada"]


def test_autograde_command_killed(course: Path) -> None:
    """The shell command, with the real checks, killed in the middle: the next run completes the grading."""
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text().replace("import stand_in", ""))
    for student in ("ada", "cyd"):
        shutil.rmtree(course / "submitted" / student)
    command, log = [sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT], course / "log.txt"
    environment = {**os.environ, "PYTHONPATH": mini_lab.startup()}
    with log.open("wb") as file:
        first = subprocess.Popen(command, cwd=course, env=environment, stderr=file, start_new_session=True)
        while "Autograding" not in log.read_text():
            assert first.poll() is None, log.read_text()
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    assert set(scores(course, "ben").values()) == {None}
    with log.open("wb") as file:
        assert subprocess.run(command, cwd=course, env=environment, stderr=file, check=False).returncode == 0, (
            log.read_text()
        )
    assert "ben: grading was interrupted; it is graded again" in log.read_text()
    assert "1 submission: 1 graded, 0 already graded, 0 not graded" in log.read_text()
    assert set(scores(course, "ben").values()) == {0}
