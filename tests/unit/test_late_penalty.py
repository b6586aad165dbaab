"""How many points a late submission loses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

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
