"""Gradients of a training of the scripted model: which loss they are of, and whether they piled up."""

import torch
from torch import Tensor

from amllab.checks.transfer_learning.distinct_gradients import OTHERS, _one_hot, likeness
from amllab.kit.scripts import CLASSES
from amllab.kit.training_journal import Journal

LIKE = 0.9995  # cosine; the rounding of bfloat16 is many times smaller


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
