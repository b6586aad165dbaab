"""Hints of an exercise, opened one after the other while its checks keep failing in an open notebook."""

from __future__ import annotations

from amllab.checks.exercises import Exercise

PATIENCE = 2  # failed runs of the checks until the first hint opens; each further one opens the next

_failed: dict[tuple[str, str], int] = {}  # lab and exercise -> failed runs in a row, in this kernel


def hints_due(lab: str, exercise: Exercise, *, passed: bool) -> str:
    """Count a run of an exercise's checks, and return the hints that are due.

    Args:
        lab: Name of the lab.
        exercise: The exercise.
        passed: Whether all of its public checks passed; the count then starts again.

    Returns:
        Markdown with the newest hint opened and the ones before it folded; empty if no hint is due.
    """
    key = lab, exercise.name
    _failed[key] = 0 if passed else _failed.get(key, 0) + 1
    due = exercise.hints[: max(0, _failed[key] - PATIENCE + 1)]
    folded = [
        f"<details{' open' if i == len(due) - 1 else ''}><summary>{title}</summary>\n\n{text}\n\n</details>"
        for i, (title, text) in enumerate(due)
    ]
    return "\n\n".join(folded)
