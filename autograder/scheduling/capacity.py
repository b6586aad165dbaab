"""How many submissions are graded at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from amllab.checks.lab import Lab

_SPARE = 0.9  # share of the memory at hand that is planned with


def choose_jobs(wanted: int, lab: Lab, submissions: Sequence[object]) -> tuple[int, str]:
    """How many submissions are graded at a time, and why no more.

    Args:
        wanted: number; 0 for one for each core.
        lab: whose limit of memory every submission may use up.
        submissions: of which there are as many at most.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = {
        "as many as submissions": len(submissions),
        f"of {cores} cores" if not wanted else "as configured": wanted or cores,
        f"as {_available() / 1e9:.1f} GB of memory allow": int(_SPARE * _available() // lab.limits["memory_bytes"]),
    }
    reason, number = min(limits.items(), key=lambda limit: limit[1])
    return max(number, 1), reason


def _available() -> int:
    """Bytes of memory that are at hand, on the machine and in the control group that this process is in."""
    free = [psutil.virtual_memory().available]
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(most).is_file() and (text := Path(most).read_text().strip()) != "max":
            free.append(int(text) - int(Path(used).read_text()))
    return min(free)
