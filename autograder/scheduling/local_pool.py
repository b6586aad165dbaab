"""Grade a class in parallel, on all cores, while nbgrader records the results one at a time.

Every process has its own grading session; all share one fork server for the workers of submissions, and one reference.
The results are cached (:mod:`autograder.grading.cache`), and nbgrader takes them from the cache when it gets to a
submission, so that scores, gradebook and log are the same as in a sequential run. If a process dies, its submission
gets a second attempt, and the others are not affected.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from amllab.sockets import use_short_paths
from autograder.grading.class_session import ClassSession, GradingConfig
from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceServer
from autograder.notebooks.normalize import normalize, read_release
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.progress import Progress

log = logging.getLogger(__name__)


_SUBMISSIONS_A_PROCESS = 200  # then a new process replaces it, since its reference caches all answers
_LOOK_SECONDS = 0.5
PRELOADED_LAB = "AMLLAB_PRELOADED_LAB"  # variable that names the lab to autograder.scheduling.preload


# Code that runs in the grading processes

_session: ClassSession | None = None


def _begin(config: GradingConfig, address: str, reference: str | None) -> None:
    global _session
    launcher = Launcher(config.isolation, config.root, address=address)
    _session = ClassSession(config, launcher, read_release(config.release), reference)


def _grade_in_process(student: str, path: Path, again: bool) -> str:
    """Grade a submission unless its grading is cached; return the key of the grading."""
    assert _session is not None
    repaired = normalize(path, _session.release)
    key = _session.key(student, repaired.notebook, repaired)
    if again or _session.cache.get(key) is None:
        _session.graded(student, repaired.notebook, repaired)
        gc.collect()  # pytest leaves reference cycles that hold the answers, and memory would grow
    return key


def _with_readable_errors(grade_in_process: Callable[..., str], *arguments: Any) -> str:
    """Grade a submission, and replace an error that cannot be pickled.

    The nbgrader process could not read such an error, which would end the grading of all other submissions.
    """
    try:
        return grade_in_process(*arguments)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(traceback.format_exc()) from None
        raise


# Code that runs in the nbgrader process


class LocalPool:
    """A pool of processes that grade submissions in parallel, in the given order.

    Args:
        config: Settings of the course.
        launcher: Launcher whose fork server the processes share.
        submissions: Student -> path of the submitted notebook.
        jobs: Number of processes.
        again: Also grade submissions that have a cached grading.
        seconds: Time that grading one submission may take. A process that needs three times as long is ended: the rest
            is for grading again exclusively, and for waiting for the others before that.
        reference: Creates the reference that all processes share; by default each process starts its own.
    """

    def __init__(
        self,
        config: GradingConfig,
        launcher: Launcher,
        submissions: dict[str, Path],
        *,
        jobs: int,
        again: bool,
        seconds: float,
        reference: Callable[[], Reference] | None = None,
    ) -> None:
        use_short_paths()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "autograder.scheduling.preload"])
        launcher.at_a_time = jobs
        # Python keeps the working directory out of the import path
        with patch.dict(os.environ, {PRELOADED_LAB: config.assignment, "PYTHONSAFEPATH": "1"}):
            forkserver.ensure_running()  # it imports its modules while the launcher's fork server does the same
        address = launcher.address
        self._serving = ReferenceServer(reference()) if reference is not None else None
        arguments = (config, address, self._serving and self._serving.address)
        self._pool = ProcessPool(jobs, _SUBMISSIONS_A_PROCESS, initializer=_begin, initargs=arguments, context=context)
        self._schedule: Callable[[str], ProcessFuture[Any]] = lambda student: self._pool.schedule(
            _with_readable_errors,
            args=[_grade_in_process, student, submissions[student], again],
            timeout=3 * seconds,  # also to wait for the others and grade again exclusively
        )
        self._waiting = {student: self._schedule(student) for student in submissions}
        self._progress = Progress(len(submissions))

    def result(self, student: str) -> str | None:
        """Wait until a submission is graded; return the key of its grading, or ``None`` if it is not in this pool.

        Raises:
            CourseError, ChecksBrokenError: Raised in the grading process.
            RuntimeError: Two processes died or took too long over the submission, or its error could not be pickled.
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
                log.warning("%s: graded again: %s", student, what)
                self._waiting[student] = self._schedule(student)
            else:
                del self._waiting[student]
                return key
        raise AssertionError

    def _result(self, future: ProcessFuture[Any]) -> Any:
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except NotYet:
                if future.done():  # at its own time limit, or just now
                    return future.result()
            finally:
                self._progress.show(sum(not future.done() for future in self._waiting.values()))

    def close(self) -> None:
        """End all processes, even in the middle of their work."""
        self._progress.close()
        self._pool.stop()
        self._pool.join()
        if self._serving is not None:
            self._serving.close()


def _end(error: BaseException) -> str:
    return f"ended (status {error.exitcode})" if isinstance(error, ProcessExpired) else "took too long"
