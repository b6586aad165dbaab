"""Preflight: check a notebook as grading would, before it is submitted.

:func:`preflight` compares the notebook with the released one and runs its public checks as grading does: all cells
except experiments, in order, in a fresh process. It does not cover hidden checks and the quality of the reflection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amllab.preflight.report import Preflight

__all__ = ["preflight"]


def preflight(notebook: str | os.PathLike[str] | None = None, *, limits: dict[str, float] | None = None) -> Preflight:
    """Check a saved notebook and run its public checks as grading would; takes about half a minute.

    Args:
        notebook: path of the file. Default: the notebook that calls this function, or else the only notebook of a lab
            in the working directory.
        limits: values that replace limits of the lab, such as ``{"cell_seconds": 20}`` (in seconds).

    Returns:
        The things to fix, and the points of each cell. The result displays itself: as a panel in a notebook, as text
        elsewhere. If no notebook of a lab was found, the result says so; this does not raise an exception.
    """
    # imported only now, because it loads PyTorch: every use of the library imports this module
    from amllab.preflight.run import run_preflight

    return run_preflight(notebook, limits)
