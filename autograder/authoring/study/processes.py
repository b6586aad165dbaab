"""Forked processes that compute one value each, with limits of processor time and memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUN_SECONDS = 120.0  # of processor time
MEMORY_BYTES = 3 << 30  # beyond what is loaded


class Child:
    """A forked process that computes the value of a call, in a temporary folder: submissions write files."""

    def __init__(self, call: Callable[[], dict[str, Any]]) -> None:
        self.pipe, theirs = os.pipe()
        self._folder = tempfile.mkdtemp()
        self.ends = time.monotonic() + 10 * RUN_SECONDS  # the limit is processor time; this is for one that sleeps
        self.index, self._received = 0, b""
        self._process = os.fork()
        if self._process == 0:
            _answer(call, theirs, self._folder)
        os.close(theirs)

    def of(self, index: int) -> Child:
        """Remember which submission it is for."""
        self.index = index
        return self

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._process, signal.SIGKILL)

    def read(self) -> bool:
        """Read the available output; return whether it has ended."""
        part = os.read(self.pipe, 1 << 16)
        self._received += part
        return not part

    def answer(self) -> dict[str, Any] | str:
        """Return the call's value, or how the process ended."""
        os.close(self.pipe)
        _, status, used = os.wait4(self._process, 0)
        self.seconds = used.ru_utime + used.ru_stime
        shutil.rmtree(self._folder, ignore_errors=True)
        if status == 0 and self._received:
            value: dict[str, Any] = json.loads(self._received)
            return value
        if os.WIFSIGNALED(status):
            return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"ended with status {os.waitstatus_to_exitcode(status)}"


def _answer(call: Callable[[], dict[str, Any]], pipe: int, folder: str) -> None:
    """Send the value of the call from the child, and end the process without any cleanup."""
    code = 1
    try:
        os.chdir(folder)
        seconds = int(RUN_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        loaded = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (loaded + MEMORY_BYTES, loaded + MEMORY_BYTES))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        data = json.dumps(call()).encode()
        while data:
            data = data[os.write(pipe, data) :]
        code = 0
    finally:
        os._exit(code)
