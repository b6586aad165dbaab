"""Limits of the resources that the processes of a submission may use."""

from __future__ import annotations

from dataclasses import dataclass

# address space that a process may reserve beyond its memory; reading it costs page tables of a 512th of its size
ADDRESS_BYTES = 16 << 30


@dataclass(frozen=True)
class Limits:
    """The limits for the process tree of one submission.

    Attributes:
        memory_bytes: Memory of all processes together, in addition to what they share with the fork server: private
            and shared memory, files in the scratch directory, and kernel memory on their behalf.
        processes: Number of processes and threads.
        open_files: Number of open files per process.
        file_bytes: Size of a single file.
        scratch_bytes: Size of all files in the scratch directory; shared memory (``/dev/shm``) gets an additional
            sixteenth of this size.
        cpu_seconds: CPU time per process.
    """

    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    scratch_bytes: int
    cpu_seconds: int
