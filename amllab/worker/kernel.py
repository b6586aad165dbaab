"""The kernel of a notebook in a worker: a fork of the worker, so that all modules are loaded from the start."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from pathlib import Path

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import port_names, write_connection_file

INHERITED = 3  # after the standard streams


class Kernel:
    """An IPython kernel in a forked process, with the methods that nbclient calls on a kernel manager.

    Args:
        folder: Folder of its connection file and sockets.
        inherited: A socket that it gets, as its descriptor ``INHERITED``; closed in this process.
    """

    def __init__(self, folder: Path, inherited: socket.socket | None = None) -> None:
        self._folder, self._inherited = folder, inherited
        folder.mkdir(mode=0o700)
        self.connection_file = str(folder / "connection.json")
        # sockets in the scratch directory, so that no network port is opened
        write_connection_file(self.connection_file, transport="ipc", ip=str(folder / "socket"))
        worker = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._run(worker)
            except BaseException:
                Path(folder, "failure").write_text(traceback.format_exc())
            finally:
                os._exit(1)
        if inherited is not None:
            inherited.close()

    def _run(self, worker: int) -> None:
        from ipykernel.kernelapp import IPKernelApp

        if self._inherited is not None:
            os.dup2(self._inherited.detach(), INHERITED)
        # the notebook must not have the connection to the grader
        os.closerange(INHERITED + (self._inherited is not None), 1 << 16)
        _import_from_here()
        # end the kernel with the worker: nothing else does so if the worker is not isolated
        IPKernelApp.launch_instance([*self.arguments, f"--IPKernelApp.parent_handle={worker}"])

    @property
    def arguments(self) -> list[str]:
        """Arguments of the kernel application."""
        return ["-f", self.connection_file, "--HistoryManager.hist_file=:memory:"]

    def is_there(self) -> bool:
        """Return whether its sockets exist; a client that connects earlier loses 0.1 s."""
        return len(list(self._folder.glob("socket-*"))) == len(port_names)

    async def is_alive(self) -> bool:
        """Return whether the process is still running."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False


def _import_from_here() -> None:
    """Make the working directory importable, as in Jupyter: after the standard library, before other packages.

    IPython does this itself, but not for a Python that was started with ``-P``.
    """
    if "" not in sys.path:
        places = [i for i, path in enumerate(sys.path) if Path(path).name in ("site-packages", "dist-packages")]
        sys.path.insert(min(places, default=0), "")


class KernelClient(AsyncKernelClient):
    """A client that asks the system, rather than a heartbeat, whether its kernel is alive.

    A machine that stalls for a second would miss a heartbeat.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.load_connection_file(kernel.connection_file)
        self._kernel = kernel

    async def is_alive(self) -> bool:
        """Return whether the kernel's process still runs, rather than whether it sends heartbeats."""
        return await self._kernel.is_alive()
