"""Functions of a notebook that do not return: which they are, and how long further questions wait for them.

A function that has used up the time of one answer will mostly do so again. Without this module, each question that
calls it would wait until the limit of an answer. While a question is answered, a thread of the kernel records which
calls of the notebook's functions are under way. If an answer takes too long, the deepest call that lasted nearly all
the time is the one that hangs. Further questions get the short limit of :func:`short_seconds`, but only if they are
inside this function when it ends: all others have the full limit. With each question in a row that ends so, the short
limit is halved; the first one that is answered restores it.

The record comes from the submission's own process. If it is wrong or missing, a question waits up to the limit of an
answer, as if there were no record.
"""

from __future__ import annotations

import _thread
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

_MOST_BYTES = 1 << 16  # of a record
_SHORT, _LEAST = 1 / 12, 5.0  # the short limit, as a share of the limit of an answer, and in seconds at least
_SHORTEST = 2.0  # seconds that are left of it at least, however often it is halved
_LOOKS = 4  # how often calls are recorded in this time
_MOST_CALLS = 50  # the outermost are recorded
_MOST_NAME = 200
_LASTED = 0.75  # share of the time of an answer that a call must have lasted to count as one that hangs


def answer_seconds(limits: Mapping[str, Any], cell: str | None) -> float:
    """Return the seconds for one answer at a check cell.

    A lab can give single cells more time than the others, in ``answer_seconds_at``; never less.
    """
    return float(max(limits["answer_seconds"], limits.get("answer_seconds_at", {}).get(cell, 0)))


def short_seconds(seconds: float, stopped: int = 0) -> float:
    """Return the seconds that a question may spend in a function that has used up the time of an answer before.

    Args:
        seconds: The limit of an answer.
        stopped: How many questions in a row this short limit has ended.
    """
    short = max(max(seconds * _SHORT, _LEAST) * 0.5 ** min(stopped, 10), _SHORTEST)
    return min(short, seconds)


def record(file: str, seconds: float) -> Callable[[], None]:
    """Start to record what the caller calls from now on; return a function that ends the recording.

    Args:
        file: Path of the file with the latest record.
        seconds: The short limit.
    """
    answering, caller, ended = _thread.get_ident(), sys._getframe(1), _thread.allocate_lock()
    ended.acquire()

    def look() -> None:
        looks, ages = 0, dict[int, int]()  # identity of a call -> number of looks in a row that saw it
        with suppress(Exception):  # code of the submission may have replaced anything
            while not ended.acquire(timeout=seconds / _LOOKS):
                looks += 1
                found = _calls(sys._current_frames().get(answering), caller)
                ages = {call: ages.get(call, 0) + 1 if lasts else 1 for _, call, lasts in found}
                calls = [[name, ages[call]] for name, call, _ in found]
                Path(f"{file}.part").write_text(json.dumps({"looks": looks, "calls": calls}), encoding="utf-8")
                os.replace(f"{file}.part", file)

    with suppress(RuntimeError):  # the submission has used up its processes and threads: there is no record
        _thread.start_new_thread(look, ())
    return ended.release


def _calls(frame: FrameType | None, caller: FrameType) -> list[tuple[str, int, bool]]:
    """Return name, identity, and whether it is not new, of each call of a function that a cell defines.

    The outermost is the first. Code of cells is recognised by its file name, as cells have no real file. A later call
    may get the identity of one that has ended, so calls are marked; the mark means nothing unless a debugger runs. To
    keep the frame instead would keep all its tensors.
    """
    found = []
    while frame is not None and frame is not caller:
        code = frame.f_code
        if "ipykernel_" in code.co_filename and not code.co_name.startswith("<"):
            found.append((f"{code.co_name}:{code.co_firstlineno}"[:_MOST_NAME], id(frame), not frame.f_trace_lines))
            frame.f_trace_lines = False
        frame = frame.f_back
    return found[::-1][:_MOST_CALLS]


def last_record(file: Path) -> bytes:
    """Return the latest record; empty if the kernel left no regular file of at most 64 kB."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            regular = stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES
            return opened.read(_MOST_BYTES) if regular else b""
    except OSError:
        return b""


def read(data: bytes) -> tuple[int, list[tuple[str, int]]]:
    """Return how often calls were recorded, and the name of each call with the number of records in a row that have it.

    Anything that is not a record gives 0 and no calls.
    """
    try:
        found = json.loads(data)
        return int(found["looks"]), [(str(name)[:_MOST_NAME], int(age)) for name, age in found["calls"]][:_MOST_CALLS]
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return 0, []


def hanging(data: bytes) -> str:
    """Return the function that used up the time of an answer; empty if the record does not tell."""
    looks, calls = read(data)
    return next((name for name, age in reversed(calls) if looks >= _LOOKS and age >= _LASTED * looks), "")


def hangs_again(data: bytes, known: Iterable[str]) -> str:
    """Return the function of ``known`` that the question has been in for half of the short limit; empty if none."""
    names = set(known)
    return next((name for name, age in reversed(read(data)[1]) if name in names and age >= _LOOKS // 2), "")
