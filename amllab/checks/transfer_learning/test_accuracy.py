"""Public checks of exercise 4: the three functions together learn the reptiles."""

import pytest
import torch

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.checks import expect
from amllab.checks.transfer_learning.test_freeze_layers import last_layers
from amllab.drawn import draw

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


def fit(submission, lab, seed):
    """Builds and trains with the submission under the lab's budget; returns its answer, and the labels it never saw."""
    budget = lab.settings["accuracy"]
    sizes = [budget[f"{part}_images"] for part in ("train", "val", "test")]
    data = draw(sum(sizes), seed=seed)
    images, labels = data.images.split(sizes), data.labels.split(sizes)
    answer = submission.ask(
        "fit",
        train_images=images[0],
        train_labels=labels[0],
        val_images=images[1],
        val_labels=labels[1],
        test_images=images[2],
        mean=list(CIFAR10_MEAN),
        std=list(CIFAR10_STD),
        backbone=budget["backbone"],
        num_classes=len(data.classes),
        n_trainable=budget["n_trainable"],
        max_epochs=budget["max_epochs"],
        batch_size=budget["batch_size"],
        seed=seed,
        freezing=last_layers(budget["backbone"], len(data.classes), budget["n_trainable"]),
    )
    return answer, labels


def accuracy(logits, labels):
    """Share of rows of ``logits`` ``(n, classes)`` whose largest entry is the label; rows that are not finite are wrong."""
    fits = isinstance(logits, torch.Tensor) and logits.ndim == 2 and len(logits) == len(labels)
    expect(
        fits,
        expected=f"logits of shape ({len(labels)}, classes)",
        seen=f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__,
        why="accuracy is counted from the logits of every image",
    )
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return right.double().mean().item()


def percent(value):
    return f"{100 * value:.1f} %"


@pytest.mark.points(8)
def test_learns(submission, lab_settings, run_seed):
    """Built and trained with your functions, the model recognises reptiles it has never seen."""
    budget = lab_settings.settings["accuracy"]
    answer, labels = fit(submission, lab_settings, run_seed)
    reached = accuracy(answer["test_logits"], labels[2])
    expect(
        reached >= budget["learned"],
        expected=f"at least {percent(budget['learned'])} of {len(labels[2])} new drawn images after "
        f"{budget['max_epochs']} epochs on {len(labels[0])}, with {budget['n_trainable']} of net12's 12 layers trainable",
        seen=f"{percent(reached)} (guessing: {percent(0.2)})",
        why="this is what all the parts are for",
    )
