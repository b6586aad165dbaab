"""The losses that a distillation should report, those that the usual mistakes give, and the gradients of the loss.

Both follow from the logits that the networks have noted: with a learning rate of 1e-12, the weights stay what they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from amllab.checks.knowledge_distillation.distill_batches import Loss, Trained, trained_batches
from amllab.checks.knowledge_distillation.distill_runs import Run, rows_of
from autograder.kit.loss_means import DIVIDED, LIKE, PARTS, SUMS, closest, summed_up

OTHER_MEANS = {
    **SUMS,
    **DIVIDED,
    "images with a label counted": "each batch counts with the number of its labels: all images have a loss, so count them all",
    **PARTS,
}


def kd(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    """Return the distillation loss of a batch, logits float64 ``(n, classes)``."""
    log_p, log_q = ((logits / temperature).log_softmax(1) for logits in (teacher, student))
    soft = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    known = torch.nonzero(labels >= 0).flatten()
    hard = -student.log_softmax(1)[known, labels[known]].sum() / max(len(known), 1)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def numbers(temperature: float, alpha: float) -> dict[str, tuple[float, float]]:
    """Return the temperatures and alphas that a training could use, the right ones first: in words -> both."""
    temperatures = {
        "": temperature,
        "temperature 4 always": 4.0,
        "temperature 1 always": 1.0,
        "temperature 2 always": 2.0,
        "the inverse of the temperature": 1 / temperature,
        "the square of the temperature": temperature**2,
    }
    alphas = {
        "": alpha,
        "alpha 0.9 always": 0.9,
        "alpha 0.5 always": 0.5,
        "the teacher alone": 1.0,
        "1 - alpha": 1 - alpha,
        "0.1 always": 0.1,
    }
    pairs = itertools.product(temperatures.items(), alphas.items())
    found = {", ".join(filter(None, (one, other))): (t, a) for (one, t), (other, a) in pairs}
    return {**found, "temperature and alpha swapped": (alpha, temperature)}


def losses_of(one: Trained, temperature: float, alpha: float) -> list[Loss]:
    """Return the losses that a batch may have been trained with: the lent one, or its own with any of the numbers."""
    lent = one.lent_loss
    if lent is not None:
        return [lent]
    return [partial(kd, temperature=t, alpha=a) for t, a in numbers(temperature, alpha).values()]


def reported(batches: Sequence[Trained], i: int, temperature: float, alpha: float) -> dict[str, list[float]]:
    """Return what the usual ways of averaging make of the losses of batches: name -> one number for each epoch.

    Args:
        batches: The batches.
        i: Which of the losses that they may have been trained with.
        temperature: Temperature of the training.
        alpha: Alpha of the training.
    """
    epochs = sorted({one.epoch for one in batches})
    rows: list[list[tuple[int, float]]] = [[] for _ in epochs]  # images and loss of each batch
    known: list[list[tuple[int, float]]] = [[] for _ in epochs]  # labels and loss of each batch
    for one in batches:
        loss = one.lent["value"] if one.lent else one.value(losses_of(one, temperature, alpha)[i])
        rows[epochs.index(one.epoch)].append((one.n, loss))
        known[epochs.index(one.epoch)].append((int((one.labels >= 0).sum()), loss))
    of_labels = [sum(n * loss for n, loss in row) / max(sum(n for n, _ in row), 1) for row in known]
    return {**summed_up(rows), "images with a label counted": of_labels}


def wrong_gradient(run: Run) -> str:
    """Return the symptom of wrong gradients behind the student; empty if they are those of the distillation loss."""
    batches = trained_batches(run)
    temperature, alpha = run.arguments["temperature"], run.arguments["alpha"]
    for one in batches:
        sizes = one.gradients.norm(dim=1)
        if not bool((sizes > 0).any()):
            return "none"
        # other numbers are charged elsewhere
        cosines = [one.likeness(loss) for loss in losses_of(one, temperature, alpha)]
        if min(cosines) < -LIKE:
            return "reversed"
        if not max(cosines) > LIKE:
            return "some rows" if bool((sizes == 0).any()) else "another"
    return "" if batches else "no batches"


def used(run: Run) -> str:
    """Return the temperature and alpha that were used, in words, if they are not those of the call; else nothing.

    Nothing is said about a training with another loss, which is charged elsewhere.
    """
    temperature, alpha = run.arguments.get("temperature", 4.0), run.arguments.get("alpha", 0.9)
    for done in run.got["compared"]:
        if tuple(rows_of(done, 0)) in run.mixed:
            continue  # the gradient says what they add up to
        seen = {"temperature": done["temperature"], "alpha": done["alpha"]}
        other = [
            f"{name}={seen[name]:.4g}"
            for name, wanted in (("temperature", temperature), ("alpha", alpha))
            if not abs(seen[name] - wanted) <= 1e-6
        ]
        if other:
            return ", ".join(other)
    if run.got["compared"]:
        return ""
    tried = {name: partial(kd, temperature=t, alpha=a) for name, (t, a) in numbers(temperature, alpha).items()}
    return closest(trained_batches(run), tried)
