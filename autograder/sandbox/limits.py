"""Limits of a submission's processes, and the error where it cannot be isolated."""

from __future__ import annotations

from dataclasses import dataclass

ADDRESS_BYTES = (
    16 << 30
)  # that a process may reserve beyond its memory: page tables take a 512th of what it reads of it


@dataclass(frozen=True)
class Limits:
    """What one submission's process tree may use.

    Attributes:
        memory_bytes: of all its processes together, beyond what they share with the fork server: their own memory, shared memory,
            files in the scratch directory, and what the kernel holds on their behalf.
        processes: processes and threads.
        open_files: of each process.
        file_bytes: of one file.
        scratch_bytes: of all files in the scratch directory; shared memory (``/dev/shm``) gets a sixteenth of it on top.
        cpu_seconds: processor time of each process.
    """

    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    scratch_bytes: int
    cpu_seconds: int
