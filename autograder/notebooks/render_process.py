"""The process that renders and cleans texts for :mod:`autograder.notebooks.rendering`.

It processes one text at a time, each within a limit of CPU time. The kernel ends the process when a text takes longer,
whatever is running: no Python signal handler could interrupt a parser in another language. Requests and replies are
JSON, each preceded by its length.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import IO, Any

_MEMORY_BYTES = 2 << 30
_HEAD = 8  # bytes of the length


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message, preceded by its length."""
    data = json.dumps(message).encode()
    stream.write(len(data).to_bytes(_HEAD) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read the next message; return ``None`` if the other side has ended."""
    head = stream.read(_HEAD)
    data = stream.read(int.from_bytes(head)) if len(head) == _HEAD else b""
    message: dict[str, Any] | None = json.loads(data) if data and len(data) == int.from_bytes(head) else None
    return message


def main() -> int:
    """Answer requests on standard output until standard input ends.

    Run as ``python -m autograder.notebooks.render_process``.
    """
    from autograder.notebooks import safe_html

    work: dict[str, Callable[..., str]] = {
        "html": safe_html.cleaned,
        "markdown": safe_html.from_markdown,
        "latex": safe_html.from_latex,
        "code": safe_html.highlighted,
        "ansi": safe_html.coloured,
    }
    work["code"]("x = 1\n")  # loads modules on first use, which must not count against a text
    work["markdown"]("# x $y$\n", {})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # text that a library prints must not mix with the answers
    send(answers, {"ready": True})
    while (asked := receive(sys.stdin.buffer)) is not None:
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        try:
            reply = {"html": work[asked["kind"]](*asked["arguments"])}
        except Exception as error:  # each parser raises its own exceptions on some texts
            reply = {"failed": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(answers, {**reply, "seconds": time.process_time() - began})
    return 0


if __name__ == "__main__":
    sys.exit(main())
