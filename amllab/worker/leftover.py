"""Detection of code that a cell leaves running in its kernel, which might end the kernel after the cell has finished.

:data:`EXPRESSION` is evaluated in the kernel between two cells: ``exit()``, a kernel shutdown, a thread, a task, a
timer or a child process can end a process that has already answered. The caller compares the results before and after a
cell, and so knows which cell is responsible.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import threading
from typing import Any

from tqdm import TMonitor

EXPRESSION = f"__import__({__name__!r}, fromlist=['left']).left()"
ENDING = "exit"  # the kernel is about to end by itself
SETTLE_SECONDS = 1.0  # how long a cell that left something running is watched


def left() -> list[str]:
    """Return names of everything that may still act on this process once the current code has ended."""
    from IPython import get_ipython

    loop = asyncio.get_running_loop()
    own = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task() and not _is_kernels(task)]
    timers = [timer for timer in getattr(loop, "_scheduled", []) if not timer.cancelled()]
    found = [f"task {id(task)}" for task in own] + [f"timer {id(timer)}" for timer in timers]
    # a progress bar of tqdm starts a thread that only redraws bars
    threads = [thread for thread in threading.enumerate() if not isinstance(thread, TMonitor)]
    found += [f"thread {thread.ident}" for thread in threads]
    if get_ipython().exit_now or getattr(loop, "_stopping", False):
        found.append(ENDING)
    if hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0]:
        found.append("alarm")
    if _has_children():
        found.append("child process")
    return found


def names_in(reply: Any) -> set[str]:
    """Return the result of :data:`EXPRESSION` from the content of a kernel's reply; empty if it cannot be read."""
    try:
        shown = next(iter(reply["user_expressions"].values()))["data"]["text/plain"]
        return {str(name) for name in ast.literal_eval(shown)}
    except (AttributeError, KeyError, StopIteration, SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        return set()


def _is_kernels(task: asyncio.Task[Any]) -> bool:
    """Return whether a task belongs to the kernel itself."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and f"{os.sep}ipykernel{os.sep}" in code.co_filename


def _has_children() -> bool:
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
