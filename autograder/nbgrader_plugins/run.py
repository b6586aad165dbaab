"""One run of ``nbgrader autograde``: what it holds, its lock, and its summary."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.gradebook.regrading import is_graded
from autograder.grading.session import GradingSession
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.local_pool import LocalPool
from autograder.text import safe_line

if TYPE_CHECKING:  # needs the packages of the extra "cluster"
    from autograder.scheduling.dask_pool import DaskPool


class Run:
    """One run of ``nbgrader autograde``: what it holds, and what became of whom.

    Attributes:
        root: the course's folder.
        launcher: starts the workers.
        judge: grades in this process.
        ahead: grades ahead, in other processes or on other machines.
        alone: whether this process grades all by itself.
        notebooks: that the assignment consists of.
        students: folder that was handed in -> whose it is.
        folders: student -> where the graded notebooks are put.
        graded: whose checks were run in this one.
        attention: student -> what a person should look at.
        left_out: student -> why nbgrader must not touch what was handed in.
        stopped: whether a fault of the course ended it.
    """

    def __init__(self, log: Any, root: Path) -> None:
        self.log, self.root = log, root
        self.launcher: Launcher | None = None
        self.session: GradingSession | None = None
        self.pool: LocalPool | DaskPool | None = None
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
        """Whether no other run is at work in this course; the kernel takes the lock back however a run ends."""
        self._lock = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks cannot say, and unfinished work must not stay so for ever
        return True

    def share_lock(self) -> None:
        """Lets other runs begin, which then know of this one."""
        if self._lock is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            except OSError:
                self.log.debug("This file system has no locks")

    def end(self) -> None:
        """Closes what it holds and says what became of whom; called when the exporter goes, at the latest at exit."""
        try:
            if self.pool is not None:
                self.pool.close()
            if self.session is not None:
                self.session.close()
            if self.launcher is not None:
                self.launcher.close()
        finally:
            if self._lock is not None:
                os.close(self._lock)
            self._summarise()

    def _summarise(self) -> None:
        if not self.folders and not self.left_out:
            return
        finished = {student for student, folder in self.folders.items() if is_graded(folder, self.notebooks)}
        done, missing = self.graded & finished, sorted(set(self.folders) - finished)
        counts = f"{len(done)} graded, {len(finished - done)} graded before, {len(missing)} not graded"
        self.log.info("%d submissions: %s", len(self.folders), counts)
        for student in sorted(done):
            for line in self.attention.get(student, []):
                self.log.warning("Look at %s: %s", student, line)
        for student, danger in sorted(self.left_out.items()):
            self.log.error("Look at %s: not graded, %s", safe_line(student), danger)
        for student in [] if self.stopped else missing:
            self.log.error("Look at %s: not graded, the reason stands above", student)
