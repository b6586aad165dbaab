"""Who grades alone: a submission that was kept from the processors is graded again while nothing else of the run is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """Lets many grade beside each other, or one alone; between processes, and over when a process ends.

    Args:
        folder: the same for all that share the processors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Waits while one grades alone, or is about to."""
        with self._locked("room", fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until all others have finished what they grade; they wait with what comes next."""
        with self._locked("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        room, door = (os.open(self._folder / n, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for n in (name, "door"))
        try:
            try:
                # what waits for the room holds the door: those that come later cannot overtake
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(room, kind)
            finally:
                os.close(door)
            yield
        finally:
            os.close(room)
