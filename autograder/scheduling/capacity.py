"""The number of submissions to grade at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

_SPARE = 0.9  # share of the available memory to use


def choose_jobs(wanted: int, memory_bytes: int, submissions: Sequence[object]) -> tuple[int, str]:
    """Choose how many submissions to grade at a time.

    Args:
        wanted: Configured number; 0 for one per core.
        memory_bytes: Memory that every submission may use up.
        submissions: The submissions, whose number is an upper limit.

    Returns:
        The number, at least 1, and the reason why it is not higher.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = {
        "one for each submission": len(submissions),
        f"one for each of {cores} cores" if not wanted else "as configured": wanted or cores,
        f"limited by {_available() / 1e9:.1f} GB of memory": int(_SPARE * _available() // memory_bytes),
    }
    reason, number = min(limits.items(), key=lambda limit: limit[1])
    return max(number, 1), reason


def _available() -> int:
    """Return the bytes of memory available on the machine or in this process's control group, whichever is less."""
    free: list[int] = [psutil.virtual_memory().available]
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(most).is_file() and (text := Path(most).read_text().strip()) != "max":
            free.append(int(text) - int(Path(used).read_text()))
    return min(free)
