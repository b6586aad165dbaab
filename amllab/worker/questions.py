"""Questions to a kernel: one cell of it answers them all, until another cell is to run.

A cell in Jupyter's protocol costs six messages, which take longer than most answers. So questions and answers travel
over a pair of sockets that the kernel inherits, and the cell only reads one question after the other
(:func:`answer_questions`). Other threads and processes of the submission may use this socket as well, but they cannot
answer: an answer begins with a key that only the source of the cell has.
"""

from __future__ import annotations

import asyncio
import inspect
import marshal
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from amllab.worker import hanging
from amllab.worker.integrity import TAMPERED
from amllab.worker.kernel import INHERITED

_LENGTH_BYTES, _KEY_BYTES = 8, 16
_PATIENCE_SECONDS = 5.0  # for the end of a process, or of the cell that answers
_FOREVER = 1e9  # seconds

Call = Callable[[str, float], Awaitable[tuple[str, dict[str, Any]]]]


class Questions:
    """The questions to one kernel.

    Args:
        call: Executes code in the kernel for some seconds at most; returns its state and the kernel's reply.
        stream: The worker's socket of the pair.
        trusted_functions: See :func:`amllab.worker.serve.serve`.
        answer_bytes: Maximum size of an answer.
    """

    def __init__(self, call: Call, stream: socket.socket, trusted_functions: bytes, answer_bytes: int) -> None:
        self._call, self._stream = call, stream
        self._copy, self._answer_bytes = trusted_functions, answer_bytes
        self._key = b""
        self._answering: asyncio.Future[tuple[str, dict[str, Any]]] | None = None
        stream.setblocking(False)

    async def ask(
        self, question: bytes, seconds: float, short: float, known: Collection[str]
    ) -> tuple[str, bytes | bytearray]:
        """Put a question to the kernel; return its state and the answer, as :func:`amllab.worker.serve.serve` does.

        Args:
            question: The packed question.
            seconds: The limit of an answer.
            short: The short limit.
            known: Functions that hang (:mod:`amllab.worker.hanging`).
        """
        if self._answering is None:
            self._key = secrets.token_bytes(_KEY_BYTES)
            text = f"{_FUNCTION}\nanswer_questions({INHERITED}, {self._key!r})\n"
            self._answering = asyncio.ensure_future(self._call(f"exec({text!r}, {{}})", _FOREVER))
        loop, calls = asyncio.get_running_loop(), Path.cwd() / f"calls-{secrets.token_hex(4)}"
        reply = asyncio.ensure_future(self._exchange((self._copy, question, str(calls), short)))
        waiting: set[asyncio.Future[Any]] = {reply, self._answering}
        until = loop.time() + seconds
        while not (reply.done() or self._answering.done()):
            if loop.time() >= until:
                return "timeout", hanging.hanging(hanging.last_record(calls)).encode()
            left = min(short, until - loop.time())
            done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done and (name := hanging.hangs_again(hanging.last_record(calls), known)):
                return "again", name.encode()  # the grader ends this process
        calls.unlink(missing_ok=True)
        if not reply.done():
            reply.cancel()
        try:
            answer = await reply
        except (OSError, asyncio.CancelledError):
            return await self._failure(), b""
        if answer is None:
            return "unreadable", b""
        if answer.startswith(TAMPERED):
            return "tampered", answer.removeprefix(TAMPERED)
        return "ok", answer

    async def end(self) -> bool:
        """Let the kernel run other cells; return whether it has answered questions until now."""
        if self._answering is None:
            return False
        with suppress(OSError):
            await self._send(b"")
        await asyncio.wait({self._answering}, timeout=_PATIENCE_SECONDS)
        self._answering.cancel()
        self._answering = None
        return True

    async def _exchange(self, asked: tuple[bytes, bytes, str, float]) -> bytearray | None:
        """Send a question and receive its answer; ``None`` if it is empty or too long, or without the key."""
        await self._send(marshal.dumps(asked))
        length = int.from_bytes(await self._receive(_LENGTH_BYTES), "big") - _KEY_BYTES
        if not 0 < length <= self._answer_bytes or await self._receive(_KEY_BYTES) != self._key:
            return None
        return await self._receive(length)

    async def _failure(self) -> str:
        """Return why the kernel has stopped to answer: it has died, or code in it has closed its socket."""
        assert self._answering is not None
        await asyncio.wait({self._answering}, timeout=_PATIENCE_SECONDS)
        return "died" if self._answering.done() and self._answering.result()[0] == "died" else "unreadable"

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._stream, len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    async def _receive(self, length: int) -> bytearray:
        data, loop = bytearray(length), asyncio.get_running_loop()
        view = memoryview(data)
        while view.nbytes:
            number = await loop.sock_recv_into(self._stream, view)
            if not number:
                raise ConnectionError("the kernel has closed its socket")
            view = view[number:]
        return data


def answer_questions(descriptor: int, key: bytes) -> None:
    """Answer the questions that arrive at a socket, until an empty one arrives.

    The kernel runs the text of this function, so that the notebook cannot change it.

    Args:
        descriptor: Descriptor of the socket.
        key: What an answer begins with.
    """
    import marshal
    import os
    import socket
    from contextlib import suppress

    from IPython import get_ipython

    def receive(length: int) -> bytearray:
        data, read = bytearray(length), 0
        while read < length:
            number = stream.recv_into(memoryview(data)[read:])
            if not number:
                os._exit(1)  # the worker has ended
            read += number
        return data

    shell, process = get_ipython(), os.getpid()
    stream = socket.socket(fileno=descriptor)
    try:
        while length := int.from_bytes(receive(8), "big"):
            copy, question, calls, seconds = marshal.loads(receive(length))
            code, known = marshal.loads(copy)
            names = {"__name__": "amllab.worker.integrity", "__file__": code.co_filename}
            answer = b""
            with suppress(BaseException):  # no memory is left, or the submission has called sys.exit()
                exec(code, names)
                answer = names["answer_question"](question, known, calls, seconds)
            if os.getpid() != process:
                os._exit(
                    0
                )  # a fork that returned from the function as well: its answer would be taken for the next one
            shell.events.trigger("post_execute")  # closes figures, as after a cell
            stream.sendall((len(key) + len(answer)).to_bytes(8, "big") + key)
            stream.sendall(answer)
            del question, answer  # their memory is free until the next question arrives
    finally:
        stream.detach()  # the socket stays open


_FUNCTION = inspect.getsource(answer_questions)
