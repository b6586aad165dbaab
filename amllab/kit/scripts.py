"""Scripts of trainings whose losses are fixed in advance: logits, labels and images."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES = 4


# whatever defaults the notebook has set
FLOAT: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


INT: dict[str, Any] = {"dtype": torch.int64, "device": "cpu"}


_TRAIN, _VAL = 0.0, 1.0


MAX_LOSS = 40  # of a script; logits in float32 reach it easily


# how images can be changed before the model gets them; the log has the index of each change
CHANGES = ("", "otherwise", "mirrored", "mixed", "scaled", "erased", "resized")


def make_script(
    val_losses: Sequence[float],
    rng: random.Random,
    *,
    train_sizes: Sequence[int],
    val_sizes: Sequence[int],
    in_each_batch: bool = False,
    train_varies: bool = False,
    train_losses: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Create the script of a training: its validation losses, and random logits that have them.

    Args:
        val_losses: Mean cross-entropy of the validation examples in each epoch; NaN is allowed.
        rng: Generator of logits and labels.
        train_sizes: Sizes of the training batches.
        val_sizes: Sizes of the validation batches.
        in_each_batch: Whether each validation batch has the mean cross-entropy of its epoch, and not only all together.
        train_losses: Mean cross-entropy of each training batch in each epoch; ``None`` for random training logits.
        train_varies: Whether random logits of training examples differ between epochs, and between an epoch and passes
            after it.

    Returns:
        The script for :class:`ScriptedModel` as plain data: ``state`` (of the model at the start), ``val_logits`` float
        ``(epochs, n_val, CLASSES)``, ``train_logits`` and ``after_logits`` (of passes after an epoch) likewise, and
        under ``train`` and ``val`` the data for :class:`Batches`. Each training batch has all classes, if it is large
        enough.
    """
    generator = torch.Generator("cpu").manual_seed(rng.getrandbits(63))
    n_train, n_val, epochs = sum(train_sizes), sum(val_sizes), len(val_losses)
    train_labels = torch.cat([_labels(n, generator) for n in train_sizes])
    val_labels = torch.randint(CLASSES, (n_val,), generator=generator, **INT)
    tables = torch.randn(2 * epochs if train_varies else 1, n_train, CLASSES, generator=generator, **FLOAT) * 2
    if train_losses is not None:
        batches = train_labels.split(list(train_sizes))
        each = [torch.cat([_logits_with_loss(loss, part, generator) for part in batches]) for loss in train_losses]
        tables = torch.stack(each)
    parts = val_labels.split(list(val_sizes)) if in_each_batch else [val_labels]
    # the same logits for the same loss, so that losses that are equal in theory are equal in every digit
    by_loss = {
        loss: torch.cat([_logits_with_loss(loss, part, generator) for part in parts])
        for loss in dict.fromkeys(val_losses)
    }
    weights = {"head.weight": (CLASSES, 2), "body.weight": (2, 2), "body.bias": (2,)}
    state = {name: torch.randn(shape, generator=generator, **FLOAT) / 2 for name, shape in weights.items()}
    return {
        "state": {**state, "steps": torch.zeros((), **INT), "noise": torch.zeros(3, **FLOAT)},
        "val_logits": torch.stack([by_loss[loss] for loss in val_losses]),
        "train_logits": tables[:epochs].expand(epochs, -1, -1).contiguous(),
        "after_logits": tables[-epochs:].expand(epochs, -1, -1).contiguous(),
        "train": {"images": _images(_TRAIN, n_train, generator), "labels": train_labels, "sizes": list(train_sizes)},
        "val": {"images": _images(_VAL, n_val, generator), "labels": val_labels, "sizes": list(val_sizes)},
    }


def _labels(n: int, generator: torch.Generator) -> Tensor:
    rounds = [torch.randperm(CLASSES, generator=generator, **INT) for _ in range(math.ceil(n / CLASSES))]
    return torch.cat(rounds)[:n]


def _logits_with_loss(loss: float, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return random logits ``(n, CLASSES)`` whose mean cross-entropy is ``loss``.

    The logit of the true class is shifted until it fits.
    """
    logits = torch.randn(len(labels), CLASSES, generator=generator, dtype=torch.float64, device="cpu")
    if loss != loss:
        return torch.full_like(logits, loss).float()
    loss = max(loss, 1e-20)
    true = F.one_hot(labels, CLASSES).bool()
    # an example's cross-entropy is softplus(margin - shift); its margin is how far the other classes exceed the true
    # one
    margins = (logits.masked_fill(true, -math.inf).logsumexp(1) - logits[true]).numpy()
    # Newton's method, from where no example's loss is below the mean: the function is convex and decreasing, so that it
    # never overshoots
    shift = margins.min() - math.log(math.expm1(loss))
    for _ in range(40):  # to a relative error of 1e-10, before rounding to float32
        excess = np.logaddexp(0, margins - shift).mean() - loss
        if excess < 1e-10 * loss:
            break
        shift += excess / np.exp(-np.logaddexp(0, shift - margins)).mean()
    fitted: Tensor = logits + shift * true
    return fitted.float()


def _images(kind: float, n: int, generator: torch.Generator) -> Tensor:
    """Return "images" ``(n, 3, 4, 4)``: a channel with their kind, one of noise, one with their number.

    A flip or a crop leaves kind and number readable and moves the noise; the number of a mixture is not an integer.
    """
    images = torch.randn(n, 3, 4, 4, generator=generator, **FLOAT)
    images[:, 0] = kind
    images[:, 2] = torch.arange(n, **FLOAT).view(n, 1, 1)
    return images


def how_changed(images: Tensor, x: Tensor) -> str:
    """Return how images ``(n, 3, 4, 4)`` were changed before the model got ``x``.

    The result is an entry of ``CHANGES``, and empty if they were not changed.
    """
    if images.shape != x.shape:
        return "resized"
    different = ~((images - x).abs().flatten(1).max(1).values <= 0.02)  # NaN is also a change
    if not different.any():
        return ""
    own, seen = images[different], x[different]
    if any(bool((own.flip(side) - seen).abs().max() <= 0.02) for side in (-1, -2)):
        return "mirrored"
    noise, given = seen[:, 1].flatten(1), images[:, 1].flatten(1)
    # every value is the image's own, or the same constant
    kept = (noise - own[:, 1].flatten(1)).abs() <= 0.02
    rest = noise[~kept]
    if kept.any() and rest.numel() and (rest.max() - rest.min()) <= 0.02:
        return "erased"
    # each image is a weighted sum of two images of the batch, or has pixels of two
    if all(_of_two(row, given) for row in noise[:3]):
        return "mixed"
    a, b = own[:, 1].flatten(), seen[:, 1].flatten()
    return "scaled" if abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.999 else "otherwise"


def _of_two(row: Tensor, given: Tensor) -> bool:
    """Return whether values ``(m,)`` are a weighted sum of two rows of ``given`` ``(n, m)``, or taken from two."""
    a, b = given[:, None], given[None]
    off = torch.minimum((row - a).abs(), (row - b).abs())
    share = (((row - b) * (a - b)).sum(-1) / ((a - b) ** 2).sum(-1).clamp(min=1e-6)).clamp(0, 1)[..., None]
    return bool(torch.minimum(off.amax(-1), (b + share * (a - b) - row).abs().amax(-1)).min() <= 0.02)
