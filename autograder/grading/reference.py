"""The reference solution, which answers the questions of the checks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat

from amllab.lab import Lab
from amllab.protocol.submission import Submission, SubmissionError
from autograder.errors import CourseError, ReferenceFailedError
from autograder.grading.worker import Worker
from autograder.notebooks.metadata import skipped_cells
from autograder.sandbox.launcher import Launcher


class Reference(Submission):
    """The instructor's solution: a submission like any other, started on the first question and reused for the class.

    Args:
        lab: The lab that this solution belongs to.
        path: Path of the solved notebook.
        launcher: Starts the workers.

    Attributes:
        failed: The last error, if any. A check that could not ask the reference is broken, and says nothing about the
            submission.
    """

    def __init__(self, lab: Lab, path: Path, launcher: Launcher | None = None) -> None:
        super().__init__(lab.name)
        self._lab, self._path, self._launcher = lab, path, launcher
        self._workers: list[Worker] = []  # at most one for each check cell
        self.failed: Exception | None = None

    def start(self) -> None:
        """Run the cells above the first check cell now, before the first question.

        If that fails, the first question tries again, and raises the error.
        """
        with suppress(CourseError):
            self._workers.append(self._started())

    def exchange(self, question: bytes) -> bytes:
        """Put the question to the worker that has run the cells above the current check cell."""
        return self._reached().exchange(question)

    def ask(self, probe: str, /, **arguments: Any) -> Any:
        """Ask the reference, as any submission is asked.

        Raises:
            ReferenceFailedError: The solution is missing or gave no answer.
            WorkerError, LabError, IsolationError: No process could be started for the solution.
        """
        try:
            return super().ask(probe, **arguments)
        except SubmissionError as error:
            self.failed = ReferenceFailedError(f"the reference failed on {probe}: {error}")
            raise self.failed from error
        except CourseError as error:
            self.failed = error
            raise

    def _reached(self) -> Worker:
        """Return a worker that has run the cells above the check cell, and none below it.

        A worker that was asked about a later check cell has run too much and does not qualify.
        """
        if any(w.seconds_left < self._lab.limits["total_seconds"] / 2 for w in self._workers):
            self.close()  # grading a class takes longer than the time limit of one submission
        fitting = [worker for worker in self._workers if worker.can_reach(self.cell)]
        if not fitting:
            fitting = [self._started()]
            self._workers += fitting
        worker = max(fitting, key=lambda worker: worker.reached)
        worker.reach(self.cell)
        return worker

    def _started(self) -> Worker:
        if not self._path.is_file():
            raise ReferenceFailedError(
                f"the solution {self._path.parent.name}/{self._path.name} does not exist: run "
                f"'autograder build {self._path.parent.name}'"
            )
        notebook = nbformat.read(self._path, as_version=4)
        worker = Worker(self._lab, notebook, skipped_cells(notebook), self._launcher)
        worker.own_cores = False  # it may use all processors, since all submissions wait for it
        return worker.__enter__()

    def close(self) -> None:
        """End all workers."""
        while self._workers:
            self._workers.pop().close()
