"""Exclusive grading: a submission starved of CPU time is graded again while nothing else of the run is graded."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """A lock between processes that lets many of them grade at the same time, or one exclusively.

    A process that ends releases its lock.

    Args:
        folder: Folder of the lock files, the same for all processes that share the processors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Grade at the same time as others, after waiting for any process that grades exclusively or is about to."""
        with self._locked("room", fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Grade exclusively, after waiting until all others have finished their current submission.

        The others start their next submission only afterwards.
        """
        with self._locked("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        room, door = (os.open(self._folder / n, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for n in (name, "door"))
        try:
            try:
                # a process that waits for the room holds the door, so that later ones cannot overtake it
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(room, kind)
            finally:
                os.close(door)
            yield
        finally:
            os.close(room)
