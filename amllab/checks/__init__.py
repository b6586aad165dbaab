"""Checks: pytest tests worth points, run in a student's notebook or by the grader."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from amllab.lab import PUBLIC, search_course
from amllab.protocol.failure import CheckFailure, Failure, Series, expect, series

if TYPE_CHECKING:
    from amllab.checks.all_exercises import check_all
    from amllab.checks.notebook import CheckReport, check

__all__ = ["CheckFailure", "CheckReport", "Failure", "Series", "check", "check_all", "expect", "series"]

search_course(__path__, PUBLIC)
_PLACES = {"CheckReport": "notebook", "check": "notebook", "check_all": "all_exercises"}


def __getattr__(name: str) -> Any:
    """Import names that load pytest on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
