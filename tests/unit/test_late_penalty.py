"""How many points a late submission loses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from autograder.labs.deadline import in_words
from autograder.labs.settings import Deadline
from autograder.nbgrader_plugins.late_penalty import penalty

DUE = datetime(2026, 12, 18, 22, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minutes", "points"),
    [(0, 0), (15, 0), (15.1, 4), (24 * 60, 4), (24 * 60 + 1, 8), (48 * 60 + 1, 10), (1e6, 10)],
)
def test_late_penalty_per_started_day(minutes: float, points: float) -> None:
    """Each started day costs its share, up to the limit; the grace period costs nothing."""
    deadline = Deadline(due=DUE, grace_minutes=15.0, penalty_percent=10.0, most_percent=25.0)
    assert penalty(deadline, 40, 60 * minutes) == points


@pytest.mark.parametrize(
    ("due", "text"),
    [
        ("2026-12-18T23:59:00+01:00", "Friday, 18 December 2026, 23:59 (UTC+01:00)"),
        ("2027-01-04T12:00:30-05:30", "Monday, 4 January 2027, 12:00:30 (UTC-05:30)"),
        ("2027-01-04T00:00:00Z", "Monday, 4 January 2027, 00:00 (UTC)"),
    ],
)
def test_due_date_in_words(due: str, text: str) -> None:
    """Students read the date as the instructor wrote it, with its time zone."""
    deadline = Deadline.model_validate({"due": datetime.fromisoformat(due)})
    assert in_words(deadline.due) == text
