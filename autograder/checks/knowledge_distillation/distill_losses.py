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

LIKE = 1 - 1e-6  # cosine of two gradients that are the same up to a factor; rounding is many times smaller
FITS = 3e-4  # relative; the alternatives of a loss are at least thirty times further apart

MEAN = "mean over the images"
OTHER_MEANS = {
    "mean over the batches": "mean over the batches: the loss of a batch is a mean already, so multiply it with the number of its "
    "images before you add it",
    "sum over the images": "sum over the images: divide it by their number",
    "sum over the batches": "sum over the batches, of means over the images of each",
    "sum over the images, divided by the number of batches": "sum over the images, divided by the number of batches",
    "sum over the batches, divided by the number of images": "sum over the batches, divided by the number of images: multiply the mean "
    "of a batch with the number of its images before you add it",
    "images with a label counted": "each batch counts with the number of its labels: all images have a loss, so count them all",
    "last batch alone": "loss of the last batch alone",
    "first batch alone": "loss of the first batch alone",
    "first epoch": "loss of the first epoch, in every epoch",
    "all epochs so far": "mean over all epochs so far: start with 0 in each epoch",
    "sum of all epochs so far": "sum of all epochs so far: start with 0 in each epoch",
    "negative": "mean over the images, with the opposite sign",
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
    rows: list[list[tuple[int, int, float]]] = [[] for _ in epochs]  # images, labels and loss of each batch
    for one in batches:
        loss = one.lent["value"] if one.lent else one.value(losses_of(one, temperature, alpha)[i])
        rows[epochs.index(one.epoch)].append((one.n, int((one.labels >= 0).sum()), loss))
    totals = [sum(n * loss for n, _, loss in row) for row in rows]
    images = [sum(n for n, _, _ in row) for row in rows]
    plain = [sum(loss for _, _, loss in row) for row in rows]
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
        "images with a label counted": [
            sum(known * loss for _, known, loss in row) / max(sum(known for _, known, _ in row), 1) for row in rows
        ],
        "last batch alone": [row[-1][2] for row in rows],
        "first batch alone": [row[0][2] for row in rows],
        "first epoch": mean[:1] * len(mean),
        "all epochs so far": [a / b for a, b in zip(so_far, itertools.accumulate(images), strict=True)],
        "sum of all epochs so far": [a / b for a, b in zip(so_far, images, strict=True)],
        "negative": [-value for value in mean],
    }


def fits(wanted: Sequence[float], seen: Sequence[float]) -> bool:
    """Return whether losses are the expected ones, as far as both go; another number of them is charged elsewhere."""
    both = list(zip(wanted, seen, strict=False))
    return bool(both) and all(abs(a - b) <= FITS * abs(a) for a, b in both)


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
    batches = trained_batches(run)
    tried = numbers(temperature, alpha)
    alike = {
        name: min(one.likeness(partial(kd, temperature=t, alpha=a)) for one in batches)
        for name, (t, a) in tried.items()
        if batches
    }
    best = max(alike, key=alike.__getitem__, default="")
    return best if batches and alike[best] > max(LIKE, alike[""]) else ""
