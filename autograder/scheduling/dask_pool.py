"""Grade submissions on Dask workers, while nbgrader records the results on this machine.

A task carries everything that it needs (a repaired notebook, the release, the solution), so that the machines need no
shared folder, and it returns the results as data. Every worker isolates submissions just as a single machine does.
Whatever happens to the workers and the scheduler, each submission enters the gradebook once: the local nbgrader writes
it when it gets to the submission.

If a worker is lost or falls silent (``distributed.scheduler.worker-ttl``), its submission gets a second attempt on
another worker. If the scheduler is restarted, it receives the unfinished submissions again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import tempfile
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from distributed import Client, Future, KilledWorker
from distributed.comm import CommClosedError
from nbformat import NotebookNode

from amllab.checks.runner import ChecksBrokenError
from autograder.errors import ClusterError, CourseError
from autograder.grading.cache import CachedGrading
from autograder.grading.class_session import ClassSession, GradingConfig
from autograder.notebooks.normalize import NormalizedSubmission, normalize, read_release
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.progress import Progress

log = logging.getLogger(__name__)

_WAIT_SECONDS = 300.0  # for a scheduler with at least one worker
_LOOK_SECONDS = 0.5
# tasks for each thread of a worker: one that runs, one that waits; with more, each lost worker affects more submissions
_AT_HAND = 2
_LOST = (CancelledError, CommClosedError, OSError)


@dataclass(frozen=True)
class CourseSnapshot:
    """The course as a worker needs it: the settings, and the content of the files that their paths name."""

    config: GradingConfig
    release: bytes
    solution: bytes

    @cached_property
    def digest(self) -> str:
        """A digest of everything in the snapshot, which identifies it on the workers."""
        parts = repr(self.config).encode(), self.release, self.solution
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class DaskPool:
    """A pool of Dask workers that grade submissions in the given order.

    Args:
        scheduler: Address of the scheduler.
        session: Session of this process, whose cache stores the results.
        submissions: Student -> path of the submitted notebook.
        again: Also grade submissions that have a cached grading.

    Raises:
        ClusterError: There is no scheduler at the address, or it has no workers.
    """

    def __init__(self, scheduler: str, session: ClassSession, submissions: dict[str, Path], *, again: bool) -> None:
        self._scheduler, self._session, self._again = scheduler, session, again
        self._submissions = submissions
        config = session.config
        self._course = CourseSnapshot(
            replace(config, root=Path(), cache=Path()), config.release.read_bytes(), config.solution.read_bytes()
        )
        self._keys: dict[str, str] = {}
        self._open = list(submissions)  # neither finished nor failed
        self._running: dict[str, Future[Any]] = {}
        self._numbers = itertools.count()
        self._client: Client | None = None
        self._progress = Progress(len(submissions))
        self._connect()

    def result(self, student: str) -> str | None:
        """Wait until a submission is graded; return the key of its grading, or ``None`` if it is not in this pool.

        Raises:
            CourseError, ChecksBrokenError: Raised on a worker, or the cluster cannot grade.
            RuntimeError: Several workers were lost over the submission, or its task failed on a worker.
        """
        if student not in self._submissions:
            return None
        losses = 0
        while student in self._open:
            try:
                self._fill(first=student)
                if student in self._open:
                    self._keep(student, self._result(student))
            except KilledWorker as error:
                losses += 1
                del self._running[student]
                if losses > 1:
                    self._give_up(student)
                    raise RuntimeError(
                        f"{student} is not graded: the workers that graded it were lost several times"
                    ) from error
                log.warning("%s: graded again: its worker was lost", student)
                self._share_course()  # the course itself may be what was lost, and would be lost for good
            except (CourseError, ChecksBrokenError):
                raise
            except Exception as error:
                future = self._running.get(student)
                if future is not None and future.status == "error":
                    self._give_up(student)
                    raise RuntimeError(f"{student} is not graded: a worker failed: {error}") from error
                if not isinstance(error, _LOST):
                    raise
                log.warning("the connection to the scheduler was lost (%s), connecting again", type(error).__name__)
                self._connect()
        return self._keys.pop(student, None)

    def _connect(self) -> None:
        """Connect to a scheduler with workers, and forget the tasks that were given to it before."""
        self._running.clear()
        ends = time.monotonic() + _WAIT_SECONDS
        while True:
            self._disconnect()
            try:
                self._client = Client(self._scheduler, timeout=10, set_as_default=False)
                self._client.wait_for_workers(1, timeout=max(ends - time.monotonic(), 1))
                break
            except (*_LOST, TimeoutError) as error:
                if time.monotonic() > ends:
                    what = "has no workers" if self._client is not None else "does not answer"
                    raise ClusterError(f"the scheduler at {self._scheduler} {what} ({error})") from error
                time.sleep(_LOOK_SECONDS)
        self._share_course()

    def _share_course(self) -> None:
        """Submit the course as a task: Dask runs it where it is needed, and again if the worker that had it is gone."""
        assert self._client is not None
        self._course_there = self._client.submit(_identity, self._course, pure=False)

    def _fill(self, first: str) -> None:
        """Submit as many tasks as the workers can take, beginning with the submission that is waited for."""
        assert self._client is not None
        room = max(_AT_HAND * sum(self._client.nthreads().values()), 1) - len(self._running)
        for student in dict.fromkeys([first, *self._open]):
            if student in self._running or (room < 1 and student != first):
                continue
            repaired = normalize(self._submissions[student], self._session.release)
            key = self._session.key(student, repaired.notebook, repaired)
            if not self._again and self._session.cache.get(key) is not None:
                self._open.remove(student)
                self._keys[student] = key
                continue
            text = nbformat.writes(repaired.notebook)
            name = f"grade-{student}-{key[:8]}-{next(self._numbers)}"
            self._running[student] = self._client.submit(
                _grade, self._course_there, student, text, repaired.notes, repaired.readable, key=name, pure=False
            )
            self._keys[student] = key
            room -= 1

    def _result(self, student: str) -> dict[str, Any]:
        """Wait for the result of one submission.

        Results of others that arrive in the meantime are stored too, which makes room for new tasks.
        """
        while True:
            for other, future in list(self._running.items()):
                if other != student and future.status == "finished":
                    self._keep(other, future.result())
            self._progress.show(len(self._open))
            with contextlib.suppress(TimeoutError):
                found: dict[str, Any] = self._running[student].result(_LOOK_SECONDS)
                return found
            self._fill(first=student)

    def _keep(self, student: str, found: dict[str, Any]) -> None:
        if found["key"] != self._keys[student]:
            raise ClusterError(
                f"the worker on {found['host']} has another version of the packages, the lab, its data, torch, timm or "
                f"Python ({found['versions']}): install the same versions everywhere"
            )
        graded = CachedGrading(**json.loads(found["graded"]))
        if graded.sound:
            self._session.cache.put(found["key"], graded)
        self._open.remove(student)
        del self._running[student]

    def _give_up(self, student: str) -> None:
        self._open.remove(student)
        self._running.pop(student, None)
        self._progress.failed += 1

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*_LOST, TimeoutError):
                client.close(timeout=2)

    def close(self) -> None:
        """Cancel unfinished tasks and disconnect."""
        self._progress.close()
        if self._client is not None:
            with contextlib.suppress(*_LOST, TimeoutError):
                self._client.cancel(list(self._running.values()), force=True)
        self._disconnect()


# Code that runs on the workers

_alone = threading.Lock()  # pytest can run only once at a time in a process
_sessions: dict[str, tuple[ClassSession, tempfile.TemporaryDirectory[str]]] = {}


def _identity(course: CourseSnapshot) -> CourseSnapshot:
    return course


def _grade(course: CourseSnapshot, student: str, text: str, notes: list[str], readable: bool) -> dict[str, Any]:
    """Grade a repaired notebook; return the result, the key under which this worker would cache it, and versions."""
    import platform
    import socket
    from importlib.metadata import version

    with _alone:
        if course.digest not in _sessions:
            _sessions[course.digest] = _session(course)
        session, _ = _sessions[course.digest]
        notebook: NotebookNode = nbformat.reads(text, as_version=4)
        repaired = NormalizedSubmission(notebook, notes, readable)
        key = session.key(student, notebook, repaired)
        graded = session.graded(student, notebook, repaired)
        return {
            "key": key,
            "graded": json.dumps(asdict(graded)),
            "host": socket.gethostname(),
            "versions": f"torch {version('torch')}, timm {version('timm')}, Python {platform.python_version()}",
        }


def _session(course: CourseSnapshot) -> tuple[ClassSession, tempfile.TemporaryDirectory[str]]:
    """Create a session with the course files in its own temporary folder, which is removed when the process ends."""
    place = tempfile.TemporaryDirectory(prefix="amllab-course-")
    folder = Path(place.name)
    release, solution = folder / course.config.release.name, folder / f"solution-{course.config.solution.name}"
    release.write_bytes(course.release)
    solution.write_bytes(course.solution)
    config = replace(course.config, release=release, solution=solution, root=folder, cache=folder / "graded")
    return ClassSession(config, Launcher(config.isolation, folder), read_release(release)), place
