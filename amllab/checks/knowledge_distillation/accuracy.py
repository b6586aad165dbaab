"""The accuracy check of exercise 4: its data, the distillation under a budget, and the evaluation of the student.

A small network learns from a teacher alone: no image has a label, and ``alpha`` is 1. The teacher is a net5 that knows
the drawn species (:mod:`amllab.checks.knowledge_distillation.teacher`). The species are always the same, since some
families of species are easier than others. Their individuals are drawn again in every run, from a seed that never
leaves the grader, and so is the order of the teacher's outputs: which of them means which species, only its answers
tell. The student starts from weights that are always the same. It is a narrow version of net5, so that no stored
weights fit it. The grader takes the trained weights, and computes all logits itself.

The score says how often the right species gets a higher logit than another one, on new images: 50 % without any
knowledge. It counts all pairs, so that it varies less from run to run than the accuracy does.

A submission may use any optimizer, and one learning rate does not suit all. If the first does not reach the score for
full points, the next ones are tried, each with a separate training, and the best counts. The thresholds and their error
rates were measured with ``autograder calibrate`` (``thresholds.json``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab import backbones  # noqa: F401  (registers net5)
from amllab.checks.knowledge_distillation.teacher import State, teacher_state
from amllab.kit.accuracy import area_under_roc, expect_trained
from amllab.kit.accuracy_views import expect_within_budget
from amllab.numerics import same_numbers
from amllab.protocol.submission import Submission, SubmissionError
from amllab.seeds import derive
from amllab.species import draw_species
from amllab.views import normalise

WIDTHS = (16, 32, 64)  # channels of the student: net5 has 24, 48 and 96


def new_student(species: int) -> nn.Module:
    """Return a narrow net5 with random weights: normalised images ``(n, 3, h, w)`` to logits ``(n, species)``."""
    return timm.create_model("net5", widths=WIDTHS, num_classes=species)


@lru_cache(maxsize=1)
def start(seed: int, species: int) -> State:
    """Return the weights of the student before the training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_student(species).state_dict()


def shuffled_teacher(order: Tensor) -> State:
    """Return the weights of the teacher with its outputs in another order, int64 ``(species,)``."""
    state = dict(teacher_state())
    return state | {name: state[name][order] for name in ("head.fc.weight", "head.fc.bias")}


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes:
        learning: To train on, uint8 ``(n, 3, h, w)``, in random order.
        test: New images, normalised, float ``(m, 3, h, w)``.
        labels: The teacher's outputs that are right for them, int64 ``(m,)``.
        order: The species that each of the teacher's outputs means, int64 ``(species,)``.
    """

    learning: Tensor
    test: Tensor
    labels: Tensor
    order: Tensor


@lru_cache(maxsize=1)
def images_of(seed: int, species: int, family: int, n: int, n_test: int, side: int) -> Images:
    """Return the images of a run."""
    individuals = derive(seed, "accuracy", "images")
    data = draw_species(species, n + n_test, family, size=side, individuals=individuals)
    place = torch.arange(len(data.labels)) % (n + n_test)
    generator = torch.Generator().manual_seed(derive(seed, "accuracy", "order"))
    order = torch.randperm(species, generator=generator)
    learning, test = data.images[place < n], data.images[place >= n]
    labels = order.argsort()[data.labels[place >= n]]
    return Images(learning[torch.randperm(len(learning), generator=generator)], normalise(test), labels, order)


@dataclass(frozen=True)
class Trained:
    """A training: the answer of the probe ``fit``, the budget, and the images."""

    fitted: dict[str, Any]
    budget: dict[str, Any]
    images: Images


def fit(
    submission: Submission, budget: dict[str, Any], seed: int, attempt: int = 0, *, with_own_loss: bool = True
) -> Trained:
    """Distill with one learning rate; fail the check if the student is another network afterwards."""
    sizes = ("species", "species_seed", "images", "test_images", "side")
    images = images_of(seed, *(budget[name] for name in sizes))
    student = start(budget["network_seed"], budget["species"])
    fitted = submission.ask(
        "fit",
        student=student,
        teacher=shuffled_teacher(images.order),
        images=images.learning,
        **{name: budget[name] for name in ("species", "epochs", "batch", "temperature")},
        lr=budget["learning_rates"][attempt],
        seed=derive(seed, "accuracy", "training", str(attempt)),
        with_own_loss=with_own_loss,
    )
    expect_trained(
        fitted,
        student,
        what="student",
        how=f"`distill(..., epochs={budget['epochs']}, alpha=1)`",
        why="this is what all the parts are for",
    )
    return Trained(fitted, budget, images)


def knowledge(trained: Trained) -> float:
    """Return how often the right species gets a higher logit than another; NaN if a weight is not finite."""
    state = trained.fitted["state"]
    if not all(value.isfinite().all() for value in state.values()):
        return math.nan
    species, images = trained.budget["species"], trained.images
    student = new_student(species)
    student.load_state_dict(state)
    with torch.no_grad(), same_numbers():
        logits = student.eval()(images.test)
    return area_under_roc(logits, F.one_hot(images.labels, species).bool())


def keeps_to_the_budget(trained: Trained) -> None:
    """Fail the check if the training showed the student more views than the budget allows."""
    expect_within_budget(trained.fitted["views"], trained.budget, "student", each=1)


def has_the_loss(submission: Submission, seed: int = 0) -> bool:
    """Return whether ``distillation_loss`` moves a student towards the teacher's answers as it should.

    If not, that loses points in the exercise on the loss, and another loss is used here. The loss is asked for where no
    example has a label, and ``alpha`` is 1: the gradient for the student's logits is then known, with and without the
    entropy of the teacher's answers.

    Raises:
        SubmissionError: The submission does not answer.
    """
    n, classes, temperature = 6, 5, 3.0
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(n, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    try:
        got = submission.ask(
            "loss",
            student_logits=student.float(),
            teacher_logits=teacher.float(),
            labels=torch.full((n,), -1),
            temperature=temperature,
            alpha=1.0,
            learning=["student_logits"],
        )
    except SubmissionError as error:
        if error.kind in ("timeout", "died"):
            raise
        return False
    # d/dz of T^2 KL(p || softmax(z / T)) is T (softmax(z / T) - p)
    known = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / n
    found = got.get("gradients", {}).get("student_logits")
    return found is not None and found.shape == known.shape and bool((found - known).abs().max() < 1e-4)
