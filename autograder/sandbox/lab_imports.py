"""What the fork server imports for a lab, once, before it forks the lab's first worker.

Each import is tried first in a fork that has a time limit: code that does not import, never ends, ends its process or
starts threads (which no fork copies) leaves the server as it was, and other labs can still be graded.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from unittest.mock import patch

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from amllab.lab import Lab, name_in_course, public_checks
from autograder.errors import LabError

_SECONDS = 90.0  # for all imports of a lab; the grader waits longer than this for its first worker
_TASKS = Path("/proc/self/task")


class LabImports:
    """The imports of the labs whose workers a server has forked."""

    def __init__(self) -> None:
        self._known: dict[str, bytes | str] = {}

    def trusted_functions(self, lab: dict[str, Any]) -> bytes:
        """Import the packages and the probes of a lab; return its trusted functions, packed for its workers.

        Args:
            lab: Name, packages, environment and declared trusted functions, as the launcher sends them.

        Raises:
            LabError: The probes do not import, or a trusted function does not exist.
        """
        key = json.dumps(lab, sort_keys=True)
        if key not in self._known:
            self._known[key] = _imported(lab)
        found = self._known[key]
        if isinstance(found, str):
            raise LabError(found)
        return found


def _imported(lab: dict[str, Any]) -> bytes | str:
    """Return the packed trusted functions, or the reason why there are none."""
    from amllab.worker import integrity

    settings = {"packages": lab["packages"], "probes": {"trusted": lab["trusted"]}}
    described = Lab(lab["name"], public_checks(lab["name"]), lab["name"], "", {}, settings)
    ends = time.monotonic() + _SECONDS
    with patch.dict(os.environ, lab["environment"]):
        for module in modules_of(lab["packages"]):
            import_after_trial(module, ends - time.monotonic())
        if reason := trial(lambda: integrity.identities(described), ends - time.monotonic()):
            if reason.startswith(("the lab ", f"{lab['name']}/lab.toml: ")):
                return reason
            file = name_in_course(described.folder / "probes.py")
            return (
                f"the lab {lab['name']} cannot be used: importing {file} {reason}. Correct the file, or what it imports"
            )
        try:
            packed = integrity.packed(integrity.identities(described))
        except Exception as error:  # it worked in the trial
            return str(error)
    gc.collect()
    gc.freeze()  # otherwise a garbage collection in a fork would copy all the memory that it shares
    return packed


def modules_of(packages: list[str]) -> list[str]:
    """Return the top-level modules of those packages that are installed."""
    wanted = set()
    for text in packages:
        with suppress(InvalidRequirement):
            wanted.add(canonicalize_name(Requirement(text).name))
    if not wanted:
        return []
    installed = packages_distributions().items()
    found = [module for module, names in installed if wanted.intersection(map(canonicalize_name, names))]
    return sorted(module for module in found if module.isidentifier() and not module.startswith("_"))


def import_after_trial(module: str, seconds: float) -> None:
    """Import a module in this process if that has worked in a trial; see :func:`trial`."""
    if not trial(lambda: importlib.import_module(module), seconds):
        with suppress(Exception):
            importlib.import_module(module)


def trial(action: Callable[[], object], seconds: float) -> str:
    """Try an import in a fork of this process.

    Args:
        action: Imports something.
        seconds: Time limit.

    Returns:
        Why the import must not be made in this process; empty if it may.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, (_outcome(action) or "fine").encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        ready = select.select([report], [], [], max(seconds, 0.0))[0]
        said = (
            os.read(reading, 1 << 14).decode(errors="replace") if ready else f"did not end within {_SECONDS:g} seconds"
        )
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "" if said == "fine" else said or "ended the Python process"


def _outcome(action: Callable[[], object]) -> str:
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    threads = _threads()
    try:
        action()
    except BaseException as error:
        return str(error) or type(error).__name__
    return f"starts {_threads() - threads} threads" if _threads() > threads else ""


def _threads() -> int:
    return len(os.listdir(_TASKS)) if _TASKS.is_dir() else 1
