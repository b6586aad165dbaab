"""The files that a submission brings into its isolated process, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from autograder.collect.uploads import short
from autograder.sandbox.file_system import SCRATCH_FILES

_BLOCK = 4096  # bytes; a file in memory takes whole pages
_SPARE_BYTES, _SPARE_FILES = 16 << 20, 1000  # for the kernels themselves
_ROUND = 100_000_000


def too_much(files: Mapping[str, Path], limits: Mapping[str, int]) -> str:
    """Return why files cannot be brought into an isolated process, and what to do; empty if they can.

    Args:
        files: Path in the folder of the submission -> path of the file.
        limits: Limits by name, as in :data:`autograder.stock.process.LIMITS`.
    """
    sizes = {name: path.stat().st_size for name, path in files.items()}
    number = len({*files, *(str(above) for name in files for above in PurePosixPath(name).parents)})
    if number > SCRATCH_FILES - _SPARE_FILES:
        return f"it has {number:,} files and folders, and at most {SCRATCH_FILES - _SPARE_FILES:,} are possible; remove some and grade again"
    largest = max(sizes, key=lambda name: sizes[name], default="")
    everything = sum(-(-size // _BLOCK) * _BLOCK for size in sizes.values()) + _SPARE_BYTES
    # they are in memory
    wanted = {"file_bytes": sizes.get(largest, 0), "scratch_bytes": everything, "memory_bytes": everything}
    if not (exceeded := [name for name, size in wanted.items() if size > limits[name]]):
        return ""
    if exceeded[0] == "file_bytes":
        why = f"its file {short(largest)} has {_megabytes(sizes[largest])}, and a file may have {_megabytes(limits['file_bytes'])}"
    else:
        room = limits[exceeded[0]] - _SPARE_BYTES
        why = (
            f"its files have {_megabytes(everything - _SPARE_BYTES)}, and may have {_megabytes(room)} together; "
            f"the largest is {short(largest)} with {_megabytes(sizes[largest])}"
        )
    more = ", ".join(f"{name!r}: {-(-wanted[name] // _ROUND) * _ROUND:_}" for name in exceeded)
    return f"{why}; remove it, or set c.GradeChecks.limits = {{{more}}}, and grade again"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
