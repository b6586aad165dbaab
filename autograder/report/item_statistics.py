"""Statistics of scores, and of checks as items of a test.

Difficulty and discrimination are those of classical test theory: L. Crocker and J. Algina, *Introduction to Classical
and Modern Test Theory* (1986), chapter 14. The upper and lower 27 % follow T. L. Kelley, *The selection of upper and
lower groups for the validation of test items* (1939). Statistics that cannot be computed are ``None``, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPPER_LOWER = 0.27  # share of the students in each of the two groups
TRUSTED_FROM = 10  # students; with fewer, a discrimination is mostly chance
_SAME = 1e-9  # points: sums of scores that differ by less count as equal

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """A summary of numbers: scores in points, or times in seconds.

    Attributes:
        count: how many numbers there are.
        mean: their mean.
        deviation: standard deviation of the sample, ``None`` for a single number.
        lowest: the minimum.
        lower: the lower quartile (linear interpolation).
        median: the median (linear interpolation).
        upper: the upper quartile (linear interpolation).
        highest: the maximum.
    """

    count: int
    mean: float
    deviation: float | None
    lowest: float
    lower: float
    median: float
    upper: float
    highest: float


def summary(numbers: Sequence[float]) -> Summary | None:
    """Return mean, deviation and quartiles; ``None`` if there are no numbers."""
    if not numbers:
        return None
    values = np.asarray(numbers, dtype=float)
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    quartiles = [float(q) for q in np.percentile(values, [0, 25, 50, 75, 100])]
    return Summary(len(values), float(values.mean()), deviation, *quartiles)


@dataclass(frozen=True)
class Item:
    """Statistics of one item.

    Attributes:
        count: number of students with a result.
        difficulty: mean share of the points earned, in [0, 1], where 1 is easy; ``None`` without any result.
        discrimination: correlation of the item's score with the sum of the other items, in [-1, 1]; ``None`` if either
            is the same for all students.
        upper_lower: difference between the mean shares of the best and the last 27 %, in [-1, 1]; ``None`` if the
            item's share or the sum of all items is the same for all students.
    """

    count: int
    difficulty: float | None
    discrimination: float | None
    upper_lower: float | None


def items(earned: Numbers, points: Numbers) -> list[Item]:
    """Compute the statistics of all items of a test.

    Args:
        earned: points, students × items; NaN where an item has no result for a student.
        points: maximum points, of the same shape or one number per item.
    """
    shares = earned / np.where(points > 0, points, np.nan)
    known = np.nan_to_num(earned)
    total = known.sum(axis=1)
    return [_item(earned[:, i], shares[:, i], total - known[:, i], total) for i in range(earned.shape[1])]


def _item(earned: Numbers, shares: Numbers, others: Numbers, total: Numbers) -> Item:
    there = ~np.isnan(shares)
    count = int(there.sum())
    if not count:
        return Item(0, None, None, None)
    difficulty = float(shares[there].mean())
    return Item(
        count,
        difficulty,
        correlation(earned[there], others[there]),
        upper_lower(shares[there], total[there]),
    )


def correlation(one: Numbers, other: Numbers) -> float | None:
    """Return Pearson's correlation; ``None`` if one of the two does not vary."""
    if len(one) < 2 or np.ptp(one) < _SAME or np.ptp(other) < _SAME:
        return None
    a, b = one - one.mean(), other - other.mean()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def upper_lower(shares: Numbers, total: Numbers) -> float | None:
    """Return the mean share of the best 27 % minus that of the last 27 %; ``None`` if shares or totals do not vary.

    Students with the same total at the border of a group belong to it with equal weights, so that the order of students
    makes no difference.
    """
    if len(shares) < 2 or np.ptp(shares) < _SAME or np.ptp(total) < _SAME:
        return None
    size = max(round(UPPER_LOWER * len(shares)), 1)
    return float(shares @ _group(total, size) - shares @ _group(-total, size)) / size


def _group(total: Numbers, size: int) -> Numbers:
    """Return the weight of each student in the group of the ``size`` best, in [0, 1]."""
    border = np.sort(total)[-size]
    above, at = total > border + _SAME, np.abs(total - border) <= _SAME
    weights: Numbers = above + at * (size - above.sum()) / at.sum()
    return weights
