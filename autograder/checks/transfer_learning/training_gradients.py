"""Gradients of a training of the scripted model: which loss they are of, and whether they piled up."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.transfer_learning.training_runs import SIZES, Run, run_script
from amllab.kit.scripts import CLASSES, make_script
from amllab.kit.training_journal import Journal
from amllab.protocol.submission import Submission

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and labels

LIKE = 0.9995  # cosine; the rounding of bfloat16 is many times smaller
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
SAYS = {
    "smoothed labels": "the gradient of cross-entropy with smoothed labels",
    "softmax twice": "the gradient of a cross-entropy that got the softmax of the logits: it takes logits",
    "logits as log-probabilities": "the gradient of a loss that takes logits for log-probabilities",
    "squared error": "the gradient of a squared error",
    "squared error of logits": "the gradient of a squared error",
    "each class by itself": "the gradient of a binary cross-entropy of each class",
    "focal loss": "the gradient of a focal loss",
    "classes weighted": "the gradient of a cross-entropy that weights rare classes more",
    "reversed": "the gradient with the opposite sign: training goes up the loss",
    "examples weighted": "a gradient in which examples or classes have different weights",
    "another direction": "a gradient in another direction",
}


def loss_of(gradient: Tensor, logits: Tensor, labels: Tensor) -> str:
    """Return which loss a gradient is of: ``""`` for cross-entropy, else a symptom."""
    own = logits.softmax(1) - _one_hot(labels)
    # a sum over the batch instead of a mean is the same method with another learning rate
    if likeness(gradient, own) > LIKE:
        return ""
    if likeness(gradient, own) < -LIKE:
        return "reversed"
    alike, name = max((likeness(gradient, other(logits, labels)), name) for name, other in OTHERS.items())
    if alike > LIKE:
        return name
    if _smoothed(gradient, own, labels):
        return "smoothed labels"
    by_example = [likeness(a, b) for a, b in zip(gradient, own, strict=True)]
    return "examples weighted" if min(by_example) > LIKE else "another direction"


def other_losses(journal: Journal) -> set[str]:
    """Return the symptoms of losses used instead of cross-entropy, and of changed images; empty if there are none."""
    first = journal.first_looks
    found = {loss_of(journal.gradients[i], journal.logits(i), journal.labels(journal.batches[i])) for i in first}
    return (found | ({"images changed"} if journal.changed.any() else set())) - {""}


def _smoothed(gradient: Tensor, own: Tensor, labels: Tensor) -> bool:
    """Return whether a gradient is that of smoothed labels, to whatever degree."""
    basis = torch.stack([own.flatten(), (_one_hot(labels) - 1 / CLASSES).flatten()], 1).double()
    wanted = gradient.flatten().double()
    fitted = basis @ torch.linalg.lstsq(basis, wanted[:, None]).solution[:, 0]
    return likeness(fitted, wanted) > LIKE


def piled_up(journal: Journal) -> dict[int, list[bool]]:
    """Return, for each batch, whether the gradient of the previous batch is still in the weight's gradient.

    A batch counts only if a step was taken since the previous one.

    Returns:
        Epoch -> one truth value per batch. Empty for loops that never fill ``grad``, for a weight that is computed from
        others, and for optimizers that evaluate a batch several times.
    """
    ends = journal.got["accumulated_after"]
    seen = journal.got["accumulated"][1:].reshape(-1, CLASSES, 2)
    if len(ends) != len(journal.batches) or journal.passes_per_batch > 1:
        return {}  # not one backward pass per batch
    moved = [
        True,
        *(not torch.equal(a, b) for a, b in zip(journal.got["weights"], journal.got["weights"][1:], strict=False)),
    ]
    found: dict[int, list[bool]] = {}
    for i, gradient in enumerate(journal.gradients):
        # each class has two weights that enter its logit as a sum, so both have the same gradient
        rest = seen[i] - gradient.sum(0)[:, None]
        before = seen[i - 1] if i else torch.zeros_like(rest)
        stays = rest.norm() > 0.3 * before.norm() and likeness(rest, before) > 0.9 if before.norm() > 0 else False
        found.setdefault(journal.epoch_of[i], []).append(bool(stays and moved[i]))
    return found
