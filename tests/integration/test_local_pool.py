"""A class graded on several processes: scores and gradebook as with a single one, faults affect one student only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest
from nbformat import NotebookNode

from amllab.lab import Lab
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from autograder.errors import IsolationError
from autograder.grading.cache import FOLDER, CachedGrading, GradingCache, key_of, written
from autograder.labs.corpus import Solution
from autograder.notebooks.metadata import is_autograded, scores_of
from autograder.scheduling import capacity, local_pool
from autograder.scheduling.capacity import choose_jobs
from autograder.scheduling.local_pool import LocalPool
from tests.conftest import ASSIGNMENT, NOTEBOOK, autograded, nbgrader, new_course, scores, submit
from tests.helpers import stub_graders
from tests.helpers.notebooks import notebook_of

# Processes


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a function that starts a pool with stub graders."""
    monkeypatch.setattr(local_pool, "_begin", stub_graders.begin)
    monkeypatch.setattr(local_pool, "_grade_in_process", stub_graders.grade)
    running: list[LocalPool] = []

    def start(*students: str, seconds: float = 60, again: bool = False) -> LocalPool:
        submissions = dict.fromkeys(students, tmp_path)
        launcher: Any = SimpleNamespace(address="nowhere")
        config: Any = SimpleNamespace(assignment=ASSIGNMENT)
        running.append(LocalPool(config, launcher, submissions, jobs=2, again=again, seconds=seconds))
        return running[-1]

    yield start
    for one in running:
        one.close()


def test_pool_grades_each_once(started: Any, tmp_path: Path) -> None:
    """Every submission is graded once, on several processes."""
    students = [f"s{i}" for i in range(12)]
    running = started(*students)
    assert [running.result(student) for student in students] == [f"key of {student}, once" for student in students]
    assert running.result("s0") is None
    assert running.result("nobody") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{student}-0" for student in students)
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 2


def test_pool_retries_after_crash(started: Any, tmp_path: Path) -> None:
    """A submission whose process ended gets a second attempt."""
    running = started("stumbles", "a", "b", again=True)
    assert running.result("stumbles") == "key of stumbles, again"
    assert [running.result(student) for student in "ab"] == ["key of a, again", "key of b, again"]
    assert len(list(tmp_path.glob("stumbles-*"))) == 2


def test_pool_crash_or_hang_isolated(started: Any) -> None:
    """Processes that end or hang twice affect only their own submission."""
    running = started("a", "dies", "b", "hangs", "c", seconds=2)
    assert running.result("a") == "key of a, once"
    with pytest.raises(
        RuntimeError, match=r"dies is not graded: the process that graded it ended \(status -?9\), twice"
    ):
        running.result("dies")
    assert running.result("b") == "key of b, once"
    with pytest.raises(RuntimeError, match="hangs is not graded: the process that graded it took too long, twice"):
        running.result("hangs")
    assert running.result("c") == "key of c, once"


def test_pool_course_error_propagates(started: Any) -> None:
    """An error of the course is raised unchanged."""
    running = started("a", "fault")
    with pytest.raises(IsolationError, match="no namespaces here"):
        running.result("fault")


def test_pool_unpicklable_error_isolated(started: Any) -> None:
    """An error that cannot be unpickled affects only its own submission."""
    running = started("a", "odd", "b", "c")
    with pytest.raises(RuntimeError, match="SubmissionError: budget: no time left"):
        running.result("odd")
    assert [running.result(student) for student in "abc"] == [f"key of {student}, once" for student in "abc"]


def test_pool_close_kills_processes(started: Any, tmp_path: Path) -> None:
    """Closing the pool ends processes in the middle of their work."""
    running = started("hangs", "hangs too")
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.02)
    workers = [int(path.read_text()) for path in tmp_path.iterdir()]
    running.close()
    assert not any(psutil.pid_exists(worker) for worker in workers)


def test_jobs_fit_cores_and_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default number of processes is limited by cores, memory and submissions."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    each = lab.limits["memory_bytes"]
    for at_hand, wanted, submissions, number in (
        (100 * each, 0, 40, 8),
        (100 * each, 3, 40, 3),
        (100 * each, 12, 40, 12),
        (100 * each, 0, 5, 5),
        (2.5 * each, 0, 40, 2),
        (0.5 * each, 0, 40, 1),
    ):
        monkeypatch.setattr(capacity, "_available", lambda at_hand=at_hand: int(at_hand))
        assert choose_jobs(wanted, lab.limits["memory_bytes"], range(submissions))[0] == number
    assert "GB of memory" in choose_jobs(0, lab.limits["memory_bytes"], range(9))[1]


# Cache

GRADED = CachedGrading({"3": {"outputs": [], "execution_count": None}}, 1.0, 2.0, 3.0, ["look"])


def test_cache_round_trip(tmp_path: Path) -> None:
    """A stored grading is returned, from a file that only its owner can read."""
    kept = GradingCache(tmp_path / FOLDER)
    assert kept.get("a") is None
    kept.put("a", GRADED)
    assert kept.get("a") == GRADED
    assert kept.get("b") is None
    assert (tmp_path / FOLDER).stat().st_mode & 0o077 == 0
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["a.json"]


def test_cache_truncated_file(tmp_path: Path) -> None:
    """Truncated and foreign files in the cache are ignored."""
    kept = GradingCache(tmp_path)
    kept.put("a", GRADED)
    whole = (tmp_path / "a.json").read_bytes()
    for content in (whole[:-20], b"", json.dumps({"format": 0, "graded": {}}).encode()):
        (tmp_path / "a.json").write_bytes(content)
        assert kept.get("a") is None


def test_cache_restores_outputs(release: NotebookNode) -> None:
    """Cached outputs are restored in their cells."""
    notebook, other = (nbformat.from_dict(json.loads(nbformat.writes(release))) for _ in range(2))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for i, cell in enumerate(cells):
        cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text=f"output {i}")], i
    cells[2].outputs = []
    left = notebook.cells.index(cells[1])
    for cell in notebook.cells:
        if is_autograded(cell):
            cell.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=1)]
    CachedGrading(written(notebook, [left]), 0, 0, 0, [], scores=scores_of(notebook)).write(other)  # type: ignore[arg-type]
    assert other.cells[left].outputs == release.cells[left].outputs
    notebook.cells[left].update(outputs=other.cells[left].outputs, execution_count=other.cells[left].execution_count)
    assert other == notebook


def test_cache_key_inputs(lab: Lab, release: NotebookNode) -> None:
    """The cache key depends on code, seed, notes and limits, but not on text or outputs."""

    def key(seed: int = 1, notes: tuple[str, ...] = (), lab: Lab = lab, **changes: str) -> str:
        notebook = nbformat.from_dict(json.loads(nbformat.writes(release)))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source += changes.get("code", "")
                cell.outputs = [nbformat.v4.new_output("stream", text=changes.get("output", ""))]
            else:
                cell.source += changes.get("prose", "")
        return key_of(notebook, lab, seed=seed, notes=list(notes))

    other_limits = Lab(**{**vars(lab), "limits": {**lab.limits, "answer_seconds": 1}})
    assert key() == key(output="another") == key(prose="another")
    assert len({key(), key(seed=2), key(notes=("repaired",)), key(code="\n#"), key(lab=other_limits)}) == 5


# The real command


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> Path:
    course = new_course(tmp_path_factory.mktemp("course"))
    untrained = {"train_with_early_stopping": ""}
    submit(course, "ada", notebook_of(Solution("ada", sources=untrained), release))
    (wrong,) = [variant for variant in TYPICAL if variant.name == "head_not_replaced"]
    submit(course, "ben", notebook_of(Solution("ben", sources={**wrong.sources, **untrained}), release))
    submit(course, "cyd", b"not a notebook")
    submit(course, "dan", release)
    return course


STUDENTS = ("ada", "ben", "cyd", "dan")


def at_a_time(course: Path, number: int) -> None:
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text() + f"c.GradeChecks.jobs = {number}\n")


def book(course: Path) -> dict[str, Any]:
    """Return scores and graded notebooks, without times and without printed text, which contains random numbers."""
    found: dict[str, Any] = {}
    for student in STUDENTS:
        notebook = autograded(course, student)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if output["output_type"] == "stream":
                    output["text"] = ""
                stored = output.get("metadata", {}).get("amllab", {})
                for part in (*stored.get("checks", []), stored.get("submission", {})):
                    part.pop("seconds", None)
        found[student] = scores(course, student), notebook
    return found


@pytest.mark.slow
def test_autograde_parallel_interrupt_resume(course: Path) -> None:
    """An interrupted parallel run ends at once; the next run continues, with the result of a serial run."""
    at_a_time(course, 2)
    command = [sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command,
        cwd=course,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # processes that a shell starts in the background ignore interrupts, and so do their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        kept = course / FOLDER
        while run.poll() is None and not (kept.is_dir() and any(kept.glob("*.json"))):
            time.sleep(0.05)
        below = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)
        _, log = run.communicate(timeout=60)
    assert "Grading 4 submissions, 2 at a time (as configured)" in log
    assert run.returncode != 0, log
    assert below
    assert not psutil.wait_procs(below, timeout=5)[1]

    before = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.json")}
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    after = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.json")}
    assert before
    assert before.items() <= after.items()  # not graded again
    assert len(after) == len(STUDENTS)  # and nbgrader used what was graded in parallel
    graded_ahead = book(course)
    points = {student: sum(filter(None, scores.values())) for student, (scores, _) in graded_ahead.items()}
    assert points["ada"] == 40
    assert 20 < points["ben"] < 40
    assert points["cyd"] == points["dan"] == 0

    # cached gradings equal new ones
    shutil.rmtree(course / "autograded")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "at a time" not in done.stderr
    assert book(course) == graded_ahead
    assert {file.name: file.stat().st_mtime_ns for file in kept.glob("*.json")} == after

    # --force grades again; one at a time gives the same result
    at_a_time(course, 1)
    done = nbgrader(course, "autograde", ASSIGNMENT, "--force")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert book(course) == graded_ahead
    again = {file.name: file.stat().st_mtime_ns for file in kept.glob("*.json")}
    assert again.keys() == after.keys()
    assert all(again[name] > after[name] for name in after)
    assert (course / "autograded" / "ada" / ASSIGNMENT / NOTEBOOK).is_file()
