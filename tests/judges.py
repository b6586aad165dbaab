"""Stand-ins for the work of a grading process, for ``test_ahead.py``: they end, hang or fail as their student is called."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from autograder.isolation import IsolationError


def begin(setting: Path, address: str) -> None:
    """Of a process: nothing to load."""


def grade(student: str, path: Path, again: bool) -> str:
    """Writes down that it was here; ``path`` is a folder for that."""
    here = sorted(path.glob(f"{student}-*"))
    (path / f"{student}-{len(here)}").write_text(str(os.getpid()))
    if student.startswith("dies") or (student.startswith("stumbles") and not here):
        os.kill(os.getpid(), signal.SIGKILL)
    if student.startswith("hangs"):
        time.sleep(600)
    if student.startswith("fault"):
        raise IsolationError("no namespaces here")
    time.sleep(0.05)
    return f"key of {student}, {'again' if again else 'once'}"
