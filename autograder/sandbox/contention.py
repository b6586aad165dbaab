"""Detect whether other processes starved a submission of CPU time, from the time it got and the time it waited.

Time limits refer to the wall clock, because code that sleeps forever must end too. When a submission reaches its limit
while its processes waited for processors that others were using, the timeout says nothing about the code.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

_TICK = os.sysconf("SC_CLK_TCK")
_MARK_SECONDS = 1.0  # between two measurements: each costs milliseconds, and limits are many seconds
_WAITED = 0.2  # share of the elapsed time; shorter waits occur on any machine
_GOT = 0.8  # share of its processors' time; a tree that got more waited only for its own processes


@dataclass(frozen=True)
class Use:
    """The CPU use of a process tree up to one moment, in seconds.

    Attributes:
        at: Time of the measurement (``time.monotonic()``).
        got: CPU time of all its processes, including those that have ended.
        waited: Time that its threads were ready to run but did not run.
        stolen: Time that the host of this virtual machine took from each processor, on average.
    """

    at: float
    got: float
    waited: float
    stolen: float


class Load:
    """The CPU use of a process tree over time.

    Args:
        root: PID of the process that all others descend from.
        cores: Number of processors that the tree may use.
    """

    def __init__(self, root: int, cores: int) -> None:
        self.root, self.cores = root, cores
        self.first = self.last = use(root)

    def mark(self) -> Use:
        """Return the use up to now; the measurement may be a second old."""
        if time.monotonic() - self.last.at > _MARK_SECONDS:
            self.last = use(self.root)
        return self.last

    def got(self, since: Use) -> float:
        """Return the seconds of processor time that the tree has got since ``since``."""
        return max(0.0, use(self.root).got - since.got)

    def taken(self, since: Use) -> str:
        """Describe how others have starved the tree of CPU time since ``since``; return "" if they have not."""
        now = use(self.root)
        seconds = max(now.at - since.at, 1e-9)
        got, waited = max(0.0, now.got - since.got), max(0.0, now.waited - since.waited)
        stolen = max(0.0, now.stolen - since.stolen)
        if stolen < _WAITED * seconds and (waited < _WAITED * seconds or got > _GOT * seconds * self.cores):
            return ""
        return f"the machine was busy: in {seconds:.0f} seconds its processes got {got:.0f} seconds of processor time"


def use(root: int) -> Use:
    """Measure the CPU use of a process and all its descendants."""
    got = waited = 0.0
    for process in _descendants(root):
        with suppress(OSError):
            user, system, their_user, their_system = _stat(process)[11:15]
            got += (int(user) + int(system) + int(their_user) + int(their_system)) / _TICK
            for thread in os.listdir(f"/proc/{process}/task"):
                with suppress(OSError), open(f"/proc/{process}/task/{thread}/schedstat", "rb") as file:
                    waited += int(file.read().split()[1]) / 1e9
    return Use(time.monotonic(), got, waited, _stolen())


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _stat(process: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on; the name before it may contain any character."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _stolen() -> float:
    with suppress(OSError, IndexError), open("/proc/stat", "rb") as file:
        return int(file.readline().split()[8]) / _TICK / (os.cpu_count() or 1)
    return 0.0
