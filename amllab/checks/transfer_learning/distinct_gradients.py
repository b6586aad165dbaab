"""A training in whose batches the gradients of other losses differ from that of cross-entropy."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.transfer_learning.training_runs import SIZES, Run, run_script
from amllab.kit.scripts import CLASSES, make_script
from amllab.protocol.submission import Submission

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and labels

# every epoch improves
LOSSES = [1.0, 0.9, 0.8, 0.7]
ARGUMENTS: dict[str, Any] = {"max_epochs": 4, "patience": 4}


def steps_run(submission: Submission, rng: random.Random) -> Run:
    """Run a training in whose batches other losses have other gradients."""
    while True:
        # three batches, so that one step for two of them differs from one per epoch; five examples of four classes, so
        # that class weights make a difference
        sizes: dict[str, Any] = {**SIZES, "train_sizes": (5, 5, 5)}
        script = make_script(LOSSES, rng, **sizes)
        if tells_losses_apart(script):
            return run_script(submission, script, LOSSES, lr=0.05, **ARGUMENTS)


def tells_losses_apart(script: dict[str, Any]) -> bool:
    """Return whether each of the other losses has a gradient in another direction, in some batch of a script."""
    logits, labels, sizes = script["train_logits"][0], script["train"]["labels"], script["train"]["sizes"]
    parts = list(zip(logits.split(sizes), labels.split(sizes), strict=True))
    own = [z.softmax(1) - F.one_hot(y, CLASSES) for z, y in parts]
    return all(
        min(likeness(other(z, y), g) for (z, y), g in zip(parts, own, strict=True)) < 0.999 for other in OTHERS.values()
    )


def likeness(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two gradients."""
    return F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()


def _of(loss: Loss) -> Loss:
    """Return the gradient of a loss, as a function of logits and labels."""

    def gradient(logits: Tensor, labels: Tensor) -> Tensor:
        z = logits.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(z, labels), z)[0]

    return gradient


def _one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, CLASSES).float()


def _counts(labels: Tensor) -> Tensor:
    return torch.bincount(labels, minlength=CLASSES)


# losses that people mistake for cross-entropy; the names are symptoms
OTHERS = {
    "smoothed labels": _of(lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)),
    "softmax twice": _of(lambda z, y: F.cross_entropy(z.softmax(1), y)),
    "logits as log-probabilities": _of(lambda z, y: F.nll_loss(z, y)),
    "squared error": _of(lambda z, y: F.mse_loss(z.softmax(1), _one_hot(y))),
    "squared error of logits": _of(lambda z, y: F.mse_loss(z, _one_hot(y))),
    "each class by itself": _of(lambda z, y: F.binary_cross_entropy_with_logits(z, _one_hot(y))),
    "focal loss": _of(
        lambda z, y: (
            (1 - z.softmax(1).gather(1, y[:, None])[:, 0]) ** 2 * F.cross_entropy(z, y, reduction="none")
        ).mean()
    ),
    "classes weighted": _of(lambda z, y: F.cross_entropy(z, y, weight=len(y) / _counts(y).clamp(min=1))),
}
