"""What the processes of a submission hold of the machine's memory, where no control group counts it: sampled from outside.

Every process is forked from the fork server and shares its memory with it until it writes to it. Three sums, the cheap ones first:

- without what a process may share with the fork server: if this is above the limit, the truth is;
- all of every process: if this is below the limit, the truth is;
- between the two, what the kernel says each process's share of its pages is (``smaps_rollup``), which takes milliseconds for each.

What cannot be read counts in full, and what cannot be understood ends the submission. Shared memory that belongs to no process cannot
be seen from outside; :mod:`~autograder.sandbox.seccomp` refuses it where this module is in force.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

PERIOD = 0.05  # seconds between two looks
_KB = 1024
_PIPE_BYTES = 8 << 10  # a descriptor may be a pipe that holds two pages, once a user has many
_THREAD_BYTES = 32 << 10  # its stack in the kernel, and what describes it
_MAPPING_BYTES = 256
_MAPPINGS = 65536  # of a process that does not show its own, as many as the kernel allows
_AGAIN_SECONDS = 0.02  # a process that is about to run a program counts its parent's memory for a moment


@dataclass
class Origin:
    """What this process has of the fork server's memory, and everything that it forks.

    Attributes:
        stack: where its stack begins, which is drawn by lot for every program that is started.
        anonymous: bytes.
        share: open file with this process's own share of its pages.
        sockets: open file that lists the sockets of the network namespace, one a line.
        socket_bytes: what one of them may hold.
    """

    stack: int
    anonymous: int
    share: int
    sockets: int
    socket_bytes: int

    @classmethod
    def of_this_process(cls) -> Origin:
        """To be called in the new namespaces, while ``/proc`` still shows this process."""
        own = _fields(_read(b"/proc/self/status"))
        return cls(
            _stack(_read(b"/proc/self/stat")),
            own[b"RssAnon"] * _KB,
            os.open("/proc/self/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC),
            os.open("/proc/self/net/unix", os.O_RDONLY | os.O_CLOEXEC),
            int(_read(b"/proc/sys/net/core/wmem_default")),
        )

    def close(self) -> None:
        os.close(self.share)
        os.close(self.sockets)


class Sampler:
    """Adds up the memory of a process tree.

    Args:
        origin: what its processes share with the fork server.
        limit: bytes.
        places: file systems in memory that belong to it.
    """

    def __init__(self, origin: Origin, limit: int, places: Sequence[str]) -> None:
        self.origin, self.limit, self.places = origin, limit, places

    def exceeded(self) -> bool:
        """Whether the tree has more than its limit; also where that cannot be told."""
        try:
            if not self._above():
                return False
            time.sleep(_AGAIN_SECONDS)
            return self._above()
        except (OSError, ValueError, LookupError):
            return True

    def _above(self) -> bool:
        least = most = self._shared()
        inherited = 0
        processes = [name for name in os.listdir(b"/proc") if name.isdigit() and name != b"1"]
        for name in processes:
            try:
                path, fields = _living(b"/proc/" + name)
                stack = _stack(_read(path + b"/stat"))
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            kernel = _kernel(fields)
            anonymous = (
                fields.get(b"RssAnon", 0) + fields.get(b"VmSwap", 0)
            ) * _KB  # none: it has ended, and waits for its parent
            forked = stack == self.origin.stack
            inherited += forked
            most += anonymous + kernel
            least += max(0, anonymous - self.origin.anonymous * forked) + kernel
        if least > self.limit:
            return True
        return most > self.limit and self._exact(processes, inherited) > self.limit

    def _shared(self) -> int:
        """Bytes of what belongs to no single process: files in memory, and what sockets may hold."""
        files = 0
        for place in self.places:
            system = os.statvfs(place)
            files += (system.f_blocks - system.f_bfree) * system.f_frsize
        size, listed = 1 << 20, b""
        while piece := os.pread(self.origin.sockets, size, len(listed)):
            listed += piece
        return files + listed.count(b"\n") * self.origin.socket_bytes

    def _exact(self, processes: Sequence[bytes], inherited: int) -> int:
        """Bytes by the kernel's own sharing out, without the fork server's pages; as soon as they are above the limit."""
        own = _fields(os.pread(self.origin.share, 1 << 14, 0))[b"Pss_Anon"] * _KB
        # as many times what this process has, which has written nothing; a tree that gave pages back gets no more than there was
        total = self._shared() - min(self.origin.anonymous, inherited * own)
        for name in processes:
            with suppress(FileNotFoundError, ProcessLookupError):
                path, fields = _living(b"/proc/" + name)
                total += _kernel(fields)
                try:
                    share = _fields(_read(path + b"/smaps_rollup"))
                    total += (share.get(b"Pss_Anon", 0) + share.get(b"SwapPss", 0)) * _KB
                    total += _read(path + b"/maps").count(b"\n") * _MAPPING_BYTES
                except PermissionError:  # it does not let itself be read
                    total += (fields.get(b"RssAnon", 0) + fields.get(b"VmSwap", 0)) * _KB
                    total += _MAPPINGS * _MAPPING_BYTES
            if total > self.limit:
                break
        return total


def _read(path: bytes) -> bytes:
    with open(path, "rb", buffering=0) as file:
        pieces = []
        while piece := file.read(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def _living(process: bytes) -> tuple[bytes, dict[bytes, int]]:
    """A process, or the first of its threads that lives: where that of the process itself has ended, it shows no memory."""
    fields = _fields(_read(process + b"/status"))
    if b"VmSize" in fields:
        return process, fields
    for thread in os.listdir(process + b"/task"):
        path = process + b"/task/" + thread
        with suppress(FileNotFoundError, ProcessLookupError):
            of_thread = _fields(_read(path + b"/status"))
            if b"VmSize" in of_thread:
                return path, of_thread
    return process, fields


def _fields(text: bytes) -> dict[bytes, int]:
    """The fields of /proc/PID/status or smaps_rollup that are numbers. A process's name may be any bytes, but no line of its own."""
    found = {}
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        parts = value.split()
        if parts and parts[0].isdigit() and name not in found:
            found[name] = int(parts[0])
    return found


def _stack(stat: bytes) -> int:
    """Where the stack of a program begins, from /proc/PID/stat; the name in brackets may hold anything. 0 where it is not shown."""
    return int(stat[stat.rindex(b")") + 2 :].split()[25])


def _kernel(fields: dict[bytes, int]) -> int:
    """Bytes that the kernel holds for a process beside its pages: page tables, huge pages, pipes, threads."""
    tables = (fields.get(b"VmPTE", 0) + fields.get(b"HugetlbPages", 0)) * _KB
    return tables + fields[b"FDSize"] * _PIPE_BYTES + fields.get(b"Threads", 1) * _THREAD_BYTES
