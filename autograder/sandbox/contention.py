"""Whether others kept the processors from a submission: how much its processes got of them, and how long they waited for one.

A limit of time is one of the wall clock, since code that sleeps for ever has to end too. Where it was reached and the processes had
been waiting for a processor that others had, it says nothing of the code.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

_TICK = os.sysconf("SC_CLK_TCK")
_MARK_SECONDS = 1.0  # between two looks: they cost milliseconds, and limits are many seconds
_WAITED = 0.2  # share of the time: less is what any machine has
_GOT = 0.8  # share of its processors; whose processes had as much only waited for each other


@dataclass(frozen=True)
class Use:
    """What a process tree has used: seconds.

    Attributes:
        at: when this was.
        got: processor time of all its processes, with those that have ended.
        waited: that its threads were ready to run and did not.
        stolen: that the host of this virtual machine took, of each processor.
    """

    at: float
    got: float
    waited: float
    stolen: float


class Load:
    """What a process tree has used over time.

    Args:
        root: number of the process that all others descend from.
        cores: processors that it may use.
    """

    def __init__(self, root: int, cores: int) -> None:
        self.root, self.cores = root, cores
        self.first = self.last = use(root)

    def mark(self) -> Use:
        """What has been used up to now, or a moment ago."""
        if time.monotonic() - self.last.at > _MARK_SECONDS:
            self.last = use(self.root)
        return self.last

    def taken(self, since: Use) -> str:
        """Says how others kept the processors from it since then; empty where they did not."""
        now = use(self.root)
        seconds = max(now.at - since.at, 1e-9)
        got, waited = max(0.0, now.got - since.got), max(0.0, now.waited - since.waited)
        stolen = max(0.0, now.stolen - since.stolen)
        if stolen < _WAITED * seconds and (waited < _WAITED * seconds or got > _GOT * seconds * self.cores):
            return ""
        return f"the machine was busy: in {seconds:.0f} seconds its processes got {got:.0f} seconds of processor time"


def use(root: int) -> Use:
    """What a process and all that descend from it have used."""
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
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _stolen() -> float:
    with suppress(OSError, IndexError), open("/proc/stat", "rb") as file:
        return int(file.readline().split()[8]) / _TICK / (os.cpu_count() or 1)
    return 0.0
