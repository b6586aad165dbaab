"""The deadline of a lab, from ``[deadline]`` in its ``lab.toml`` to the gradebook and to texts for students."""

from __future__ import annotations

from datetime import UTC, datetime, timezone
from typing import Any

from amllab.lab import Lab
from autograder.labs.settings import Deadline


def deadline_of(lab: Lab) -> Deadline | None:
    """Return the lab's deadline, or ``None`` if it has none."""
    found = lab.settings.get("deadline")
    return Deadline.model_validate(found) if found is not None else None


def set_due_date(lab: Lab, assignment: Any) -> bool:
    """Set an assignment's due date in the gradebook to that of the lab, as naive UTC like nbgrader.

    A lab without a deadline leaves a due date that a person has set.

    Returns:
        Whether the due date changed.
    """
    deadline = deadline_of(lab)
    if deadline is None:
        return False
    due = deadline.due.astimezone(UTC).replace(tzinfo=None)
    changed = bool(assignment.duedate != due)
    assignment.duedate = due
    return changed


def in_words(due: datetime) -> str:
    """Format a due date for students, with its time zone.

    >>> in_words(datetime.fromisoformat("2026-12-18T23:59:00+01:00"))
    'Friday, 18 December 2026, 23:59 (UTC+01:00)'
    """
    offset = due.utcoffset()
    zone = timezone(offset).tzname(due) if offset is not None else ""
    seconds = ":%S" if due.second else ""
    return f"{due:%A}, {due.day} {due:%B %Y, %H:%M{seconds}} ({zone})"
