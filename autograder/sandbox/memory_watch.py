"""Sampling of a submission's memory from outside, for machines without control groups.

Every process of a submission is forked from the fork server and shares its memory until it writes to it. The sampler
computes up to three sums, the cheap ones first:

- A lower bound: the memory of all processes without what they may share with the fork server. If it exceeds the limit,
  so does the actual use.
- An upper bound: the whole memory of all processes. If it is within the limit, so is the actual use.
- Between the two, each process's proportional share of its pages according to the kernel (``smaps_rollup``), which
  takes milliseconds per process.

Memory that cannot be read counts in full, and data that cannot be parsed ends the submission. Shared memory that
belongs to no process is invisible from outside; where this module is used, :mod:`~autograder.sandbox.seccomp` refuses
such memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

PERIOD = 0.05  # seconds between two samples
_KB = 1024
_PIPE_BYTES = 8 << 10  # per descriptor: it can be a pipe, which holds two pages once its user has many
_THREAD_BYTES = 32 << 10  # kernel stack and descriptor of the thread
_MAPPING_BYTES = 256
_MAPPINGS = 65536  # assumed for a process whose mappings cannot be read: the kernel's maximum
_AGAIN_SECONDS = 0.02  # until the second sample: a process about to exec briefly counts its parent's memory


@dataclass
class Origin:
    """The memory of the fork server that this process and all its forks share.

    Attributes:
        stack: Start address of the stack. The kernel randomizes it for every program that starts, so processes with the
            same address are forks.
        anonymous: Anonymous memory, in bytes.
        share: Open ``smaps_rollup`` file with this process's proportional share of its pages.
        sockets: Open file that lists the sockets of the network namespace, one per line.
        socket_bytes: Bytes that one socket may hold.
    """

    stack: int
    anonymous: int
    share: int
    sockets: int
    socket_bytes: int

    @classmethod
    def of_this_process(cls) -> Origin:
        """Measure this process.

        Call this in the new namespaces, while ``/proc`` still shows this process.
        """
        own = _fields(_read(b"/proc/self/status"))
        return cls(
            _stack(_read(b"/proc/self/stat")),
            own[b"RssAnon"] * _KB,
            os.open("/proc/self/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC),
            os.open("/proc/self/net/unix", os.O_RDONLY | os.O_CLOEXEC),
            int(_read(b"/proc/sys/net/core/wmem_default")),
        )

    def close(self) -> None:
        """Close the open files."""
        os.close(self.share)
        os.close(self.sockets)


class Sampler:
    """A sampler of the memory of a process tree.

    Args:
        origin: Memory that its processes share with the fork server.
        limit: Memory limit, in bytes.
        places: Mount points of its file systems in memory.
    """

    def __init__(self, origin: Origin, limit: int, places: Sequence[str]) -> None:
        self.origin, self.limit, self.places = origin, limit, places

    def exceeded(self) -> bool:
        """Return whether the tree exceeds its limit, or its memory cannot be measured."""
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
            # missing for a process that has ended and waits for its parent
            anonymous = (fields.get(b"RssAnon", 0) + fields.get(b"VmSwap", 0)) * _KB
            forked = stack == self.origin.stack
            inherited += forked
            most += anonymous + kernel
            least += max(0, anonymous - self.origin.anonymous * forked) + kernel
        if least > self.limit:
            return True
        return most > self.limit and self._exact(processes, inherited) > self.limit

    def _shared(self) -> int:
        """Return the bytes that belong to no single process: files in memory, and what sockets may hold."""
        files = 0
        for place in self.places:
            system = os.statvfs(place)
            files += (system.f_blocks - system.f_bfree) * system.f_frsize
        size, listed = 1 << 20, b""
        while piece := os.pread(self.origin.sockets, size, len(listed)):
            listed += piece
        return files + listed.count(b"\n") * self.origin.socket_bytes

    def _exact(self, processes: Sequence[bytes], inherited: int) -> int:
        """Sum the proportional shares of all processes, in bytes, without the fork server's pages.

        The sum is incomplete if it exceeds the limit: adding stops there.
        """
        own = _fields(os.pread(self.origin.share, 1 << 14, 0))[b"Pss_Anon"] * _KB
        # subtract the share of this process, which has written nothing, once for each forked process, but at most the
        # memory of the fork server: a tree that has released pages must not gain by this
        total = self._shared() - min(self.origin.anonymous, inherited * own)
        for name in processes:
            with suppress(FileNotFoundError, ProcessLookupError):
                path, fields = _living(b"/proc/" + name)
                total += _kernel(fields)
                try:
                    share = _fields(_read(path + b"/smaps_rollup"))
                    total += (share.get(b"Pss_Anon", 0) + share.get(b"SwapPss", 0)) * _KB
                    total += _read(path + b"/maps").count(b"\n") * _MAPPING_BYTES
                except PermissionError:  # the process is not readable
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
    """Return the path and fields of a process, or of its first living thread if its main thread has ended.

    A process whose main thread has ended shows no memory itself.
    """
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
    """Parse the numeric fields of /proc/PID/status or smaps_rollup.

    The name of a process may contain any bytes, but cannot form a line of its own.
    """
    found = {}
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        parts = value.split()
        if parts and parts[0].isdigit() and name not in found:
            found[name] = int(parts[0])
    return found


def _stack(stat: bytes) -> int:
    """Return the start address of the stack from /proc/PID/stat, or 0 where the kernel hides it.

    The name in parentheses may contain any character, so fields are counted from the last closing parenthesis.
    """
    return int(stat[stat.rindex(b")") + 2 :].split()[25])


def _kernel(fields: dict[bytes, int]) -> int:
    """Return the bytes that a process uses in addition to its pages: page tables, huge pages, pipes and threads."""
    tables = (fields.get(b"VmPTE", 0) + fields.get(b"HugetlbPages", 0)) * _KB
    return tables + fields[b"FDSize"] * _PIPE_BYTES + fields.get(b"Threads", 1) * _THREAD_BYTES
