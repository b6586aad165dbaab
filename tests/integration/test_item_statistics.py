"""Difficulty and discrimination of checks, and the summary of scores."""

from __future__ import annotations

import numpy as np
import pytest

from autograder.report.item_statistics import Item, correlation, items, summary, upper_lower


def test_item_statistics() -> None:
    """Difficulty and discrimination match manual calculations."""
    earned = np.array([[1, 0, 2.0], [1, 1, 0.0], [1, 1, 2.0], [1, np.nan, 0.0]])
    always, second, third = items(earned, np.array([1.0, 1.0, 2.0]))
    assert always == Item(4, 1.0, None, None)
    # of the second: 0, 1, 1 with the others' 3, 1, 3; totals 3, 2, 4
    assert second == Item(3, pytest.approx(2 / 3), pytest.approx(-0.5), pytest.approx(0.0))
    assert third.difficulty == 0.5
    assert third.discrimination == pytest.approx(np.corrcoef([2, 0, 2, 0], [1, 2, 2, 1])[0, 1])
    assert correlation(np.array([1.0]), np.array([2.0])) is None
    assert items(np.full((3, 1), np.nan), np.ones(1)) == [Item(0, None, None, None)]


def test_upper_lower_ties() -> None:
    """Students with equal totals at the border of a group count in equal shares."""
    shares, total = np.array([1, 0, 1, 0, 0.0]), np.array([5, 5, 5, 1, 1.0])
    # each group has one student: a third of each of the best three, half of each of the last two
    expected = 2 / 3
    assert upper_lower(shares, total) == pytest.approx(expected)
    assert upper_lower(shares[::-1], total[::-1]) == pytest.approx(expected)
    assert upper_lower(shares, np.ones(5)) is None


def test_summary() -> None:
    """Mean, quartiles and deviation of scores."""
    known = summary([4, 1, 3, 2])
    assert known is not None
    assert (known.mean, known.lower, known.median, known.upper) == (2.5, 1.75, 2.5, 3.25)
    assert known.deviation == pytest.approx((5 / 3) ** 0.5)
    assert summary([]) is None
