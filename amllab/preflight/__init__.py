"""``amllab.preflight()``: what grading would make of a notebook, before it is handed in.

The notebook is looked through against the one that was handed out, and its public checks are run as grading runs them: all
cells but experiments, in order, in a fresh process. Hidden checks, and whether the reflection is any good, remain open.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amllab.preflight.report import Preflight

__all__ = ["preflight"]


def preflight(notebook: str | os.PathLike[str] | None = None, *, limits: dict[str, float] | None = None) -> Preflight:
    """Looks through a notebook and runs its public checks as grading would; takes about half a minute.

    Args:
        notebook: the file. By default the notebook that this is called from, or the only notebook of a lab in the
            working directory.
        limits: in place of those of the lab, such as ``{"cell_seconds": 20}``.

    Returns:
        What is to be mended, and points by cell. It shows itself: as a panel in a notebook, as text elsewhere. Where no
        notebook of a lab was found it says so: this is no exception.
    """
    # what runs checks, and with it PyTorch, is loaded when it is needed: every use of the library imports this module
    from amllab.preflight.flight import fly

    return fly(notebook, limits)
