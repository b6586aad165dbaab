"""One reference for all grading processes of a run.

It answers in the nbgrader process, over a socket that only the grader's user can reach. A separate reference for each
grading process would need as much memory as a submission, only to answer an occasional question.
"""

from __future__ import annotations

import json
import socket
import socketserver
import tempfile
import threading
from pathlib import Path
from typing import Any

from amllab.lab import Lab
from amllab.protocol.failure import Failure
from amllab.protocol.frames import FrameError, receive_frame, send_frame
from amllab.protocol.submission import SubmissionError
from autograder.errors import IsolationError, LabError, ReferenceFailedError, WorkerError
from autograder.grading.reference import Reference

_FAULTS = (ReferenceFailedError, LabError, WorkerError, IsolationError)
_BYTES = 1 << 30  # limit of a message between processes that trust each other


class ReferenceServer:
    """A server that answers for a reference, one question at a time, until it is closed.

    Args:
        reference: The reference, which is closed together with the server.
    """

    def __init__(self, reference: Reference) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="amllab-reference-")
        self._reference, self._lock = reference, threading.Lock()
        self._server = _Server(self.address, _Handler)
        self._server.answer = self._answer
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Path of the socket that :class:`ReferenceClient` connects to."""
        return str(Path(self._folder.name) / "reference")

    def _answer(self, asked: bytes) -> bytes:
        """Answer one request.

        A request is the check cell as JSON, a newline and the question. A reply is a JSON head, a newline and the
        answer; the head is empty unless there was an error.
        """
        cell, _, question = asked.partition(b"\n")
        head: dict[str, Any] = {}
        body = b""
        with self._lock:
            try:
                self._reference.reach(json.loads(cell))
                body = self._reference.exchange(question)
            except SubmissionError as error:
                head = {"kind": error.kind, "failure": vars(error.failure)}
            except _FAULTS as error:
                head = {"fault": type(error).__name__, "message": str(error)}
        return json.dumps(head).encode() + b"\n" + body

    def close(self) -> None:
        """End the reference's workers; graders that still ask it fail."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._lock:
            self._reference.close()
        self._folder.cleanup()


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            while (question := receive_frame(self.request, _BYTES)) is not None:
                send_frame(self.request, self.server.answer(question))
        except (ConnectionError, FrameError):
            return  # the grader has ended in the middle of a request; all other errors should surface


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    answer: Any


class ReferenceClient(Reference):
    """A reference that another process on this machine serves.

    Args:
        lab, path: As for :class:`Reference`.
        address: Address of the :class:`ReferenceServer`.
    """

    def __init__(self, lab: Lab, path: Path, address: str) -> None:
        super().__init__(lab, path)
        self._address = address
        self._socket: socket.socket | None = None

    def exchange(self, question: bytes) -> bytes:
        """Send the question to the process that runs the reference, and return its answer."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.connect(self._address)
            send_frame(self._socket, json.dumps(self.cell).encode() + b"\n" + question)
            reply = receive_frame(self._socket, _BYTES)
        except OSError as error:
            raise ReferenceFailedError(f"the process that runs the reference has ended ({error})") from error
        if reply is None:
            raise ReferenceFailedError("the process that runs the reference has ended")
        head, _, body = reply.partition(b"\n")
        said = json.loads(head)
        if "fault" in said:
            raise next(fault for fault in _FAULTS if fault.__name__ == said["fault"])(said["message"])
        if "kind" in said:
            raise SubmissionError(said["kind"], Failure(**said["failure"]))
        return body

    def close(self) -> None:
        """Close the connection; a later question opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
