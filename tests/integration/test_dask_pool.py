"""Grading by the workers of a real Dask scheduler, which are killed and stopped: everyone is graded, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.labs.corpus import Solution
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, autograded, nbgrader, new_course, scores, submit
from tests.helpers import stub_graders
from tests.helpers.dask_cluster import BUSY, SILENT, Cluster
from tests.helpers.notebooks import notebook_of

pytest.importorskip("distributed", reason="grading on several machines needs the extra 'cluster'")

from autograder.errors import ClusterError, IsolationError
from autograder.gradebook.seeds import Seeds
from autograder.grading.cache import FOLDER
from autograder.grading.class_session import ClassSession, GradingConfig
from autograder.notebooks.normalize import normalize, read_release
from autograder.sandbox.launcher import Launcher
from autograder.scheduling import dask_pool
from autograder.scheduling.dask_pool import DaskPool


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Yield a scheduler with one worker; the optional parameter is the time after which silent workers are given up."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder, getattr(request, "param", BUSY))
    made.start_scheduler()
    made.start_worker()
    yield made
    made.stop()


@pytest.fixture
def submissions(tmp_path: Path, release: NotebookNode) -> Any:
    """Return a function that writes students' notebooks, and returns a grading session and their paths."""

    def submit_all(*students: str) -> tuple[ClassSession, dict[str, Path]]:
        seen = tmp_path / "seen"
        seen.mkdir(exist_ok=True)
        setting = GradingConfig(
            ASSIGNMENT, {"folder": str(seen)}, ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, ROOT / "solutions" / ASSIGNMENT / NOTEBOOK,
            tmp_path, tmp_path / FOLDER, Seeds(1), "namespaces",
        )  # fmt: skip
        session = ClassSession(setting, Launcher(), read_release(setting.release))
        paths = {}
        for student in students:
            paths[student] = tmp_path / "submitted" / student / NOTEBOOK
            paths[student].parent.mkdir(parents=True)
            own = nbformat.v4.new_code_cell(f"# {student}")  # the same code would have the same, cached, grading
            nbformat.write(nbformat.v4.new_notebook(cells=[*release.cells, own]), paths[student])
            repaired = normalize(paths[student], session.release)
            (seen / f"key of {student}").write_text(session.key(student, repaired.notebook, repaired))
        return session, paths

    return submit_all


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "_grade", stub_graders.grade_elsewhere)


def gradings(session: ClassSession, student: str) -> int:
    return len(list(Path(session.config.limits["folder"]).glob(f"{student}-*")))


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_dask_errors_and_lost_scheduler(cluster: Cluster, submissions: Any) -> None:
    """An error affects only its own submission; a restarted scheduler affects none, and cached gradings are reused."""
    students = ["a", "full", "slow b", "slow c", "d"]
    session, paths = submissions(*students)
    running = DaskPool(cluster.address, session, paths, again=False)
    assert running.result("nobody") is None
    key = running.result("a")
    assert key is not None
    graded = session.cache.get(key)
    assert graded is not None
    assert graded.attention == [f"graded by {cluster.workers[0].pid}"]
    with pytest.raises(RuntimeError, match="full is not graded: a worker failed: no space left on device"):
        running.result("full")

    # the scheduler is restarted while b is graded; its workers reconnect, or new ones do
    while not gradings(session, "slow b"):
        time.sleep(0.02)
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    cluster.start_scheduler()
    cluster.start_worker()
    for student in ("slow b", "slow c", "d"):
        key = running.result(student)
        assert key is not None
        assert session.cache.get(key) is not None
    running.close()

    # cached gradings are not repeated unless requested
    before = gradings(session, "d")
    running = DaskPool(cluster.address, session, {"d": paths["d"]}, again=False)
    assert running.result("d") == key
    assert gradings(session, "d") == before
    running.close()
    running = DaskPool(cluster.address, session, {"d": paths["d"]}, again=True)
    assert running.result("d") == key
    assert gradings(session, "d") == before + 1
    running.close()


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("cluster", [SILENT], indirect=True)
def test_dask_workers_lost_or_silent(cluster: Cluster, submissions: Any) -> None:
    """Submissions of lost and silent workers are graded by others, unless they kill their workers."""
    session, paths = submissions("slow a", "kills", "b")
    running = DaskPool(cluster.address, session, paths, again=False)
    while not gradings(session, "slow a"):
        running._fill(first="slow a")
        time.sleep(0.02)
    cluster.workers[0].send_signal(signal.SIGSTOP)  # while it grades a
    for _ in range(3):
        cluster.start_worker()
    key = running.result("slow a")
    assert key is not None
    graded = session.cache.get(key)
    assert graded is not None
    assert graded.attention != [f"graded by {cluster.workers[0].pid}"]
    with pytest.raises(RuntimeError, match="kills is not graded: the workers that graded it were lost several times"):
        running.result("kills")
    assert 1 <= gradings(session, "kills") <= 2  # it may have been lost with a worker that fell silent first
    assert running.result("b") is not None
    running.close()


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_dask_worker_lost_with_course(cluster: Cluster, submissions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is lost while it receives the course is replaced."""
    monkeypatch.setattr(dask_pool, "_identity", stub_graders.identity)
    session, paths = submissions("a", "b")
    running = DaskPool(cluster.address, session, paths, again=False)
    cluster.start_worker()
    assert None not in (running.result("a"), running.result("b"))
    assert gradings(session, "a") == gradings(session, "b") == 1
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    running.close()


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_dask_course_errors_propagate(cluster: Cluster, submissions: Any) -> None:
    """Errors of the course and differing versions of workers are raised."""
    session, paths = submissions("fault", "other")
    running = DaskPool(cluster.address, session, paths, again=False)
    with pytest.raises(IsolationError, match="no namespaces here"):
        running.result("fault")
    with pytest.raises(ClusterError, match=r"has another version .*torch 0\.1.*install the same versions everywhere"):
        running.result("other")
    running.close()


@pytest.mark.slow
def test_dask_no_scheduler(submissions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheduler nothing is graded."""
    monkeypatch.setattr(dask_pool, "_WAIT_SECONDS", 1.0)
    session, paths = submissions("a")
    with pytest.raises(ClusterError, match=r"the scheduler at tcp://127\.0\.0\.1:9 does not answer"):
        DaskPool("tcp://127.0.0.1:9", session, paths, again=False)


# The real command


@pytest.mark.slow
def test_dask_class_with_killed_worker(cluster: Cluster, release: NotebookNode, tmp_path: Path) -> None:
    """With one of two workers killed, everyone is graded once, with the same result as on this machine alone."""
    cluster.start_worker()
    (tmp_path / "course").mkdir()
    course = new_course(tmp_path / "course")
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(f"c.GradeChecks.scheduler = {cluster.address!r}\n")
    freeze = Solution("x", sources={"build_transfer_model": "", "train_with_early_stopping": ""})
    submit(course, "a", b"not a notebook")
    for student in "bcd":
        submit(course, student, notebook_of(freeze, release))
    command = [sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, cwd=course, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and len(list(course.glob(f"{FOLDER}/*.json"))) < 2:
            time.sleep(0.05)
        cluster.workers[0].kill()
        _, log = run.communicate(timeout=300)
    assert run.returncode == 0, log
    assert f"Grading 4 submissions on the workers of {cluster.address}" in log
    by_cluster = {student: (scores(course, student), reports(course, student)) for student in "abcd"}
    assert [sum(filter(None, by_cluster[student][0].values())) for student in "abcd"] == [0, 20, 20, 20]
    with (course / "nbgrader_config.py").open("a") as config:
        config.write('c.GradeChecks.scheduler = ""\n')
    done = nbgrader(course, "autograde", ASSIGNMENT, "--force")
    assert done.returncode == 0, done.stderr
    assert {student: (scores(course, student), reports(course, student)) for student in "abcd"} == by_cluster


def reports(course: Path, student: str) -> list[str]:
    """Return all report texts, without times."""
    cells = [cell for cell in autograded(course, student).cells if cell.cell_type == "code"]
    return [output.get("data", {}).get("text/plain", "") for cell in cells for output in cell.outputs]
