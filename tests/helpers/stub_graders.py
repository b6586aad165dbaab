"""Stand-ins for the work of a grading process: they end, hang or fail as their student is called.

For ``test_ahead.py`` and ``test_elsewhere.py``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amllab.protocol.failure import Failure
from amllab.protocol.submission import SubmissionError
from autograder.errors import IsolationError
from autograder.grading.cache import CachedGrading


def begin(config: Path, address: str, reference: str | None) -> None:
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
    if student.startswith("odd"):  # pickle writes it, and cannot read it
        raise SubmissionError("budget", Failure("an answer", "no time left", ""))
    time.sleep(0.05)
    return f"key of {student}, {'again' if again else 'once'}"


def grade_elsewhere(course: Any, student: str, text: str, notes: list[str], readable: bool) -> dict[str, Any]:
    """As a worker of a cluster does it: writes down that it was here, in the folder that the seed's secret names."""
    folder = Path(course.config.secret)
    here = sorted(folder.glob(f"{student}-*"))
    (folder / f"{student}-{len(here)}-{os.getpid()}").touch()
    if student.startswith("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if student.startswith("fault"):
        raise IsolationError("no namespaces here")
    if student.startswith("full"):
        raise OSError("no space left on device")
    time.sleep(1.5 if student.startswith("slow") else 0.05)
    key = (folder / f"key of {student}").read_text() if not student.startswith("other") else "another"
    graded = CachedGrading({}, 1.0, 2.0, 0.1, [f"graded by {os.getpid()}"])
    return {"key": key, "graded": json.dumps(asdict(graded)), "host": socket.gethostname(), "versions": "torch 0.1"}


def identity(course: Any) -> Any:
    """What hands the course on; the first time, the worker is lost over it."""
    here = Path(course.config.secret) / "course handed on"
    if not here.exists():
        here.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return course
