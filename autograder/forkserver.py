"""The fork server: one process for a run of grading, with everything imported, that forks a process tree for each worker.

It never holds anything secret: no reference, no hidden check, no gradebook, an environment of a few names. A worker that is
forked from it has PyTorch at hand at once, and enters its isolation (:mod:`autograder.isolation`) before it runs a line of
a submission. The judge talks to it over a socket (:class:`autograder.launcher.Launcher`); when that closes, the server
ends, and with it all trees. Further judges of the same run share the server: each connects to a socket in a folder of the
first one's, and when it goes, the trees that it started end.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from autograder.isolation import SCRATCH, IsolationError, Limits, linux, supervise, visible_paths

# the last ones are what a kernel would import when it starts
PRELOAD = (
    *("torch", "torchvision", "timm", "matplotlib.pyplot", "IPython", "ipykernel.kernelapp", "nbclient", "amllab"),
    *("ipykernel.debugger", "IPython.extensions.storemagic", "IPython.core.completerlib", "tornado.queues", "sqlite3"),
)
_MESSAGE_BYTES = 1 << 16
_PATIENCE_SECONDS = 5.0


class Server:
    """Answers the judge's requests: start a worker, end one.

    Args:
        control: connection to the first judge.
        listener: for further judges.
        hidden: folders that no worker sees.
        instruments: :func:`amllab.checks.integrity.packed`, for all workers.
    """

    def __init__(
        self, control: socket.socket, listener: socket.socket, hidden: tuple[str, ...], instruments: bytes
    ) -> None:
        self.control, self.listener, self.instruments = control, listener, instruments
        view = visible_paths()
        # a folder of packages that is to be hidden holds the library, which is shown by itself
        readable = tuple(path for path in view.readable if path not in hidden or path == sys.prefix)
        self.view = replace(view, readable=readable, hidden=view.hidden + hidden)
        # of each judge: supervisor -> its own scratch directory, where it is not isolated
        self.trees: dict[socket.socket, dict[int, str | None]] = {control: {}}

    def serve(self) -> None:
        """Until the first judge closes its connection."""
        while self.control in self.trees:
            for ready in select.select([self.listener, *self.trees], [], [])[0]:
                if ready is self.listener:
                    self.trees[self.listener.accept()[0]] = {}
                elif not self._answer(ready):
                    self._forget(ready)
        for judge in list(self.trees):
            self._forget(judge)

    def _answer(self, judge: socket.socket) -> bool:
        """Answers one request; False where the connection has ended."""
        try:
            data, descriptors, _, _ = socket.recv_fds(judge, _MESSAGE_BYTES, 1)
            if not data:
                return False
            request = json.loads(data)
            if request["do"] == "start":
                answer = self._start(judge, request, descriptors[0])
                os.close(descriptors[0])
            else:
                answer = self._end(judge, request["tree"])
            judge.send(json.dumps({**answer, "number": request["number"]}).encode())
        except ConnectionError:  # it died in the meantime
            return False
        return True

    def _forget(self, judge: socket.socket) -> None:
        for tree in list(self.trees[judge]):
            self._end(judge, tree)
        del self.trees[judge]
        judge.close()

    def _start(self, judge: socket.socket, request: dict[str, Any], connection: int) -> dict[str, Any]:
        isolated = request["isolation"] == "namespaces"
        scratch = None if isolated else tempfile.mkdtemp(prefix="amllab-worker-")
        limits = Limits(**request["limits"])
        reading, writing = os.pipe()
        tree = os.fork()
        if tree == 0:
            code = 1
            try:
                os.close(reading)
                code = self._in_tree(request, connection, writing, limits, scratch)
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as report:
            failure = report.read()
        if failure:
            os.waitpid(tree, 0)
            return {"failure": json.loads(failure)}
        self.trees[judge][tree] = scratch
        return {"tree": tree}

    def _in_tree(
        self, request: dict[str, Any], connection: int, ready: int, limits: Limits, scratch: str | None
    ) -> int:
        from amllab.checks.serve import serve

        connection, ready = _keep_only(connection, ready)
        home = scratch or SCRATCH

        def worker() -> int:
            _environment(home, request["environment"])
            os.chdir(home)
            return serve(socket.socket(fileno=connection), self.instruments, **request["serve"])

        if scratch is None:
            try:
                self.view.check()
            except IsolationError as error:
                os.write(ready, json.dumps({"layer": "mounts", "reason": str(error)}).encode())
                return 1
            return supervise(self.view, limits, worker, ready)
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            linux.die_with_parent(signal.SIGKILL)
        os.close(ready)
        return worker()

    def _end(self, judge: socket.socket, tree: int) -> dict[str, Any]:
        """Ends a tree, waits until all of it is gone, and tells its exit status."""
        scratch = self.trees[judge].pop(tree)
        if scratch is None:
            ended, status = os.waitpid(tree, os.WNOHANG)
            if not ended:
                os.kill(tree, signal.SIGTERM)
                status = _wait(tree)
        else:
            # its first process may have ended and left others in the group, whose number nobody else gets until it is waited for
            with suppress(PermissionError):  # macOS, where that one was alone
                os.killpg(tree, signal.SIGKILL)
            status = os.waitpid(tree, 0)[1]
            shutil.rmtree(scratch, ignore_errors=True)
        return {"status": os.waitstatus_to_exitcode(status)}


def _wait(process: int) -> int:
    """Waits for a child for some seconds, then kills it; returns its status."""
    descriptor = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
    if descriptor is not None:
        ready = select.select([descriptor], [], [], _PATIENCE_SECONDS)[0]
        os.close(descriptor)
        if not ready:
            os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def _keep_only(connection: int, ready: int) -> tuple[int, int]:
    """Closes every descriptor but two, moves these to 3 and 4, and connects the standard streams to nothing."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in (connection, ready)]
    nothing = os.open(os.devnull, os.O_RDWR)
    for place, descriptor in enumerate([nothing, nothing, nothing, *moved]):
        os.dup2(descriptor, place)
    os.closerange(5, 1 << 16)
    return 3, 4


def _environment(home: str, names: dict[str, str]) -> None:
    """The few names that a worker's process has in its environment."""
    os.environ.clear()
    os.environ.update(names)
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR"), home))
    tempfile.tempdir = None


def main() -> int:
    """``python -m autograder.forkserver DESCRIPTOR``: started by :class:`autograder.launcher.Launcher`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    begin = json.loads(control.recv(_MESSAGE_BYTES))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(begin["address"])
    listener.listen()
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the debugger has a warning for whoever wants to debug with it
    import amllab
    from amllab.checks import integrity
    from amllab.checks.lab import all_labs
    from amllab.numerics import keep_freed_memory

    for name in (*PRELOAD, *(f"amllab.checks.{lab}.probes" for lab in all_labs())):
        importlib.import_module(name)
    for name in amllab.__all__:  # loads what it is made of
        getattr(amllab, name)
    if Path("/proc/self/task").is_dir() and (threads := len(os.listdir("/proc/self/task"))) > 1:
        control.send(
            json.dumps({"failure": {"layer": "fork", "reason": f"{threads} threads after the imports"}}).encode()
        )
        return 1
    instruments = integrity.packed(integrity.identities())
    keep_freed_memory()
    gc.collect()
    gc.freeze()  # a collection in a forked process would otherwise copy all that it shares
    server = Server(control, listener, tuple(begin["hidden"]), instruments)
    control.send(json.dumps({"ready": os.getpid()}).encode())
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
