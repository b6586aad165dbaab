"""Means with their 95 % confidence intervals, and the accuracy of logits."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

FACTOR = 1.96  # standard errors on each side of the mean in a 95 % interval, if there are many values


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval.

    Printed as a percentage; a format of numbers prints it as a number.

    Attributes:
        mean: the mean.
        half_width: half the width of the interval.

    >>> print(Interval(0.831, 0.008))
    83.1 ± 0.8 %
    >>> f"{Interval(1.61, 0.2):.2f}"
    '1.61 ± 0.20'
    """

    mean: float
    half_width: float

    def __str__(self) -> str:
        return format(self, ".1%")

    def __format__(self, spec: str) -> str:
        """Format both numbers by ``spec``; without a letter or ``%`` at its end, pad the percentage to a width."""
        if not spec or spec[-1].isdigit():
            return format(str(self), spec)
        mean, half = (format(value, spec) for value in self)
        return f"{mean[:-1]} ± {half[:-1]} %" if spec.endswith("%") else f"{mean} ± {half}"


def interval_of(values: Tensor) -> Interval:
    """Return the mean of independent values with its 95 % confidence interval.

    The interval is the mean plus and minus 1.96 standard errors, which holds for about 30 values or more. It tells how
    much the mean would change with other values *of the same kind*. What all of them share does not count: for
    accuracies of episodes, the choice of the test classes and the training of the encoder.

    Args:
        values: float tensor of any shape with at least 2 values.

    Returns:
        The mean and half the width of the interval.

    Raises:
        ValueError: there are fewer than 2 values.
    """
    if values.numel() < 2:
        raise ValueError(f"a confidence interval needs at least 2 values, not {values.numel()}")
    flat = values.detach().double().flatten()
    return Interval(float(flat.mean()), float(FACTOR * flat.std() / len(flat) ** 0.5))


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows of ``logits (n, classes)`` whose largest value is at the label, a tensor in [0, 1]."""
    return (logits.argmax(1) == labels).double().mean()
