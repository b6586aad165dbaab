"""One reference for all grading processes of a run.

It answers in the nbgrader process, over a socket that only the grader's user can reach. A separate reference for each
grading process would need as much memory as a submission, only to answer an occasional question.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path

from amllab.lab import Lab
from amllab.protocol.failure import Failure
from amllab.protocol.submission import SubmissionError
from amllab.sockets import parent_folder
from autograder.errors import CourseError, ReferenceFailedError
from autograder.grading.reference import Reference

Reply = bytes | CourseError | tuple[str, Failure]


class ReferenceServer:
    """A server that answers for a reference, one question at a time, until it is closed.

    A request is the check cell as JSON, a newline and the question. The reply is the answer, a
    fault of the course, or kind and failure of a submission's error. It is pickled: graders trust this process, which
    itself unpickles nothing.

    Args:
        reference: The reference, which is closed together with the server.
    """

    def __init__(self, reference: Reference) -> None:
        # neither TemporaryDirectory nor Listener: at exit, Python removes their files before the run closes this server
        self._folder = Path(tempfile.mkdtemp(prefix="amllab-reference-", dir=parent_folder()))
        self._reference, self._lock = reference, threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        # while the graders still import their modules
        threading.Thread(target=self._start, daemon=True).start()

    @property
    def address(self) -> str:
        """Path of the socket that :class:`ReferenceClient` connects to."""
        return str(self._folder / "reference")

    def _start(self) -> None:
        with self._lock:
            self._reference.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:  # closed
                return
            connection = Connection(accepted.detach())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Answer the requests of one grader until it ends, even in the middle of a request."""
        with connection:
            while True:
                try:
                    asked = connection.recv_bytes()
                except (EOFError, OSError):
                    return
                reply = self._answer(asked)
                with suppress(OSError):
                    connection.send(reply)

    def _answer(self, asked: bytes) -> Reply:
        """Answer one request; errors other than those of the reference surface here."""
        cell, _, question = asked.partition(b"\n")
        with self._lock:
            try:
                self._reference.reach(json.loads(cell))
                return self._reference.exchange(question)
            except SubmissionError as error:
                return error.kind, error.failure
            except CourseError as error:
                return error

    def close(self) -> None:
        """End the reference's workers; graders that still ask it fail."""
        self._socket.shutdown(socket.SHUT_RDWR)  # ends the thread's waiting
        self._thread.join()
        self._socket.close()
        with self._lock:
            self._reference.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class ReferenceClient(Reference):
    """A reference that another process on this machine serves.

    Args:
        lab, path: As for :class:`Reference`.
        address: Address of the :class:`ReferenceServer`.
    """

    def __init__(self, lab: Lab, path: Path, address: str) -> None:
        super().__init__(lab, path)
        self._address = address
        self._connection: Connection | None = None

    def exchange(self, question: bytes) -> bytes:
        """Send the question to the process that runs the reference, and return its answer."""
        try:
            if self._connection is None:
                self._connection = Client(self._address)
            self._connection.send_bytes(json.dumps(self.cell).encode() + b"\n" + question)
            reply: Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ReferenceFailedError(f"the process that runs the reference has ended ({error!r})") from error
        if isinstance(reply, CourseError):
            raise reply
        if isinstance(reply, tuple):
            raise SubmissionError(*reply)
        return reply

    def close(self) -> None:
        """Close the connection; a later question opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
