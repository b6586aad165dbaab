"""The worker's side of grading: it runs the cells that the grader sends, and answers its questions.

:func:`serve` runs in a process that is already isolated. It starts the notebook's kernel (forked, so that PyTorch is
loaded from the start), controls it with nbclient, and exchanges frames with the grader over one socket. The grader
trusts nothing here: a submission that takes over all of this can lie about its own outputs and answers, and reach
nothing else.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
import traceback
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any, cast

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from amllab.protocol.frames import receive_frame, send_frame
from amllab.worker import leftover
from amllab.worker.kernel import Kernel, KernelClient
from amllab.worker.questions import Questions
from amllab.worker.streams import Pieces

_STARTUP_SECONDS = 60
_ANSWER_SECONDS = 5.0  # for a kernel to report what is running in it
_LOOK_SECONDS = 0.05  # between two checks of whether it has ended
REQUEST_BYTES = 1 << 28
_MOST_OUTPUTS = 2000  # per cell, where consecutive prints count as one
_OUTPUTS = ("stream", "display_data", "execute_result", "update_display_data", "error")


def serve(connection: socket.socket, trusted_functions: bytes, *, output_bytes: int, answer_bytes: int) -> int:
    """Serve the grader until it closes the connection; return an exit status.

    A request is a JSON head, a newline, and a body: ``{"do": "run", "seconds": s, "watch": s}`` and the source of a
    cell, ``{"do": "ask", "seconds": s, "short": s, "hanging": names}`` and a packed question, or ``{"do": "watch",
    "seconds": s}``, which only waits. The reply has the same form: ``{"state": "ok" | "timeout" | "again" | "died" |
    "unreadable" | "tampered", "runs_on": whether the cell left something running}``, and the outputs of the cell as
    JSON or the packed answer. After ``"timeout"`` and ``"again"`` it has the name of the function that hangs, if it is
    known (:mod:`amllab.worker.hanging`); ``"again"`` means that the function is one of ``hanging``.

    Args:
        connection: Socket to the grader.
        trusted_functions: Result of :func:`amllab.worker.integrity.packed` in the process that this one was forked
            from.
        output_bytes: Maximum size of the outputs of one cell; the rest is dropped.
        answer_bytes: Maximum size of an answer.
    """
    try:
        ours, theirs = socket.socketpair()
        kernel = Kernel(Path.cwd() / ".kernel", theirs)  # forked before anything here starts a thread
        client = OutputLimitedClient(output_bytes, kernel)
        questions = Questions(client.call, ours, trusted_functions, answer_bytes)
        return asyncio.run(_serve(connection, client, questions))
    except Exception:
        report = traceback.format_exc() + "".join(file.read_text() for file in Path.cwd().glob(".kernel/failure"))
        send(connection, {"state": "broken"}, report.encode())
        return 1


async def _serve(connection: socket.socket, client: OutputLimitedClient, questions: Questions) -> int:
    await client.connect()
    send(connection, {"state": "ready"})
    while (request := receive_frame(connection, REQUEST_BYTES)) is not None:
        head, _, body = request.partition(b"\n")
        asked = json.loads(head)
        runs_on = False
        reply: bytes | bytearray = b""
        if asked["do"] != "ask" and await questions.end():
            await client.note_running()
        if asked["do"] == "run":
            state, outputs = await client.run(body.decode(), asked["seconds"])
            if state == "ok":
                state, runs_on = await client.settle(asked["watch"])
            reply = json.dumps(outputs).encode()
        elif asked["do"] == "watch":
            state = await client.watch(asked["seconds"])
        else:
            state, reply = await questions.ask(body, asked["seconds"], asked["short"], asked["hanging"])
        send(connection, {"state": state, "runs_on": runs_on}, reply)
    return 0


def send(connection: socket.socket, head: dict[str, Any], body: bytes | bytearray = b"") -> None:
    """Send a reply: its head as JSON, and its body."""
    send_frame(connection, json.dumps(head).encode() + b"\n" + body)


def _is_idle(message: dict[str, Any], request: str) -> bool:
    """Return whether a published message says that a request has been processed."""
    same: bool = message["parent_header"].get("msg_id") == request
    return same and message["content"].get("execution_state") == "idle"


class OutputLimitedClient(NotebookClient):
    """An nbclient for a forked kernel that limits the bytes and outputs of a cell, and drops the rest.

    Args:
        output_bytes: Maximum size of the outputs of one cell.
        kernel: The kernel.
    """

    def __init__(self, output_bytes: int, kernel: Kernel) -> None:
        super().__init__(nbformat.v4.new_notebook(), km=cast(KernelManager, kernel), allow_errors=True)
        self._kernel = kernel
        self.output_bytes = output_bytes
        self._room = self._outputs_left = 0
        self._pieces = Pieces()
        self._running: set[str] = set()

    async def connect(self) -> None:
        """Wait until the kernel answers, and until its published messages arrive here.

        ``wait_for_ready`` of jupyter_client detects this by waiting until no more messages arrive, which takes longer
        than everything else.
        """
        async with asyncio.timeout(_STARTUP_SECONDS):
            while not self._kernel.is_there():
                await asyncio.sleep(0.002)
                if not await self._kernel.is_alive():
                    raise DeadKernelError("the kernel did not start")
            kernel_client = KernelClient(self._kernel)
            kernel_client.start_channels(stdin=False, hb=False)
            published = None
            while published is None:  # messages published before the connection is up are lost
                asked = kernel_client.kernel_info()
                while (await kernel_client.get_shell_msg())["parent_header"].get("msg_id") != asked:
                    pass
                with suppress(Empty):
                    while not _is_idle(published := await kernel_client.get_iopub_msg(timeout=0.02), asked):
                        published = None
        kernel_client.allow_stdin = False
        self.kc = kernel_client
        await self.note_running()  # what belongs to the kernel itself

    async def note_running(self) -> None:
        """Record what is running in the kernel, so that the next cell is not blamed for it."""
        self._running = await self._left() or set()

    async def run(self, source: str, seconds: float) -> tuple[str, list[Any]]:
        """Run a cell; return its state (``"ok"`` even if it raised an error) and its outputs."""
        cell = nbformat.v4.new_code_cell(source)
        self.nb.cells = [cell]
        self.timeout = math.ceil(seconds)
        self._begin_cell()
        try:
            await self.async_execute_cell(cell, 0, store_history=False)
        except CellTimeoutError:
            return "timeout", cell.outputs
        except DeadKernelError:
            return "died", cell.outputs
        finally:
            self._pieces.finish()
        return "ok", cell.outputs

    def _begin_cell(self) -> None:
        self._room, self._outputs_left = self.output_bytes, _MOST_OUTPUTS

    async def settle(self, seconds: float) -> tuple[str, bool]:
        """Return whether the cell that ran last ends the kernel now, and whether it left something running.

        The first is ``"died"`` if it does, else ``"ok"``.

        Args:
            seconds: How long to watch the kernel if the cell left something running.
        """
        before = self._running
        found = await self._left()
        if found is None or leftover.ENDING in found:
            return "died", True
        self._running = found
        return (await self.watch(seconds), True) if found - before else ("ok", False)

    async def watch(self, seconds: float) -> str:
        """Return ``"died"`` if the kernel ends within these seconds, else ``"ok"``."""
        until = time.monotonic() + seconds
        while await self._kernel.is_alive():
            if time.monotonic() > until:
                return "ok"
            await asyncio.sleep(_LOOK_SECONDS)
        return "died"

    async def _left(self) -> set[str] | None:
        """Return what is running in the kernel.

        ``None`` if the kernel has ended; the last known result if it does not answer.
        """
        state, content = await self.call("", _ANSWER_SECONDS, left=leftover.EXPRESSION)
        if state == "ok":
            return leftover.names_in(content)
        return None if state == "died" else self._running

    async def call(self, source: str, seconds: float, **expressions: str) -> tuple[str, dict[str, Any]]:
        """Execute code without outputs; return its state, and the content of the kernel's reply.

        This takes a fraction of the time of a cell, whose outputs are collected.
        """
        client = cast(AsyncKernelClient, self.kc)
        asked = client.execute(source, silent=True, store_history=False, user_expressions=expressions)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(Empty):
                reply = await client.get_shell_msg(timeout=_LOOK_SECONDS)
                if reply["parent_header"].get("msg_id") == asked:
                    return "ok", reply["content"]
                continue
            if not await self._kernel.is_alive():
                return "died", {}
        return "timeout", {}

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Process a message from the kernel, and drop output beyond the limits."""
        if msg["msg_type"] in _OUTPUTS:
            if self._room < 0:
                return self.dropped(msg, cell)
            size = len(json.dumps(msg["content"], default=str))
            held = self.clear_before_next_output or self.output_hook_stack.get(msg["parent_header"].get("msg_id"))
            goes_on = msg["msg_type"] == "stream" and size <= self._room and not held
            if goes_on and self._pieces.take(msg["content"], cell.outputs):
                self._room -= size
                return None
            self._outputs_left -= 1
            if self._outputs_left < 0:
                size = self._room + 1
            if size > self._room:
                self.dropped(msg, cell)
                text = msg["content"]["text"][: self._room] if msg["msg_type"] == "stream" else ""
                note = {"name": "stdout", "text": f"{text}\n... further output left out ...\n"}
                msg = {**msg, "msg_type": "stream", "header": {**msg["header"], "msg_type": "stream"}, "content": note}
            self._room -= size
        output: NotebookNode | None = super().process_message(msg, cell, cell_index)
        return output

    def dropped(self, message: dict[str, Any], cell: NotebookNode) -> NotebookNode | None:
        """Keep something of an output beyond the limits: nothing, as checks do not depend on outputs."""
        return None
