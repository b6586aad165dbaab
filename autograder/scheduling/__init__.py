"""Parallel grading of a class, on all cores or on the workers of a Dask scheduler."""

from typing import Protocol


class GradingPool(Protocol):
    """Processes that grade the submissions of a class and put the gradings into the cache."""

    def result(self, student: str) -> str | None:
        """Wait until a submission is graded; return the key of its grading, or ``None`` if it is not in this pool."""

    def close(self) -> None:
        """End all processes, or cancel all tasks."""
