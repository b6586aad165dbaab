"""The worker's side of grading notebooks that test themselves: it runs their cells as ``nbgrader autograde`` does.

:func:`serve_notebooks` runs in a process that is already isolated. The grader sends the files of a submission, and the
cells of its notebooks one after the other. Each notebook has a kernel of its own, and all have the same folder, as in
nbgrader. Time limits, interrupts, and errors that hide themselves are handled as by nbgrader's ``Execute``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, cast

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from amllab.protocol.frames import receive_frame
from amllab.worker.kernel import Kernel
from amllab.worker.serve import REQUEST_BYTES, OutputLimitedClient, send

FOLDER = "submission"  # of the notebooks, in the scratch directory
_SHUTDOWN_SECONDS = 5.0
# characters of an output that counts for points, beyond the limit of a cell
_MOST_RESULT, _MOST_ERROR = 100_000, 20_000
_COUNTS = ("error", "execute_result")  # outputs that nbgrader grades by


def serve_notebooks(connection: socket.socket, *, output_bytes: int, notebooks: int, arguments: list[str]) -> int:
    """Serve the grader until it closes the connection; return an exit status.

    A request is a JSON head, a newline, and a body: ``{"do": "file", "path": p, "more": m}`` and a piece of a file,
    which continues the last one if ``m`` is true; ``{"do": "kernel"}``, which starts the kernel of the next notebook;
    or ``{"do": "run", "seconds": s, ...}`` and the source of a cell. The reply has the same form: ``{"state": s}`` with
    ``"ok"``, ``"full"``, ``"timeout"`` or ``"died"``, ``"late"`` if the cell was interrupted, and the outputs and the
    execution count of the cell as JSON.

    Args:
        connection: Socket to the grader.
        output_bytes: Maximum size of the outputs of one cell; the rest is dropped.
        notebooks: Number of notebooks.
        arguments: Further arguments of the kernels.
    """
    try:
        _as_in_a_new_process()
        home = Path.cwd()
        folder = home / FOLDER
        folder.mkdir()
        os.chdir(folder)
        # forked before anything here starts a thread; each begins when its notebook does
        kernels = iter([LaterKernel(home / f".kernel-{i}", arguments) for i in range(notebooks)])
        return asyncio.run(_serve(connection, kernels, folder, output_bytes))
    except Exception:
        report = traceback.format_exc()
        send(connection, {"state": "broken"}, report.encode())
        return 1


async def _serve(connection: socket.socket, kernels: Iterator[LaterKernel], folder: Path, output_bytes: int) -> int:
    client: PlainClient | None = None
    send(connection, {"state": "ready"})
    while (request := receive_frame(connection, REQUEST_BYTES)) is not None:
        head, _, body = request.partition(b"\n")
        asked = json.loads(head)
        reply: dict[str, Any] = {"state": "ok"}
        outputs = b""
        if asked["do"] == "file":
            reply["state"] = _write(folder, asked["path"], body, more=asked["more"])
        elif asked["do"] == "kernel":
            if client is not None:
                await client.shut_down()
            client = PlainClient(output_bytes, next(kernels))
            await client.begin()
        elif client is not None:
            reply["state"], cell = await client.execute_as_nbgrader(body.decode(), asked)
            reply["late"] = client.was_late
            outputs = json.dumps({"outputs": cell.outputs, "execution_count": cell.execution_count}).encode()
        send(connection, reply, outputs)
    return 0


def _write(folder: Path, name: str, content: bytes, *, more: bool) -> str:
    """Write a piece of a file of the submission; a notebook that ran before may have put something else there."""
    path = folder / PurePosixPath(name)
    try:
        if not more:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        with path.open("ab" if more else "wb") as file:
            file.write(content)
    except OSError:
        return "full"
    return "ok"


def _as_in_a_new_process() -> None:
    """Undo what the process that this one was forked from has set for labs: warnings count for points in nbgrader."""
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions.clear()
    kept = [entry for entry in warnings.filters if tuple(entry[:3]) != ("ignore", None, Warning)]
    warnings.resetwarnings()
    warnings.filters.extend(kept)  # type: ignore[attr-defined]


class LaterKernel(Kernel):
    """A kernel that is forked now, and begins when it is told to.

    Args:
        folder: Folder of its connection file and sockets.
        arguments: Further arguments of the kernel.
    """

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._arguments = arguments
        self._waiting, self._telling = os.pipe()
        super().__init__(folder)

    def begin(self) -> None:
        """Let the kernel begin."""
        os.write(self._telling, b"\n")

    async def interrupt_kernel(self) -> None:
        """Interrupt the cell that is running, as nbclient asks."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def _run(self, worker: int) -> None:
        if not os.read(self._waiting, 1):
            return
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed()  # its state was copied by the fork
        if (matplotlib := sys.modules.get("matplotlib")) is not None:
            matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
        super()._run(worker)

    @property
    def arguments(self) -> list[str]:
        """Arguments of the kernel application."""
        return [*super().arguments, *self._arguments]


class PlainClient(OutputLimitedClient):
    """A client that runs cells as nbgrader's ``Execute`` does.

    Whatever is dropped because a cell has too much output, errors, results and the fact that something was written to
    stderr are not: nbgrader grades by them.

    Args:
        output_bytes: Maximum size of the outputs of one cell.
        kernel: The kernel.

    Attributes:
        was_late: Whether the last cell reached its time limit.
    """

    def __init__(self, output_bytes: int, kernel: LaterKernel) -> None:
        super().__init__(output_bytes, kernel)
        self._later = kernel
        self.was_late = False
        self.on_cell_executed = self._note_error

    async def begin(self) -> None:
        """Start the kernel, and wait until it answers."""
        self._later.begin()
        await self.connect()

    async def execute_as_nbgrader(self, source: str, limits: dict[str, Any]) -> tuple[str, NotebookNode]:
        """Run a cell, and return its state and the cell.

        Args:
            source: Source of the cell.
            limits: Values of traits of nbclient, by name.
        """
        cell = nbformat.v4.new_code_cell(source)
        self.nb.cells.append(cell)
        self.was_late = False
        for name in ("timeout", "interrupt_on_timeout", "error_on_timeout", "iopub_timeout", "raise_on_iopub_timeout"):
            setattr(self, name, limits[name])
        self._begin_cell()
        try:
            await self.async_execute_cell(cell, len(self.nb.cells) - 1, store_history=True)
        except CellTimeoutError:
            return "timeout", cell
        except DeadKernelError:
            return "died", cell
        finally:
            self._pieces.finish()
        return "ok", cell

    async def _left(self) -> set[str] | None:
        """Return nothing: what a cell leaves running is the business of the notebook, as in nbgrader."""
        return None

    async def shut_down(self) -> None:
        """End the kernel, so that it writes what it still has to write."""
        cast(AsyncKernelClient, self.kc).shutdown()
        until = time.monotonic() + _SHUTDOWN_SECONDS
        while await self._later.is_alive():  # from its end on, its number may be that of another process
            if time.monotonic() > until:
                os.kill(self._later.pid, signal.SIGKILL)
                break
            await asyncio.sleep(0.01)

    def _note_error(self, cell: NotebookNode, execute_reply: dict[str, Any], **_: object) -> None:
        """Add the error of the kernel's reply unless it is among the outputs, as nbgrader does."""
        content = execute_reply["content"]
        self.was_late = "header" not in execute_reply  # nbclient makes this reply itself
        if content["status"] != "error":
            return
        if any(out.output_type == "error" and out.ename == content["ename"] for out in cell.outputs):
            return
        trace = content["traceback"] or ["ERROR: An error occurred while showtraceback was disabled"]
        error = _cut({"ename": content["ename"], "evalue": content["evalue"], "traceback": trace})
        cell.outputs.append(nbformat.from_dict({"output_type": "error", **error}))

    def dropped(self, message: dict[str, Any], cell: NotebookNode) -> NotebookNode | None:
        """Keep of an output beyond the limits what nbgrader grades by."""
        kind, content = message["msg_type"], message["content"]
        if kind == "stream" and content.get("name") == "stderr":
            kept: dict[str, Any] = {"output_type": kind, "name": "stderr", "text": str(content.get("text"))[:200]}
        elif kind in _COUNTS:
            kept = {**_cut(content), "output_type": kind}
        else:
            return None
        if any(out.output_type == kind and out.get("name") == kept.get("name") for out in cell.outputs):
            return None  # one is enough
        made: NotebookNode = nbformat.from_dict(kept)
        cell.outputs.append(made)
        return made


def _cut(content: dict[str, Any]) -> dict[str, Any]:
    """Shorten a result or an error."""
    if "traceback" in content:
        lines = "\n".join(map(str, content["traceback"]))
        trace = content["traceback"] if len(lines) <= _MOST_ERROR else [lines[:_MOST_ERROR]]
        return {"ename": str(content["ename"])[:500], "evalue": str(content["evalue"])[:2000], "traceback": trace}
    plain = str(content.get("data", {}).get("text/plain", ""))[:_MOST_RESULT]
    return {"data": {"text/plain": plain}, "metadata": {}, "execution_count": content.get("execution_count")}
