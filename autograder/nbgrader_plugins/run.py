"""The state of one run of ``nbgrader autograde``, with its lock and its summary."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.gradebook.regrading import is_graded
from autograder.text import counted, safe_line

if TYPE_CHECKING:
    from autograder.grading.class_session import ClassSession
    from autograder.scheduling import GradingPool


class Run:
    """One run of ``nbgrader autograde``: its resources, and the outcome for each student.

    Attributes:
        root: The course's folder.
        session: Grades in this process.
        pool: Grades in parallel, in other processes or on Dask workers.
        resources: Whatever else has to be closed.
        is_graded: Whether the grading in a folder of results was completed, given the names of the notebooks.
        alone: Whether this process does all the grading.
        notebooks: Names of the assignment's notebooks.
        students: Submitted folder -> student.
        folders: Student -> folder for the graded notebooks.
        graded: Students whose gradings this run has written.
        attention: Student -> lines about what a person should check.
        left_out: Student -> why nbgrader must not process the submission.
        stopped: Whether a fault of the course ended the run.
    """

    def __init__(self, log: Any, root: Path) -> None:
        self.log, self.root = log, root
        self.session: ClassSession | None = None
        self.pool: GradingPool | None = None
        self.resources = ExitStack()
        self.is_graded: Callable[[Path, Iterable[str]], bool] = is_graded
        self.alone = False
        self.notebooks: list[str] = []
        self.students: dict[str, str] = {}
        self.folders: dict[str, Path] = {}
        self.graded: set[str] = set()
        self.attention: dict[str, list[str]] = {}
        self.left_out: dict[str, str] = {}
        self.stopped = False
        self._lock: int | None = None

    def lock(self) -> bool:
        """Lock the course for this run; the kernel releases the lock however the run ends.

        Returns:
            Whether no other run is active in this course.
        """
        self._lock = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # without file locks there is no way to tell, and unfinished gradings must not stay forever
        return True

    def share_lock(self) -> None:
        """Share the lock, so that other runs can start but know that this one is active."""
        if self._lock is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            except OSError:
                self.log.debug("This file system has no locks")

    def end(self) -> None:
        """Close all resources and log a summary; called when the exporter is deleted, at the latest at exit."""
        try:
            if self.pool is not None:
                self.pool.close()
            if self.session is not None:
                self.session.close()
            self.resources.close()
        finally:
            if self._lock is not None:
                os.close(self._lock)
            self._summarise()

    def _summarise(self) -> None:
        if not self.folders and not self.left_out:
            return
        finished = {student for student, folder in self.folders.items() if self.is_graded(folder, self.notebooks)}
        done, missing = self.graded & finished, sorted(set(self.folders) - finished)
        counts = f"{len(done)} graded, {len(finished - done)} already graded, {len(missing)} not graded"
        self.log.info("%s: %s", counted(len(self.folders), "submission"), counts)
        for student in sorted(done):
            for line in self.attention.get(student, []):
                self.log.warning("Look at %s: %s", student, line)
        for student, danger in sorted(self.left_out.items()):
            self.log.error("Look at %s: not graded, %s", safe_line(student), danger)
        for student in [] if self.stopped else missing:
            self.log.error("Look at %s: not graded, see the reason above", student)
