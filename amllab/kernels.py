"""Warm kernels: Jupyter kernels that start with PyTorch and the course library loaded.

A provisioner for ``jupyter_client``, by which JupyterLab, nbclient, ``nbgrader validate`` and everything else that starts kernels
can have them, with one environment variable and nothing to install::

    JUPYTER_DEFAULT_PROVISIONER_NAME=amllab-warm jupyter lab

The first kernel of a program starts a server (:mod:`multiprocessing.forkserver`) that imports what notebooks of the course
import; it and all further ones are forked from that. A kernel that is restarted is there at once. Isolation is another matter:
submissions are graded by :mod:`autograder.sandbox.fork_server`.

Only for kernels of the interpreter that this runs in; other ones start as ever. Not for Windows, which cannot fork.
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

PRELOAD = ["torch", "torchvision", "timm", "matplotlib.pyplot", "ipykernel.kernelapp", "amllab.loading", "amllab.data"]
_INLINE = "module://matplotlib_inline.backend_inline"
_LAUNCHERS = ("ipykernel_launcher", "ipykernel")
_UNDELIVERED = 0.5  # seconds that a request to a dead kernel may wait for another one
_main = threading.Lock()


class WarmProvisioner(LocalProvisioner):
    """Starts a kernel as a fork of a process that has everything imported; all else as jupyter_client's own."""

    _not_before = 0.0  # time.monotonic()

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        arguments = _arguments(cmd)
        if arguments is None:
            return await super().launch_kernel(cmd, **kwargs)
        await asyncio.sleep(self._not_before - time.monotonic())
        kernel = ForkedKernel(arguments, kwargs.get("env") or os.environ, kwargs.get("cwd") or os.getcwd())
        self.process: Any = kernel
        self.pid = self.pgid = kernel.pid  # it leads a process group
        self.cwd = kwargs.get("cwd", os.getcwd())
        return self.connection_info

    async def shutdown_requested(self, restart: bool = False) -> None:
        await super().shutdown_requested(restart)
        # the manager keeps a request that nobody takes for another 0.1 s, at the same address: a kernel that is there sooner
        # than that would take it for its own
        if restart and await self.poll() is not None:
            self._not_before = time.monotonic() + _UNDELIVERED


class ForkedKernel:
    """A kernel's process, with as much of :class:`subprocess.Popen` as a provisioner asks for.

    Args:
        arguments: of ``python -m ipykernel_launcher``.
        environment: that the kernel finds in ``os.environ``. What is read while PyTorch is imported, such as
            ``OMP_NUM_THREADS``, it has from the program that started its server.
        folder: that it works in.
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
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """A new process would run the program that starts it once more, up to ``if __name__``: a kernel has no use for that."""
    with _main:
        own, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = own


def _arguments(command: list[str]) -> list[str] | None:
    """What stands behind ``python ... -m ipykernel_launcher``; ``None`` for other commands, and other interpreters."""
    if "forkserver" not in multiprocessing.get_all_start_methods() or "-m" not in command:
        return None
    module = command[command.index("-m") + 1]
    return command[command.index("-m") + 2 :] if _place(command[0]) == _place() and module in _LAUNCHERS else None


def _place(python: str = sys.executable) -> tuple[str, str]:
    """What tells interpreters apart: the program, and the environment, whose ``python`` may be a link to that of another."""
    return os.path.realpath(python), os.path.realpath(os.path.dirname(python))


def _path() -> list[str]:
    """Where modules are looked for, without the folder that Python has put there for the program that runs now."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    own = {os.getcwd(), "", *([os.path.dirname(os.path.abspath(program))] if program else [])}
    return sys.path[1:] if sys.path[0] in own else sys.path[:]


def _run(arguments: list[str], environment: dict[str, str], folder: str, path: list[str]) -> None:
    """In the new process: becomes the kernel."""
    import matplotlib as mpl
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    sys.argv[:] = [_LAUNCHERS[0], *arguments]
    # what a kernel asks for in the environment, which matplotlib has read before
    mpl.rcParams["backend"] = environment.get("MPLBACKEND", _INLINE)
    multiprocessing.current_process().daemon = False  # a kernel may have children: loaders of images
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.modules["__main__"] = types.ModuleType("__main__")
    threading.Thread(target=_end_with_the_program, daemon=True).start()
    # what ipykernel itself looks after is the server, which waits for its kernels
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


def _end_with_the_program() -> None:
    program = multiprocessing.parent_process()
    assert program is not None
    program.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)
