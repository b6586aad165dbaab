"""The grader's client of the fork server: it starts the server when first needed, and starts and ends workers."""

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

from amllab.lab import LABS, Lab
from amllab.sockets import parent_folder
from amllab.worker.environment import SETTINGS, variables_of
from autograder.errors import IsolationError, LabError
from autograder.sandbox import OUT_OF_MEMORY
from autograder.sandbox.exclusive_turns import Turns

log = logging.getLogger(__name__)

ISOLATIONS = ("namespaces", "none")
WAYS_OUT = (
    "Nothing was graded. Grade on a Linux machine (5.14 or newer) where user namespaces are allowed, as root, or in a "
    "container that may create namespaces; 'autograder doctor' shows what this machine offers, layer by layer. "
    "With c.GradeChecks.isolation = 'none' (autograder grade --isolation=none) submissions run with all your permissions: only "
    "for notebooks whose every line you trust."
)
# variables of the grader's environment that a worker's process receives
ENVIRONMENT = ("PATH", "LANG", "LC_ALL")
# further variables that the fork server needs, to find the same packages, libraries and labs as the grader
_FINDING = (LABS, "HOME", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH")
_START_SECONDS = 180.0
_SOCKET = "launch"  # in a folder that only the grader's user can enter
_MESSAGE_BYTES = 1 << 16


@dataclass
class Tree:
    """A worker's process tree.

    Attributes:
        number: PID of its supervisor.
        connection: The grader's end of the socket to the worker.
        cores: Number of processors that it may use.
    """

    number: int
    connection: socket.socket
    cores: int = 1


class Launcher:
    """A client of the fork server that starts isolated workers.

    Args:
        isolation: ``"namespaces"`` or, for trusted notebooks, ``"none"``.
        course: Folder that no worker sees, even inside a folder that workers see.
        address: :attr:`address` of another launcher, to share its fork server; by default, the launcher starts its own.
        control_groups: Whether to use control groups where they are available.
        modules: Modules that notebooks import, which the fork server imports once; by default, those of labs.

    Attributes:
        at_a_time: Number of submissions that share the processors; set it before the first worker starts.
    """

    def __init__(
        self,
        isolation: str = "namespaces",
        course: Path | None = None,
        *,
        address: str | None = None,
        control_groups: bool = True,
        modules: Sequence[str] | None = None,
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
        self._modules = modules
        self.at_a_time = 1
        self._asked = 0  # requests so far
        self._home: tempfile.TemporaryDirectory[str] | None = None
        atexit.register(self.close)

    @property
    def isolates(self) -> bool:
        """Whether workers are isolated from the machine."""
        return self.isolation != "none"

    @property
    def address(self) -> str:
        """The address at which other launchers on this machine can share the fork server.

        Reading it starts the server if necessary.

        Raises:
            IsolationError: The fork server does not start.
        """
        with self._lock:
            if self._control is None:
                self._start_server()
        assert self._home is not None
        return str(Path(self._home.name) / _SOCKET)

    @property
    def turns(self) -> Turns:
        """The lock for exclusive grading among all graders that share the fork server."""
        return Turns(Path(self._shared or self.address).parent)

    def start(self, lab: Lab, limits: dict[str, int], serve: dict[str, Any], *, own_cores: bool = True) -> Tree:
        """Start a worker.

        Args:
            lab: Lab of the notebook, whose probes, packages and environment variables the worker has.
            limits: Arguments of :class:`autograder.sandbox.limits.Limits`.
            serve: Keyword arguments of :func:`amllab.worker.serve.serve`.
            own_cores: Whether to restrict the worker to its share of the processors, so that it does not slow down
                others; meant for submissions.

        Raises:
            IsolationError: This machine cannot isolate the worker; the message names the failed layer and the
                alternatives.
            LabError: The probes of the lab do not import.
        """
        described = {
            "name": lab.name,
            "trusted": lab.trusted,
            "packages": lab.packages,
            "environment": lab.environment,
        }
        environment = variables_of(lab) | self._names()
        return self._start(described, environment, limits, serve, own_cores)

    def start_plain(self, environment: dict[str, str], limits: dict[str, int], serve: dict[str, Any]) -> Tree:
        """Start a worker for the notebooks of an assignment that is no lab.

        Args:
            environment: Further environment variables.
            limits: Arguments of :class:`autograder.sandbox.limits.Limits`.
            serve: Keyword arguments of :func:`amllab.worker.plain_notebooks.serve_notebooks`.

        Raises:
            IsolationError: This machine cannot isolate the worker.
        """
        return self._start(None, environment | self._names(), limits, serve, True)

    def _start(
        self,
        lab: dict[str, Any] | None,
        environment: dict[str, str],
        limits: dict[str, int],
        serve: dict[str, Any],
        own_cores: bool,
    ) -> Tree:
        ours, theirs = socket.socketpair()
        request = {
            "do": "start",
            "isolation": self.isolation,
            "limits": limits,
            "serve": serve,
            "own_cores": own_cores,
            "environment": environment,
            "lab": lab,
        }
        with theirs:
            answer = self._ask(request, [theirs.fileno()])
        if "failure" in answer:
            ours.close()
            failure = answer["failure"]
            if failure["layer"] == "lab":
                raise LabError(failure["reason"])
            raise IsolationError(
                f"This machine does not isolate submissions ({failure['layer']}: {failure['reason']}). {WAYS_OUT}"
            )
        return Tree(answer["tree"], ours, answer["cores"])

    def end(self, tree: Tree) -> str:
        """End a tree with all its processes.

        Returns:
            How the tree had ended before: ``"memory"`` (it exceeded its memory limit), ``"died"``, or ``""``.
        """
        tree.connection.close()
        if self._control is None:  # the fork server has ended, and all trees with it
            return ""
        status = self._ask({"do": "end", "tree": tree.number})["status"]
        return "memory" if status == OUT_OF_MEMORY else "died" if status > 0 else ""

    def close(self) -> None:
        """End the fork server and all workers."""
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
        return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | SETTINGS

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
                    pass  # this answers an earlier request that was interrupted
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
            raise IsolationError(f"The shared fork server has ended ({error}).") from error

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._home = tempfile.TemporaryDirectory(prefix="amllab-grading-", dir=parent_folder())
        names = self._names() | {name: os.environ[name] for name in _FINDING if name in os.environ}
        names["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
        )
        names["MPLCONFIGDIR"] = self._home.name
        with theirs:
            self._server = subprocess.Popen(
                # -P keeps folders of the course out of the import path
                [sys.executable, "-P", "-m", "autograder.sandbox.fork_server", str(theirs.fileno())],
                env=names,
                cwd=self._home.name,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control = ours
        ours.settimeout(_START_SECONDS)
        # sent, because workers can read command-line arguments
        begin = {
            "hidden": [str(self.course)] if self.course else [],
            "address": str(Path(self._home.name) / _SOCKET),
            "at_a_time": self.at_a_time,
            "control_groups": self._control_groups,
            "modules": self._modules,
        }
        ours.send(json.dumps(begin).encode())
        try:
            answer = self._answer()
        except OSError as error:
            raise IsolationError(f"The fork server did not start: {error}; see the message above.") from error
        if "failure" in answer:
            raise IsolationError(f"The fork server did not start: {answer['failure']['reason']}")
