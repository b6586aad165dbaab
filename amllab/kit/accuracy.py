"""What checks of accuracy share: changed images, and figures from logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.kit.state_dicts import misshapen
from amllab.protocol.failure import expect

SHIFT = 2  # pixels
CONTRAST, NOISE = 0.04, 2.0  # share; standard deviation, in levels of 0 to 255
RIDGE = 10.0  # regularisation of the linear map from features to logits


def perturbed(images: Tensor, generator: torch.Generator, *, mirror: bool = True) -> Tensor:
    """Return images shifted by up to ``SHIFT`` pixels, with new contrast and some noise; uint8.

    With ``mirror``, they are also mirrored at random.
    """
    n, _, height, width = images.shape
    mirrored = images
    if mirror:
        mirrored = torch.where(torch.rand(n, 1, 1, 1, generator=generator) < 0.5, images.flip(3), images)
    padded = F.pad(mirrored.float(), [SHIFT] * 4, mode="reflect")
    corners = torch.randint(2 * SHIFT + 1, (n, 2), generator=generator).tolist()
    shifted = torch.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(corners)])
    contrast = 1 + CONTRAST * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    noise = torch.randn(shifted.shape, generator=generator).mul_(NOISE)
    # in place, because a grader does not give back memory that it once needed
    return shifted.sub_(127.5).mul_(contrast).add_(127.5).add_(noise).round_().clamp_(0, 255).to(torch.uint8)


def joined(logits: list[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """Join the logits ``(n, classes)`` of all parts of the images; fail the check unless every image has some."""
    classes = logits[0].shape[1]
    for got, images in zip(logits, parts, strict=True):
        expect(
            got.shape == (len(images), classes) and 2 <= classes <= 1000,
            expected=f"logits of shape ({len(images)}, classes), of the same classes for all images",
            seen=f"shape {tuple(got.shape)}",
            why="accuracy is counted from the logits of every image",
        )
    return torch.cat(logits)


def agreement(features: Tensor, logits: Tensor) -> float:
    """Return the share of images whose class a linear map gives from ``features`` ``(n, f)``.

    The map is fitted on three fifths of the images; the share is of the others.
    """
    n = len(features) * 3 // 5
    x = (features - features[:n].mean(0)) / (features[:n].std(0) + 1e-6)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    gram = x[:n].T @ x[:n] + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    found = x[n:] @ torch.linalg.solve(gram, x[:n].T @ logits[:n])
    return float((found.argmax(1) == logits[n:].argmax(1)).double().mean())


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows of ``logits`` ``(n, classes)`` whose largest entry is the label.

    Rows that are not finite are wrong.
    """
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return right.double().mean().item()


def percent(value: float) -> str:
    """Format a share as a percentage with one decimal place."""
    return f"{100 * value:.1f} %"


def expect_trained(fitted: dict[str, Any], before: Mapping[str, Tensor], *, what: str, how: str, why: str) -> None:
    """Fail the check if a training raised an error, or if its model has other tensors than before.

    Args:
        fitted: Answer of a probe that trains: ``state``, or ``error`` and ``message``.
        before: State of the model before the training.
        what: What was trained, such as ``"encoder"``.
        how: How, such as ``"`pretrain(..., epochs=6)`"``.
        why: Why it matters.
    """
    expect(
        "error" not in fitted,
        expected=f"a training of the {what} with {how}",
        seen=f"{fitted['error'][0]}: {fitted['message']}" if "error" in fitted else "",
        why=why,
        symptom="training raises an error",
    )
    wrong = misshapen(dict(before), {name: list(value.shape) for name, value in fitted["state"].items()})
    expect(
        not wrong,
        expected=f"the {what} with all its parameters, trained in place",
        seen=f"{len(wrong)} tensors are missing or have another shape, the first of them {wrong[0] if wrong else ''}",
        why=f"the {what} is what is kept of the training",
        symptom=f"another {what}",
    )


def area_under_roc(similar: Tensor, right: Tensor, candidates: Tensor | None = None) -> float:
    """Return how often a right candidate is more similar than a wrong one: the mean area under a row's ROC curve.

    Args:
        similar: Similarities, float ``(n, m)``; the candidates of a row are its columns.
        right: Which candidates are right, bool ``(n, m)``.
        candidates: Which columns are candidates of a row, bool ``(n, m)``; by default all.
    """
    if candidates is not None:
        similar = similar.masked_fill(~candidates, -torch.inf)
    rank = similar.argsort(1).argsort(1).double()
    n = right.sum(1)
    n_wrong = right.shape[1] - n - (0 if candidates is None else (~candidates).sum(1))
    # those that are no candidates have the lowest ranks
    below = (rank * right).sum(1) - n * (n - 1) / 2 - n * (right.shape[1] - n - n_wrong)
    return float((below / (n * n_wrong)).mean())
