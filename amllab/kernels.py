"""Warm kernels: Jupyter kernels that start with PyTorch and the course library loaded.

The module is a provisioner for ``jupyter_client``. JupyterLab, nbclient, ``nbgrader validate`` and all other programs
that start kernels can use it, with one environment variable and nothing to install::

    JUPYTER_DEFAULT_PROVISIONER_NAME=amllab-warm jupyter lab

The first kernel of a program starts a server (:mod:`multiprocessing.forkserver`) that imports the modules that
notebooks of the course use. All kernels, the first included, are forked from this server, so that a restarted kernel
is ready at once. Kernels are not isolated: :mod:`autograder.sandbox.fork_server` isolates submissions for grading.

Only kernels of the running interpreter are forked; others start as usual. Windows is not supported: it cannot fork.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from amllab.sockets import use_short_paths

PRELOAD = [
    "torch",
    "torchvision",
    "timm",
    "matplotlib.pyplot",
    "ipykernel.kernelapp",
    "amllab.loading",
    "amllab.reptiles",
]
_INLINE = "module://matplotlib_inline.backend_inline"
_LAUNCHERS = ("ipykernel_launcher", "ipykernel")
_UNDELIVERED = 0.5  # seconds for which a request to a dead kernel may still reach its successor
_main = threading.Lock()


class WarmProvisioner(LocalProvisioner):
    """A local provisioner that forks kernels from a process in which everything is imported."""

    _not_before = 0.0  # time.monotonic()

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel; start it in the usual way if its command is not one of this interpreter's kernels."""
        arguments = _arguments(cmd)
        if arguments is None:
            return await super().launch_kernel(cmd, **kwargs)
        await asyncio.sleep(self._not_before - time.monotonic())
        kernel = ForkedKernel(arguments, kwargs.get("env") or os.environ, kwargs.get("cwd") or os.getcwd())
        self.process: Any = kernel
        self.pid = self.pgid = kernel.pid  # the kernel leads a process group
        self.cwd = kwargs.get("cwd", os.getcwd())
        return self.connection_info

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Delay the next launch if the kernel to be restarted is already dead."""
        await super().shutdown_requested(restart)
        # If no kernel has received the shutdown request, the manager holds it for another 0.1 s, at the same address.
        # A kernel that is ready before that would receive it.
        if restart and await self.poll() is not None:
            self._not_before = time.monotonic() + _UNDELIVERED


class ForkedKernel:
    """A kernel process with the part of the :class:`subprocess.Popen` interface that a provisioner uses.

    Args:
        arguments: command-line arguments of ``python -m ipykernel_launcher``.
        environment: the kernel's ``os.environ``. Variables that are read while PyTorch is imported, such as
            ``OMP_NUM_THREADS``, have the values of the program that started the server.
        folder: working directory of the kernel.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: Mapping[str, str], folder: str) -> None:
        self._process: ForkServerProcess = _server().Process(
            target=_run, args=(arguments, dict(environment), str(folder), _path()), daemon=True
        )
        with _without_main():
            self._process.start()
        self.pid: int = self._process.pid  # type: ignore[assignment]

    def poll(self) -> int | None:
        """Return the exit code, or ``None`` while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end, at most ``timeout`` seconds, and return its exit code."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> ForkServerContext:
    use_short_paths()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the running program from multiprocessing while a process starts.

    The new process would otherwise run the program again, up to ``if __name__``, which a kernel does not need.
    """
    with _main:
        own, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = own


def _arguments(command: list[str]) -> list[str] | None:
    """Return the arguments after ``python ... -m ipykernel_launcher``.

    Return ``None`` for other commands, for other interpreters, and on systems without a fork server.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods() or "-m" not in command:
        return None
    module = command[command.index("-m") + 1]
    return command[command.index("-m") + 2 :] if _place(command[0]) == _place() and module in _LAUNCHERS else None


def _place(python: str = sys.executable) -> tuple[str, str]:
    """Identify an interpreter by its program and its environment.

    The program alone is not enough: the ``python`` of an environment may be a link to that of another.
    """
    return os.path.realpath(python), os.path.realpath(os.path.dirname(python))


def _path() -> list[str]:
    """Return ``sys.path`` without the folder that Python added for the running program."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    own = {os.getcwd(), "", *([os.path.dirname(os.path.abspath(program))] if program else [])}
    return sys.path[1:] if sys.path[0] in own else sys.path[:]


def _run(arguments: list[str], environment: dict[str, str], folder: str, path: list[str]) -> None:
    """Turn the new process into the kernel."""
    import matplotlib as mpl
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    sys.argv[:] = [_LAUNCHERS[0], *arguments]
    # matplotlib was imported before the kernel's environment was set
    mpl.rcParams["backend"] = environment.get("MPLBACKEND", _INLINE)
    multiprocessing.current_process().daemon = False  # kernels may have children, such as data loader workers
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.modules["__main__"] = types.ModuleType("__main__")
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    # ipykernel watches its parent, the server, which does not end before its kernels: hence the thread
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


def _end_with_the_program() -> None:
    """Kill the kernel and its children when the program that started the kernel ends."""
    program = multiprocessing.parent_process()
    assert program is not None
    program.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)
