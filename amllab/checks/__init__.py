"""Checks: pytest tests worth points, run in a student's notebook or by the grader."""

from typing import TYPE_CHECKING, Any

from amllab.protocol.failure import CheckFailure, Failure, Series, expect, series

if TYPE_CHECKING:
    from amllab.checks.notebook import CheckReport, check

__all__ = ["CheckFailure", "CheckReport", "Failure", "Series", "check", "expect", "series"]


def __getattr__(name: str) -> Any:
    """Import ``check`` and ``CheckReport`` on first use, because they load PyTorch and pytest."""
    if name not in ("CheckReport", "check"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amllab.checks import notebook

    return getattr(notebook, name)
