"""The losses that a training should report for its epochs, and those that the usual mistakes give.

They follow from the losses of its batches, which a check computes itself: with a learning rate of 1e-12, the weights
stay what they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from amllab.protocol.failure import expect

LIKE = 1 - 1e-6  # cosine of two gradients that are the same up to a factor; rounding is many times smaller
FITS = 3e-4  # relative; the alternatives of a loss are at least thirty times further apart

MEAN = "mean over the images"
# in words -> what a report says; the first that fits is named, so a lab puts its own ones where they belong
SUMS = {
    "mean over the batches": "mean over the batches: the loss of a batch is a mean already, so multiply it with the number of its "
    "images before you add it",
    "sum over the images": "sum over the images: divide it by their number",
    "sum over the batches": "sum over the batches, of means over the images of each",
}
DIVIDED = {
    "sum over the images, divided by the number of batches": "sum over the images, divided by the number of batches",
    "sum over the batches, divided by the number of images": "sum over the batches, divided by the number of images: multiply the mean "
    "of a batch with the number of its images before you add it",
}
PARTS = {
    "last batch alone": "loss of the last batch alone",
    "first batch alone": "loss of the first batch alone",
    "first epoch": "loss of the first epoch, in every epoch",
    "all epochs so far": "mean over all epochs so far: start with 0 in each epoch",
    "sum of all epochs so far": "sum of all epochs so far: start with 0 in each epoch",
    "negative": "mean over the images, with the opposite sign",
}


class Trained(Protocol):
    """A batch that was trained on."""

    def likeness(self, loss: Callable[..., Tensor]) -> float:
        """Return the cosine of the gradient of a loss and of the one that came back."""


def summed_up(rows: Iterable[Sequence[tuple[int, float]]]) -> dict[str, list[float]]:
    """Return what the usual ways of averaging make of losses: ``MEAN`` and the others, one number for each epoch.

    Args:
        rows: For each epoch, the number of images and the loss of each batch.
    """
    rows = list(rows)
    totals = [sum(n * loss for n, loss in row) for row in rows]
    images = [sum(n for n, _ in row) for row in rows]
    plain = [sum(loss for _, loss in row) for row in rows]
    counts = [len(row) for row in rows]
    mean = [a / b for a, b in zip(totals, images, strict=True)]
    so_far = list(itertools.accumulate(totals))
    return {
        MEAN: mean,
        "mean over the batches": [a / b for a, b in zip(plain, counts, strict=True)],
        "sum over the images": totals,
        "sum over the batches": plain,
        "sum over the images, divided by the number of batches": [a / b for a, b in zip(totals, counts, strict=True)],
        "sum over the batches, divided by the number of images": [a / b for a, b in zip(plain, images, strict=True)],
        "last batch alone": [row[-1][1] for row in rows],
        "first batch alone": [row[0][1] for row in rows],
        "first epoch": mean[:1] * len(mean),
        "all epochs so far": [a / b for a, b in zip(so_far, itertools.accumulate(images), strict=True)],
        "sum of all epochs so far": [a / b for a, b in zip(so_far, images, strict=True)],
        "negative": [-value for value in mean],
    }


def fits(wanted: Sequence[float], seen: Sequence[float]) -> bool:
    """Return whether losses are the expected ones, as far as both go; another number of them is charged elsewhere."""
    both = list(zip(wanted, seen, strict=False))
    return bool(both) and all(abs(a - b) <= FITS * abs(a) for a, b in both)


def way_of(ways: Sequence[Mapping[str, Sequence[float]]], losses: Sequence[float], texts: Mapping[str, str]) -> str:
    """Return how losses were averaged, in words; empty if in none of these ways.

    Args:
        ways: For each loss that the training may have had, what the ways of averaging make of it.
        losses: The losses that it returned.
        texts: The ways other than ``MEAN``, in the order in which they are tried.
    """
    return next((name for way in ways for name in (MEAN, *texts) if fits(way[name], losses)), "")


def expect_means(
    ways: Sequence[Mapping[str, Sequence[float]]],
    losses: Sequence[float],
    texts: Mapping[str, str],
    *,
    batches: str,
    other: str = "another loss",
    reproduce: str,
) -> None:
    """Fail the check unless losses are means over images.

    Args:
        ways: As of :func:`way_of`.
        losses: The losses that the training returned.
        texts: What a report says of the ways other than ``MEAN``.
        batches: What the batches are.
        other: The symptom of losses that are none of these.
        reproduce: Lines that show the views, or the call.
    """
    found = way_of(ways, losses, texts)
    wanted = ", ".join(f"{value:.4f}" for value in ways[0][MEAN]) if ways else "the losses of the views that were shown"
    expect(
        any(fits(way[MEAN], losses) for way in ways),
        expected=f"{wanted} ({batches})",
        seen=", ".join(f"{value:.4f}" for value in losses[:6]) + (f": {texts[found]}" if found in texts else ""),
        why="runs can be compared only where each loss is a mean over images: batches differ in size",
        symptom=found or other,
        reproduce=f"{reproduce}  # print `loss.item()` and `len(images)` of each batch, and compute the mean",
    )


def closest(batches: Sequence[Trained], losses: Mapping[str, Callable[..., Tensor]]) -> str:
    """Return which loss batches were trained with, in words; empty for the right one, or if none is closer.

    Args:
        batches: The batches.
        losses: In words -> loss; the right one is under ``""``.
    """
    if not batches:
        return ""
    alike = {name: min(one.likeness(loss) for one in batches) for name, loss in losses.items()}
    best = max(alike, key=alike.__getitem__)
    return best if alike[best] > max(LIKE, alike[""]) else ""
