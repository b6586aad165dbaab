"""Confidence intervals, their text, and accuracy."""

from __future__ import annotations

import pytest
import torch

from amllab import Interval, accuracy, interval_of


def test_interval_contains_the_mean_in_95_of_100_cases() -> None:
    """Of many intervals, about 95 % contain the true mean."""
    values = torch.rand(1000, 100, generator=torch.Generator().manual_seed(0))
    found = [interval_of(row) for row in values]
    hits = sum(abs(interval.mean - 0.5) <= interval.half_width for interval in found)
    assert 930 <= hits <= 970
    assert found[0].mean == pytest.approx(float(values[0].mean()))
    assert interval_of(torch.tensor([0.0, 1.0])).half_width == pytest.approx(1.96 * 0.5)
    assert interval_of(torch.tensor([[1, 1], [1, 1]])) == (1.0, 0.0)


@pytest.mark.parametrize("values", [torch.zeros(0), torch.zeros(1)])
def test_interval_of_too_few_values(values: torch.Tensor) -> None:
    """An interval needs two values."""
    with pytest.raises(ValueError, match="needs at least 2 values"):
        interval_of(values)


def test_interval_in_words() -> None:
    """An interval is a percentage by default, and a number in a format of numbers; a width pads it."""
    interval = Interval(0.83149, 0.00751)
    assert str(interval) == f"{interval}" == "83.1 ± 0.8 %"
    assert f"{interval:.0%}" == "83 ± 1 %"
    assert f"{Interval(1.613, 0.2):.2f}" == "1.61 ± 0.20"
    assert f"{interval:>14}" == "  83.1 ± 0.8 %"
    assert str(Interval(float("nan"), 0.0)) == "nan ± 0.0 %"


def test_accuracy() -> None:
    """Accuracy is the share of rows whose largest value is at the label."""
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    assert accuracy(logits, torch.tensor([1, 0, 0, 1])) == 0.75
