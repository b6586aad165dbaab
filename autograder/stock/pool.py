"""Runs of several submissions at a time, in threads: they only wait for the process trees where notebooks run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from autograder.stock.notebook_run import Job, Outcome, Runner

_Task = tuple[str, Sequence[Job], Mapping[str, Path], "Future[Outcome]"]


class RunPool:
    """A pool of threads that run submissions in the order in which they come.

    The threads do not keep the program from ending.

    Args:
        runner: Runs a submission.
        jobs: Number of submissions to run at a time.

    Attributes:
        size: Number of submissions that run at a time.
    """

    def __init__(self, runner: Runner, jobs: int) -> None:
        self._runner, self.size = runner, jobs
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._futures: dict[str, Future[Outcome]] = {}
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def add(self, student: str, jobs: Sequence[Job], files: Mapping[str, Path]) -> None:
        """Add a submission."""
        future: Future[Outcome] = Future()
        self._futures[student] = future
        self._tasks.put((student, jobs, files, future))

    def __len__(self) -> int:
        return len(self._futures)

    def __contains__(self, student: str) -> bool:
        return student in self._futures

    def take(self, student: str) -> Outcome:
        """Wait for a submission's outcome, and forget it.

        Raises:
            IsolationError, WorkerError, OSError: As raised by the runner.
        """
        return self._futures.pop(student).result()

    def close(self) -> None:
        """Begin no further submission."""
        for future in self._futures.values():
            future.cancel()
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            student, jobs, files, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._runner.run(student, jobs, files))
            except BaseException as error:
                future.set_exception(error)
