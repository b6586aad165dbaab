"""Grading ahead: processes that grade the class on all cores, while nbgrader goes through it one by one.

Every process is a judge of its own; all of them share one fork server for the workers of submissions, and one reference. What they find is kept
(:mod:`autograder.grading.cache`), and taken from there when nbgrader comes to a submission: the same scores, book and log as one after
the other. A judge that dies costs its submission a second attempt, and the others nothing.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceServer
from autograder.grading.session import GradingConfig, GradingSession
from autograder.notebooks.normalize import read_release, repair
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.progress import Progress

log = logging.getLogger(__name__)


_SUBMISSIONS_A_PROCESS = 200  # then it makes room for a new one: its reference keeps what it has answered
_LOOK_SECONDS = 0.5


# In the processes that grade ahead

_session: GradingSession | None = None


def _begin(setting: GradingConfig, address: str, reference: str | None) -> None:
    global _session
    launcher = Launcher(setting.isolation, setting.root, address=address)
    _session = GradingSession(setting, launcher, read_release(setting.release), reference)


def _grade_in_process(student: str, path: Path, again: bool) -> str:
    """Grades what was handed in, unless that was done before; returns the key that it is kept under."""
    assert _session is not None
    repaired = repair(path, _session.release)
    key = _session.key(student, repaired.notebook, repaired)
    if again or _session.cache.get(key) is None:
        _session.graded(student, repaired.notebook, repaired)
        gc.collect()  # pytest leaves cycles that hold the answers: without it every submission takes up more memory
    return key


def _with_readable_errors(grade_in_process: Callable[..., str], *arguments: Any) -> str:
    """Grades a submission; an error that another process could not read would end the grading of all others."""
    try:
        return grade_in_process(*arguments)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(traceback.format_exc()) from None
        raise


# In the process of nbgrader


class LocalPool:
    """Processes that grade submissions in the order in which they are given.

    Args:
        setting: of the course.
        launcher: whose fork server is shared.
        submissions: student -> notebook as handed in.
        jobs: number of processes.
        again: also grades those of which a grading is kept.
        seconds: that one submission may take at most, in all; a process that needs longer is ended.
        reference: makes the one that all processes ask; by default each starts its own.
    """

    def __init__(
        self,
        setting: GradingConfig,
        launcher: Launcher,
        submissions: dict[str, Path],
        *,
        jobs: int,
        again: bool,
        seconds: float,
        reference: Callable[[], Reference] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "autograder.scheduling.preload"])
        launcher.at_a_time = jobs
        forkserver.ensure_running()  # it imports while the launcher's server does so too
        address = launcher.address
        self._serving = ReferenceServer(reference()) if reference is not None else None
        arguments = (setting, address, self._serving and self._serving.address)
        self._pool = ProcessPool(jobs, _SUBMISSIONS_A_PROCESS, initializer=_begin, initargs=arguments, context=context)
        self._schedule: Callable[[str], ProcessFuture] = lambda student: self._pool.schedule(
            # a second time alone, and waiting for the others before it
            _with_readable_errors,
            args=[_grade_in_process, student, submissions[student], again],
            timeout=3 * seconds,
        )
        self._waiting = {student: self._schedule(student) for student in submissions}
        self._progress = Progress(len(submissions))

    def result(self, student: str) -> str | None:
        """Waits until a submission is graded; returns the key of its grading, or ``None`` if it was not among those given.

        Raises:
            (CourseError, ChecksBroken): as the process met them.
            RuntimeError: two processes ended over it.
        """
        for last in (False, True):
            future = self._waiting.get(student)
            if future is None:
                return None
            try:
                key: str = self._result(future)
            except (ProcessExpired, NotYet) as error:
                what = f"the process that graded it {_end(error)}"
                if last:
                    self._progress.failed += 1
                    raise RuntimeError(f"{student} is not graded: {what}, twice") from error
                log.warning("%s: once more, %s", student, what)
                self._waiting[student] = self._schedule(student)
            else:
                del self._waiting[student]
                return key
        raise AssertionError

    def _result(self, future: ProcessFuture) -> Any:
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except NotYet:
                if future.done():  # by its own limit of time, or just now
                    return future.result()
            finally:
                self._progress.show(sum(not future.done() for future in self._waiting.values()))

    def close(self) -> None:
        """Ends all processes, also in the middle of their work."""
        self._progress.close()
        self._pool.stop()
        self._pool.join()
        if self._serving is not None:
            self._serving.close()


def _end(error: BaseException) -> str:
    return f"ended (status {error.exitcode})" if isinstance(error, ProcessExpired) else "took too long"
