"""The isolated process tree in which the notebooks of a submission run, and the grader's connection to it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from amllab.protocol.frames import FrameError, receive_frame, send_frame
from autograder.errors import WorkerError
from autograder.sandbox.contention import Load, Use
from autograder.sandbox.launcher import Launcher

# what a submission may use; c.GradeChecks.limits changes single ones. The limit of a cell is nbgrader's own
LIMITS = {
    "total_seconds": 3600,
    "output_bytes": 2_000_000,
    "memory_bytes": 3 << 30,
    "processes": 256,
    "open_files": 1024,
    "file_bytes": 1 << 29,
    "scratch_bytes": 1 << 30,
}
_TREE = ("memory_bytes", "processes", "open_files", "file_bytes", "scratch_bytes")
_START_SECONDS = 60.0
_HEAD_BYTES = 200
_STATES = ("ok", "full", "timeout", "died")
_PIECE = 32 << 20  # bytes of a file in one request
_FILE_SECONDS = 60.0  # for each


class NotebookProcess:
    """A process tree that runs notebooks, for one submission.

    Args:
        launcher: Starts the process tree.
        limits: Limits by name, as in :data:`LIMITS`.
        notebooks: Number of notebooks.
        environment: Environment variables of the kernels.
        arguments: Further arguments of the kernels.

    Attributes:
        late: Whether the last cell reached its time limit.

    Raises:
        IsolationError, WorkerError: Nothing of the submission has run yet, so it is not at fault.
    """

    def __init__(
        self,
        launcher: Launcher,
        limits: Mapping[str, int],
        notebooks: int,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
    ) -> None:
        self._launcher, self._output_bytes, self.late = launcher, limits["output_bytes"], False
        own = {name: limits[name] for name in _TREE} | {"cpu_seconds": 2 * limits["total_seconds"]}
        serve = {"output_bytes": self._output_bytes, "notebooks": notebooks, "arguments": list(arguments)}
        self._tree = launcher.start_plain(dict(environment), own, serve)
        try:
            hello = receive_frame(self._tree.connection, 1 << 16, _START_SECONDS) or b"no message"
        except OSError as error:
            hello = str(error).encode()
        if not hello.startswith(b'{"state": "ready"}'):
            self.end()
            raise WorkerError(f"a worker did not start:\n{hello.decode(errors='replace')}")
        self._load = Load(self._tree.number, self._tree.cores)

    def ask(self, head: Mapping[str, object], body: bytes, seconds: float) -> tuple[str, dict[str, Any]]:
        """Send one request.

        Args:
            head: The request, as :func:`amllab.worker.plain_notebooks.serve_notebooks` reads it.
            body: What belongs to it.
            seconds: How long to wait for the reply.

        Returns:
            ``"ok"``, ``"full"`` (a file could not be written), ``"timeout"`` or ``"died"``, and the outputs of the
            cell, which nobody has checked.
        """
        self.late = False
        until = time.monotonic() + seconds
        try:
            self._tree.connection.settimeout(seconds)
            send_frame(self._tree.connection, json.dumps(dict(head)).encode() + b"\n" + body)
            reply = receive_frame(
                self._tree.connection, 4 * self._output_bytes + (1 << 20), max(until - time.monotonic(), 0.1)
            )
        except TimeoutError:
            return "timeout", {}
        except (FrameError, OSError):
            return "died", {}
        return self._read(reply)

    def write(self, name: str, content: BinaryIO) -> bool:
        """Write a file into the folder of the submission, and return whether that was possible.

        Args:
            name: Path in the folder.
            content: The file, read piece by piece.
        """
        piece, more = content.read(_PIECE), False
        while piece or not more:
            state, _ = self.ask({"do": "file", "path": name, "more": more}, piece, _FILE_SECONDS)
            if state != "ok":
                return False
            piece, more = content.read(_PIECE), True
        return True

    def _read(self, reply: bytes | None) -> tuple[str, dict[str, Any]]:
        said, _, body = (reply or b"").partition(b"\n")
        if len(said) > _HEAD_BYTES:
            return "died", {}
        try:
            head = json.loads(said)
            found = json.loads(body) if body else {}
            state, self.late = head["state"], head.get("late") is True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "died", {}
        return (state, found) if state in _STATES and isinstance(found, dict) else ("died", {})

    def mark(self) -> Use:
        """Return the use of processors up to now."""
        return self._load.mark()

    def starved(self, since: Use) -> str:
        """Describe how other processes have starved the notebooks of CPU time; empty if they have not."""
        return self._load.taken(since)

    def end(self) -> str:
        """End the process tree; return ``"memory"`` if the memory limit had ended it before, else an empty string."""
        return "memory" if self._launcher.end(self._tree) == "memory" else ""
