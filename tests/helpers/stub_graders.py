"""Stubs for the work of a grading process, which end, hang or fail according to the name of the student.

They are used by ``test_local_pool.py`` and ``test_dask_pool.py``.
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
    """Initialise a process: there is nothing to load."""


def grade(student: str, path: Path, again: bool) -> str:
    """Record the call in the folder ``path``, then do what the student's name says."""
    here = sorted(path.glob(f"{student}-*"))
    (path / f"{student}-{len(here)}").write_text(str(os.getpid()))
    if student.startswith("dies") or (student.startswith("stumbles") and not here):
        os.kill(os.getpid(), signal.SIGKILL)
    if student.startswith("hangs"):
        time.sleep(600)
    if student.startswith("fault"):
        raise IsolationError("no namespaces here")
    if student.startswith("odd"):  # pickle can write it but not read it
        raise SubmissionError("budget", Failure("an answer", "no time left", ""))
    time.sleep(0.05)
    return f"key of {student}, {'again' if again else 'once'}"


def grade_elsewhere(course: Any, student: str, text: str, notes: list[str], readable: bool) -> dict[str, Any]:
    """Grade like a worker of a cluster: record the call in the folder that is given among the limits."""
    folder = Path(course.config.limits["folder"])
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
    """Return the course, as the task that distributes it; the first call kills the worker."""
    here = Path(course.config.limits["folder"]) / "course handed on"
    if not here.exists():
        here.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return course
