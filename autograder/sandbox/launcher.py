"""The judge's end of the fork server: starts it when first needed, asks for workers, ends them."""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.errors import IsolationError
from autograder.sandbox import OUT_OF_MEMORY
from autograder.sandbox.exclusive_turns import Turns

log = logging.getLogger(__name__)

ISOLATIONS = ("namespaces", "none")
WAYS_OUT = (
    "Nothing was graded. Grade on a Linux machine (5.14 or newer) where user namespaces are allowed, as root, or in a "
    "container that may create namespaces; 'autograder doctor' shows what this machine offers, layer by layer. "
    "With c.GradeChecks.isolation = 'none' (autograder grade --isolation=none) submissions run with all your rights: only "
    "for notebooks whose every line you trust."
)
# what a worker's process may know of the grader's environment
ENVIRONMENT = ("PATH", "LANG", "LC_ALL")
# what the fork server needs of it beyond that, to find the same packages and libraries as the grader
_FINDING = ("HOME", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH")
_SETTINGS = {
    # threads that wait do not spin: on a busy machine a training would otherwise take many times as long
    "OMP_WAIT_POLICY": "PASSIVE",
    # sums come out the same whatever the machine has, and threads of small models wait for each other more than they compute
    "OMP_NUM_THREADS": "1",
    # OpenBLAS starts its threads when it is imported, and a fork does not copy threads
    "OPENBLAS_NUM_THREADS": "1",
    "AMLLAB_PROGRESS": "0",
    "AMLLAB_DATA": "drawn",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "",
}
_START_SECONDS = 180.0
_SOCKET = "launch"  # in the folder that only the grader's user can enter
_MESSAGE_BYTES = 1 << 16
_LONGEST_FOLDER = 60  # an address of a socket has at most 107 bytes


@dataclass
class Tree:
    """A worker's process tree.

    Attributes:
        number: of its supervisor.
        connection: the judge's end of the socket to the worker.
        cores: processors that it may use.
    """

    number: int
    connection: socket.socket
    cores: int = 1


def _short_folder() -> str | None:
    """Where to make folders for sockets: the temporary folder, unless its name is too long for their addresses."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER and os.path.isdir("/tmp") else None


class Launcher:
    """Starts isolated workers.

    Args:
        isolation: ``"namespaces"`` or, for notebooks that are trusted, ``"none"``.
        course: folder that no worker sees, whatever it lies in.
        address: of the fork server of another launcher, to share it (:attr:`address`); by default it starts one of its own.
        control_groups: whether they are used where they can be had.

    Attributes:
        at_a_time: how many submissions share the processors; to be set before the first is started.
    """

    def __init__(
        self,
        isolation: str = "namespaces",
        course: Path | None = None,
        *,
        address: str | None = None,
        control_groups: bool = True,
    ) -> None:
        if isolation not in ISOLATIONS:
            raise ValueError(f"isolation must be one of {', '.join(ISOLATIONS)}, not {isolation!r}")
        self.isolation = isolation
        self.course = course.resolve() if course is not None else None
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._shared = address
        self._control_groups = control_groups
        self.at_a_time = 1
        self._asked = 0  # requests so far
        self._home: tempfile.TemporaryDirectory[str] | None = None
        atexit.register(self.close)

    @property
    def isolates(self) -> bool:
        """Whether workers are kept apart from the machine."""
        return self.isolation != "none"

    @property
    def address(self) -> str:
        """Where other launchers of this machine reach the same fork server; it is started where it is not running.

        Raises:
            IsolationError: it does not start.
        """
        with self._lock:
            if self._control is None:
                self._start_server()
        assert self._home is not None
        return str(Path(self._home.name) / _SOCKET)

    @property
    def turns(self) -> Turns:
        """Who of those that share the fork server grades alone."""
        return Turns(Path(self._shared or self.address).parent)

    def start(self, limits: dict[str, int], serve: dict[str, Any], *, own_cores: bool = True) -> Tree:
        """Starts a worker.

        Args:
            limits: of :class:`autograder.sandbox.process_tree.Limits`.
            serve: arguments of :func:`amllab.checks.serve.serve`.
            own_cores: keeps it to its share of the processors, so that it takes none of those of others; for submissions.

        Raises:
            IsolationError: this machine cannot isolate it; the message says what failed and which ways there are.
        """
        ours, theirs = socket.socketpair()
        request = {
            "do": "start",
            "isolation": self.isolation,
            "limits": limits,
            "serve": serve,
            "own_cores": own_cores,
            "environment": self._names(),
        }
        with theirs:
            answer = self._ask(request, [theirs.fileno()])
        if "failure" in answer:
            ours.close()
            failure = answer["failure"]
            raise IsolationError(
                f"This machine does not isolate submissions ({failure['layer']}: {failure['reason']}). {WAYS_OUT}"
            )
        return Tree(answer["tree"], ours, answer["cores"])

    def end(self, tree: Tree) -> str:
        """Ends a tree with all its processes; returns what had ended it: ``"memory"``, ``"died"`` or ``""``."""
        tree.connection.close()
        if self._control is None:  # the fork server has ended, and every tree with it
            return ""
        status = self._ask({"do": "end", "tree": tree.number})["status"]
        return "memory" if status == OUT_OF_MEMORY else "died" if status > 0 else ""

    def close(self) -> None:
        """Ends the fork server and every worker."""
        atexit.unregister(self.close)
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                self._server.wait(10)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        if self._home is not None:
            self._home.cleanup()
        self._control = self._server = self._home = None

    def _names(self) -> dict[str, str]:
        return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | _SETTINGS

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            if self._control is None and self._shared is None:
                self._start_server()
            elif self._control is None:
                self._connect(str(self._shared))
            assert self._control is not None
            self._asked += 1
            try:
                socket.send_fds(self._control, [json.dumps({**request, "number": self._asked}).encode()], descriptors)
                while (answer := self._answer()).get("number") != self._asked:
                    pass  # of a request that was interrupted before its answer came
                return answer
            except OSError as error:
                self._control.close()
                self._control = None
                raise IsolationError(f"The fork server ended unexpectedly ({error}); run the command again.") from error

    def _answer(self) -> dict[str, Any]:
        assert self._control is not None
        data = self._control.recv(_MESSAGE_BYTES)
        if not data:
            raise ConnectionResetError("it closed the connection")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _connect(self, address: str) -> None:
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_SECONDS)
        try:
            self._control.connect(address)
        except OSError as error:
            self._control = None
            raise IsolationError(f"The fork server that was to be shared is gone ({error}).") from error

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._home = tempfile.TemporaryDirectory(prefix="amllab-grading-", dir=_short_folder())
        names = self._names() | {name: os.environ[name] for name in _FINDING if name in os.environ}
        names["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
        )
        names["MPLCONFIGDIR"] = self._home.name
        with theirs:
            self._server = subprocess.Popen(
                # no folder of the course comes into the path of imports
                [sys.executable, "-P", "-m", "autograder.sandbox.fork_server", str(theirs.fileno())],
                env=names,
                cwd=self._home.name,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control = ours
        ours.settimeout(_START_SECONDS)
        # not in the arguments: workers can read these
        begin = {
            "hidden": [str(self.course)] if self.course else [],
            "address": str(Path(self._home.name) / _SOCKET),
            "at_a_time": self.at_a_time,
            "control_groups": self._control_groups,
        }
        ours.send(json.dumps(begin).encode())
        try:
            answer = self._answer()
        except OSError as error:
            raise IsolationError(f"The fork server did not start: {error}; it has said why above.") from error
        if "failure" in answer:
            raise IsolationError(f"The fork server did not start: {answer['failure']['reason']}")
