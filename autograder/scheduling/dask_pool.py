"""Grading on other machines: the workers of a Dask scheduler grade, nbgrader keeps its book here.

A task carries everything that it needs (a repaired notebook, the release, the solution), so that the machines share no
folder; back comes what grading made of it, as data. Every worker isolates submissions as one machine does. Whatever becomes
of workers and scheduler, each submission enters the gradebook once: it is nbgrader here that writes it, when its turn has come.

A worker that is lost, or falls silent (``distributed.scheduler.worker-ttl``), costs its submission a second attempt elsewhere. A
scheduler that is restarted gets what was not finished.
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
from pathlib import Path
from typing import Any

import nbformat
from distributed import Client, Future, KilledWorker
from distributed.comm import CommClosedError
from nbformat import NotebookNode

from amllab.checks.run import ChecksBroken
from autograder.errors import ClusterError, CourseError
from autograder.grading.cache import CachedGrading
from autograder.grading.session import GradingConfig, GradingSession
from autograder.notebooks.normalize import NormalizedSubmission, read_release, repair
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.progress import Progress

log = logging.getLogger(__name__)

_WAIT_SECONDS = 300.0  # for a scheduler, and for a first worker
_LOOK_SECONDS = 0.5
_AT_HAND = 2  # tasks for each thread of a worker: one that runs, one that waits. Who is assigned more suffers with every lost worker
_LOST = (CancelledError, CommClosedError, OSError)


@dataclass(frozen=True)
class Course:
    """What a worker needs to know: the setting, and the files that its paths name."""

    setting: GradingConfig
    release: bytes
    solution: bytes

    @property
    def digest(self) -> str:
        parts = repr(self.setting).encode(), self.release, self.solution
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class DaskPool:
    """Submissions graded by the workers of a scheduler, in the order in which they are given.

    Args:
        scheduler: its address.
        judge: of this process: keeps what comes back.
        submissions: student -> notebook as handed in.
        again: also grades those of which a grading is kept.

    Raises:
        ClusterError: there is no scheduler at the address, or it has no workers.
    """

    def __init__(self, scheduler: str, session: GradingSession, submissions: dict[str, Path], *, again: bool) -> None:
        self._scheduler, self._session, self._again = scheduler, session, again
        self._submissions = submissions
        setting = session.setting
        self._course = Course(
            replace(setting, root=Path(), cache=Path()), setting.release.read_bytes(), setting.solution.read_bytes()
        )
        self._keys: dict[str, str] = {}
        self._open = list(submissions)  # neither finished nor failed
        self._running: dict[str, Future] = {}
        self._numbers = itertools.count()
        self._client: Client | None = None
        self._progress = Progress(len(submissions))
        self._connect()

    def result(self, student: str) -> str | None:
        """Waits until a submission is graded; returns the key of its grading, or ``None`` if it was not among those given.

        Raises:
            (CourseError, ChecksBroken): as a worker met them.
            RuntimeError: several workers were lost over it.
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
                    raise RuntimeError(f"{student} is not graded: its workers were lost, several times") from error
                log.warning("%s: once more, its worker was lost", student)
                self._share_course()  # it may be what was lost, and would be lost for good
            except (CourseError, ChecksBroken):
                raise
            except Exception as error:
                future = self._running.get(student)
                if future is not None and future.status == "error":
                    self._give_up(student)
                    raise RuntimeError(f"{student} is not graded, a worker failed: {error}") from error
                if not isinstance(error, _LOST):
                    raise
                log.warning("the scheduler was lost (%s), and is looked for again", type(error).__name__)
                self._connect()
        return self._keys.pop(student, None)

    def _connect(self) -> None:
        """To a scheduler with workers, and with nothing of what it may have been given before."""
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
        """Computed where it is needed, and again where the worker that had it is gone."""
        assert self._client is not None
        self._course_there = self._client.submit(_same, self._course, pure=False)

    def _fill(self, first: str) -> None:
        """Hands out as many submissions as the workers can take, the one that is waited for before all others."""
        assert self._client is not None
        room = max(_AT_HAND * sum(self._client.nthreads().values()), 1) - len(self._running)
        for student in dict.fromkeys([first, *self._open]):
            if student in self._running or (room < 1 and student != first):
                continue
            repaired = repair(self._submissions[student], self._session.release)
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
        """What came back for one; those that came in the meantime are kept too, so that others can be handed out."""
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
                f"the worker on {found['host']} grades with another version of the packages, or of torch, timm or Python "
                f"({found['versions']}): install the same everywhere"
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
        """Gives back what is not finished."""
        self._progress.close()
        if self._client is not None:
            with contextlib.suppress(*_LOST, TimeoutError):
                self._client.cancel(list(self._running.values()), force=True)
        self._disconnect()


# On the workers

_alone = threading.Lock()  # pytest runs once at a time in a process
_sessions: dict[str, tuple[GradingSession, tempfile.TemporaryDirectory[str]]] = {}


def _same(course: Course) -> Course:
    return course


def _grade(course: Course, student: str, text: str, notes: list[str], readable: bool) -> dict[str, Any]:
    """Grades a repaired notebook; returns the key that this worker would keep it under, and what came of it."""
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


def _session(course: Course) -> tuple[GradingSession, tempfile.TemporaryDirectory[str]]:
    """A judge with the files of the course in a folder of its own, which goes with the process."""
    place = tempfile.TemporaryDirectory(prefix="amllab-course-")
    folder = Path(place.name)
    release, solution = folder / course.setting.release.name, folder / f"solution-{course.setting.solution.name}"
    release.write_bytes(course.release)
    solution.write_bytes(course.solution)
    setting = replace(course.setting, release=release, solution=solution, root=folder, cache=folder / "graded")
    return GradingSession(setting, Launcher(setting.isolation, folder), read_release(release)), place
