"""A busy machine costs nobody points.

Each submission has its own processors, and a submission that was deprived of them is graded again alone.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from amllab.checks.results import CheckResult
from amllab.lab import Lab
from autograder.errors import WorkerError
from autograder.gradebook.seeds import Seeds
from autograder.grading import class_session
from autograder.grading.class_session import ClassSession
from autograder.grading.worker import Worker
from autograder.notebooks.normalize import NormalizedSubmission
from autograder.sandbox import contention
from autograder.sandbox.contention import Load, Use
from autograder.sandbox.exclusive_turns import Turns
from autograder.sandbox.fork_server import Cores
from autograder.sandbox.launcher import Launcher
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
BUSY = "while True: pass"


@pytest.fixture
def one_core() -> Iterator[int]:
    """Restrict everything that is started meanwhile to one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield min(before)
    os.sched_setaffinity(0, before)


def busy(number: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(number)]


@pytest.mark.slow
def test_contention_detected(one_core: int) -> None:
    """A process that other processes keep from the processor is reported, a sleeping one is not."""
    others = busy(7)
    alone, many = busy(1)[0], subprocess.Popen([sys.executable, "-S", "-c", "import time\ntime.sleep(60)"])
    try:
        kept, asleep = Load(alone.pid, 1), Load(many.pid, 1)
        time.sleep(3)
        said = kept.taken(kept.first)
        assert said.startswith("the machine was busy: in ")
        assert asleep.taken(asleep.first) == ""
    finally:
        for process in (*others, alone, many):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("got", "waited", "stolen", "cores", "busy"),
    [
        (10.0, 0.0, 0.0, 1, False),  # computes all the time
        (0.0, 0.0, 0.0, 1, False),  # sleeps
        (9.5, 2000.0, 0.0, 1, False),  # two hundred processes that share their own processors
        (5.0, 4.9, 0.0, 1, True),
        (0.5, 9.0, 0.0, 2, True),
        (19.0, 30.0, 0.0, 2, False),
        (7.0, 0.0, 3.0, 1, True),  # stolen by the host of a virtual machine
        (9.5, 0.5, 0.1, 1, False),
    ],
)
def test_contention_thresholds(
    monkeypatch: pytest.MonkeyPatch, got: float, waited: float, stolen: float, cores: int, busy: bool
) -> None:
    """Waiting counts as contention only if others took a share of the processor time."""
    uses = iter([Use(100.0, 1.0, 1.0, 1.0), Use(110.0, 1.0 + got, 1.0 + waited, 1.0 + stolen)])
    monkeypatch.setattr(contention, "use", lambda root: next(uses))
    found = Load(1, cores)
    assert bool(found.taken(found.first)) == busy


def test_cores_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processors are divided among the submissions graded at a time."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(2, 10)))
    cores = Cores(3)
    got = []
    for tree in range(4):
        got.append(cores.next())
        cores.taken[tree] = got[-1]
    assert got == [(2, 3), (4, 5), (6, 7), (8, 9)]
    del cores.taken[1]
    assert cores.next() == (4, 5)
    assert Cores(1).next() == ()
    assert [len(share) for share in Cores(20).shares] == [1] * 8


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_cores_per_submission(lab: Lab) -> None:
    """Each submission runs on its own processors and cannot leave them."""
    launcher = Launcher(course=ROOT)
    launcher.at_a_time = 2
    source = "import os, subprocess\nprint(sorted(os.sched_getaffinity(0)))\n"
    source += "print(subprocess.run(['taskset', '-p', 'ff', str(os.getpid())], capture_output=True).returncode)\n"
    notebooks = [nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]) for _ in range(3)]
    first, second, reference = (Worker(lab, notebook, launcher=launcher) for notebook in notebooks)
    reference.own_cores = False
    with reference, first, second:
        seen = [notebook.cells[0].outputs[0]["text"].split("\n")[:2] for notebook in notebooks]
    launcher.close()
    halves = [eval(cores) for cores, _ in seen]
    assert not set(halves[0]) & set(halves[1])
    assert halves[0]
    assert set(halves[2]) == os.sched_getaffinity(0)
    assert all(status != "0" for _, status in seen)


def is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_turns_exclusive_and_fair(tmp_path: Path) -> None:
    """An exclusive turn waits for running ones, and later ones do not overtake it."""
    turns, events = Turns(tmp_path), []

    def alone() -> None:
        with turns.alone():
            events.append("alone")
            time.sleep(0.2)
            events.append("alone ends")

    def later() -> None:
        with Turns(tmp_path).shared():
            events.append("later")

    with turns.shared(), Turns(tmp_path).shared():
        first = threading.Thread(target=alone)
        first.start()
        while is_free(tmp_path / "door"):  # until it holds the door
            time.sleep(0.01)
        second = threading.Thread(target=later)
        second.start()
        events.append("shared ends")
    for thread in (first, second):
        thread.join()
    assert events == ["shared ends", "alone", "alone ends", "later"]


@pytest.mark.parametrize("cause", ["a limit was reached", "it did not start"])
def test_regrade_alone_after_starvation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    """A submission starved of processors is graded again alone: no point is lost, and a line reports it."""
    rounds: list[bool] = []
    turns = Turns(tmp_path)

    def grade(*arguments: Any, **more: Any) -> SimpleNamespace:
        rounds.append(not is_free(tmp_path / "room"))
        first = len(rounds) == 1
        if first and cause == "it did not start":
            raise WorkerError("a worker did not start:\ntimed out")
        result = CheckResult("a", "a", "cell", 5.0, "failed" if first else "passed")
        return SimpleNamespace(
            results=[result], seconds=1.0, stopped=[], crowded="the machine was busy" if first else "", failed=[]
        )

    monkeypatch.setattr(class_session, "grade", grade)
    session = ClassSession.__new__(ClassSession)
    session.__dict__ |= {
        "config": SimpleNamespace(seeds=Seeds(1)),
        "launcher": SimpleNamespace(turns=turns),
        "_reference": SimpleNamespace(failed=None),
        "lab": None,
        "cache": SimpleNamespace(put=lambda key, found: None),
        "key": lambda *arguments: "key",
    }
    graded = session.graded(
        "ada", nbformat.v4.new_notebook(), NormalizedSubmission(nbformat.v4.new_notebook(), [], True)
    )
    assert rounds == [False, True]
    assert graded.earned == 5
    (line,) = graded.attention
    assert line.startswith("graded again while nothing else ran, because a time limit was reached while ")
