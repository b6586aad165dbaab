"""The fork server: one process per grading run that imports everything once and forks a process tree for each worker.

It imports the probes and packages of a lab before the lab's first worker (:mod:`autograder.sandbox.lab_imports`).

It never holds anything secret: no reference, no hidden check, no gradebook, and only a few environment variables. A
worker forked from it starts with PyTorch loaded, and enters its isolation (:mod:`autograder.sandbox`) before it runs a
line of a submission.

The grader talks to the server over a socket (:class:`autograder.sandbox.launcher.Launcher`). When the grader closes the
socket, the server ends, and all process trees end with it. Further graders of the same run share the server: they
connect to a socket in a folder of the first grader. When one of them disconnects, its process trees end.
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
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from autograder.errors import IsolationError, LabError
from autograder.sandbox import SCRATCH, ControlGroups, Group, Limits, cgroups, libc, run_isolated, visible_paths
from autograder.sandbox.lab_imports import LabImports, import_after_trial

# modules to import before forking; a kernel would import the last ones when it starts
KERNEL = (
    *("IPython", "ipykernel.kernelapp", "nbclient", "ipykernel.debugger", "IPython.extensions.storemagic"),
    *("IPython.core.completerlib", "tornado.queues", "sqlite3"),
)
PRELOAD = ("torch", "torchvision", "timm", "matplotlib.pyplot", "amllab", *KERNEL)
PLAIN = ("amllab.worker.plain_notebooks", *KERNEL)  # for assignments that are no labs
_TRIAL_SECONDS = 60.0
_MESSAGE_BYTES = 1 << 16
_PATIENCE_SECONDS = 5.0


class Server:
    """A server that starts and ends workers at the request of graders.

    Args:
        control: Connection to the first grader.
        listener: Listening socket for further graders.
        hidden: Folders that no worker sees.
        at_a_time: Number of submissions that share the processors.
        control_groups: Folders in which to create control groups.
    """

    def __init__(
        self,
        control: socket.socket,
        listener: socket.socket,
        hidden: tuple[str, ...],
        at_a_time: int,
        control_groups: ControlGroups,
    ) -> None:
        self.control, self.listener, self.labs = control, listener, LabImports()
        self.view = visible_paths(hidden)
        # grader -> supervisor -> scratch directory of a tree that is not isolated, else None
        self.trees: dict[socket.socket, dict[int, str | None]] = {control: {}}
        self.cores = Cores(at_a_time)
        self.control_groups = control_groups
        self._started = 0

    def serve(self) -> None:
        """Serve requests until the first grader closes its connection."""
        while self.control in self.trees:
            for ready in select.select([self.listener, *self.trees], [], [])[0]:
                if ready is self.listener:
                    self.trees[self.listener.accept()[0]] = {}
                elif not self._answer(ready):
                    self._forget(ready)
        for grader in list(self.trees):
            self._forget(grader)

    def _answer(self, grader: socket.socket) -> bool:
        """Answer one request; return False if the connection has ended."""
        try:
            data, descriptors, _, _ = socket.recv_fds(grader, _MESSAGE_BYTES, 1)
            if not data:
                return False
            request = json.loads(data)
            if request["do"] == "start":
                answer = self._start(grader, request, descriptors[0])
                os.close(descriptors[0])
            else:
                answer = self._end(grader, request["tree"])
            grader.send(json.dumps({**answer, "number": request["number"]}).encode())
        except ConnectionError:  # the grader has ended in the meantime
            return False
        return True

    def _forget(self, grader: socket.socket) -> None:
        for tree in list(self.trees[grader]):
            self._end(grader, tree)
        del self.trees[grader]
        grader.close()

    def _start(self, grader: socket.socket, request: dict[str, Any], connection: int) -> dict[str, Any]:
        isolated = request["isolation"] == "namespaces"
        limits = Limits(**request["limits"])
        try:
            trusted_functions = b"" if request["lab"] is None else self.labs.trusted_functions(request["lab"])
        except LabError as error:
            return {"failure": {"layer": "lab", "reason": str(error)}}
        try:
            group = self._group(limits) if isolated else None
        except OSError as error:
            return {"failure": {"layer": "control group", "reason": str(error)}}
        scratch = None if isolated else tempfile.mkdtemp(prefix="amllab-worker-")
        cores = self.cores.next() if request["own_cores"] else ()
        reading, writing = os.pipe()
        tree = os.fork()
        if tree == 0:
            code = 1
            try:
                os.close(reading)
                code = self._in_tree(request, trusted_functions, connection, writing, limits, scratch, group, cores)
            finally:
                os._exit(code)
        os.close(writing)
        if group is not None:
            group.close()
        with os.fdopen(reading, "rb") as report:
            failure = report.read()
        if failure:
            os.waitpid(tree, 0)
            return {"failure": json.loads(failure)}
        self.trees[grader][tree] = scratch
        self.cores.taken[tree] = cores
        return {"tree": tree, "cores": len(cores) or self.cores.number}

    def _group(self, limits: Limits) -> Group | None:
        self._started += 1
        return self.control_groups.new(self._started, limits.memory_bytes) if self.control_groups.memory else None

    def _in_tree(
        self,
        request: dict[str, Any],
        trusted_functions: bytes,
        connection: int,
        ready: int,
        limits: Limits,
        scratch: str | None,
        group: Group | None,
        cores: Collection[int],
    ) -> int:
        from amllab.worker.plain_notebooks import serve_notebooks
        from amllab.worker.serve import serve

        connection, ready, *files = _keep_only(connection, ready, *(group.files if group is not None else ()))
        if group is not None:
            group.files = files
        home = scratch or SCRATCH

        def worker() -> int:
            _environment(home, request["environment"])
            os.chdir(home)
            stream = socket.socket(fileno=connection)
            if request["lab"] is None:
                return serve_notebooks(stream, **request["serve"])
            return serve(stream, trusted_functions, **request["serve"])

        if scratch is None:
            try:
                self.view.check()
            except IsolationError as error:
                os.write(ready, json.dumps({"layer": "mounts", "reason": str(error)}).encode())
                return 1
            return run_isolated(self.view, limits, worker, ready, group, cores)
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if cores:
            os.sched_setaffinity(0, cores)
        if sys.platform == "linux":
            libc.die_with_parent(signal.SIGKILL)
        os.close(ready)
        return worker()

    def _end(self, grader: socket.socket, tree: int) -> dict[str, Any]:
        """End a process tree, wait until all its processes are gone, and return its exit status."""
        scratch = self.trees[grader].pop(tree)
        self.cores.taken.pop(tree, None)
        if scratch is None:
            ended, status = os.waitpid(tree, os.WNOHANG)
            if not ended:
                os.kill(tree, signal.SIGTERM)
                status = _wait(tree)
        else:
            # the first process may have ended and left others in the process group, whose ID cannot be reused before
            # the wait below
            with suppress(PermissionError):  # raised by macOS if no others are left
                os.killpg(tree, signal.SIGKILL)
            status = os.waitpid(tree, 0)[1]
            shutil.rmtree(scratch, ignore_errors=True)
        return {"status": os.waitstatus_to_exitcode(status)}


class Cores:
    """An allocator of processors that gives each submission an equal share, the one that the fewest others use.

    Args:
        at_a_time: Number of submissions that share the processors.
    """

    def __init__(self, at_a_time: int) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.number = len(cores) or os.cpu_count() or 1
        size = max(1, len(cores) // at_a_time)
        # a submission that runs alone may use all of them
        self.shares = (
            [tuple(cores[i : i + size]) for i in range(0, len(cores) - size + 1, size)] if at_a_time > 1 else []
        )
        self.taken: dict[int, tuple[int, ...]] = {}

    def next(self) -> tuple[int, ...]:
        """Return the processors for the next submission; empty if it may use all."""
        taken = list(self.taken.values())
        return min(self.shares, key=taken.count, default=())


def _wait(process: int) -> int:
    """Wait for a child, kill it if it has not ended after a few seconds, and return its wait status."""
    descriptor = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
    if descriptor is not None:
        ready = select.select([descriptor], [], [], _PATIENCE_SECONDS)[0]
        os.close(descriptor)
        if not ready:
            os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def _keep_only(*descriptors: int) -> list[int]:
    """Move these descriptors to 3 and up, close all others, and connect the standard streams to the null device."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]
    nothing = os.open(os.devnull, os.O_RDWR)
    for place, descriptor in enumerate([nothing, nothing, nothing, *moved]):
        os.dup2(descriptor, place)
    os.closerange(3 + len(moved), 1 << 16)
    return list(range(3, 3 + len(moved)))


def _environment(home: str, names: dict[str, str]) -> None:
    """Replace the environment by the few variables that a worker needs, with ``home`` as home and temporary folder."""
    os.environ.clear()
    os.environ.update(names)
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR"), home))
    tempfile.tempdir = None


def main() -> int:
    """Run the server as ``python -m autograder.sandbox.fork_server DESCRIPTOR``.

    :class:`autograder.sandbox.launcher.Launcher` starts it.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        return _run(control)
    except ConnectionError:  # the grader has ended in the meantime, and reports the reason itself
        return 1


def _run(control: socket.socket) -> int:
    begun = control.recv(_MESSAGE_BYTES)
    if not begun:
        raise ConnectionResetError
    begin = json.loads(begun)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(begin["address"])
    listener.listen()
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences a warning meant for people who use the debugger
    gc.disable()  # a collection would take a fifth of the time, and find next to nothing
    _preload(begin["modules"])
    if Path("/proc/self/task").is_dir() and (threads := len(os.listdir("/proc/self/task"))) > 1:
        control.send(
            json.dumps({"failure": {"layer": "fork", "reason": f"{threads} threads after the imports"}}).encode()
        )
        return 1
    control_groups = cgroups.find() if begin["control_groups"] else ControlGroups(reason="not to be used")
    control_groups.sweep()
    if begin["modules"] is None:
        from amllab.numerics import keep_freed_memory

        keep_freed_memory()
    gc.freeze()  # otherwise a garbage collection in a fork would copy all the memory that it shares
    gc.enable()
    server = Server(control, listener, tuple(begin["hidden"]), begin["at_a_time"], control_groups)
    control.send(json.dumps({"ready": os.getpid()}).encode())
    server.serve()
    return 0


def _preload(modules: Sequence[str] | None) -> None:
    """Import what labs need or, for an assignment that is no lab, these modules, as far as that works."""
    if modules is None:
        import amllab

        for name in PRELOAD:
            importlib.import_module(name)
        for name in amllab.__all__:  # attributes are lazy: this loads their modules
            getattr(amllab, name)
        return
    for name in PLAIN:
        importlib.import_module(name)
    for name in modules:
        import_after_trial(name, _TRIAL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
