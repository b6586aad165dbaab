"""The probe of exercise 4: a distillation under a budget, with the functions of the submission."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.checks.knowledge_distillation.accuracy import WIDTHS, new_student
from amllab.checks.knowledge_distillation.teacher import CROP, new_teacher
from amllab.kit.accuracy_views import views_with_gradients
from amllab.kit.lent_functions import lent_function
from amllab.kit.probing import CountedBatches, Raised, State, raised, state_of
from amllab.numerics import same_numbers
from amllab.protocol.submission import Functions, capture_error
from amllab.views import RandomViews


class Fitted(TypedDict):
    """A distillation under a budget.

    Attributes:
        state: State of the student at the end.
        views: Number of views that the student computed with gradients.
    """

    state: State
    views: int


class Views(CountedBatches):
    """Batches that show each image as a new random view in every pass."""

    def __init__(self, data: dict[str, Any], views: RandomViews) -> None:
        super().__init__(data)
        self.views = views

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in super().__iter__():
            yield self.views(images), labels


def fit(
    functions: Functions,
    *,
    student: dict[str, Tensor],
    teacher: dict[str, Tensor],
    images: Tensor,
    species: int,
    epochs: int,
    batch: int,
    temperature: float,
    lr: float,
    seed: int,
    with_own_loss: bool,
) -> Fitted | Raised:
    """Call ``distill`` on uint8 images ``(n, 3, h, w)`` without labels, from the weights of the question."""
    model, knowing = new_student(species), new_teacher(species)
    model.load_state_dict(student)
    knowing.load_state_dict(teacher)
    knowing.eval()
    torch.manual_seed(seed)
    views = RandomViews(torch.Generator().manual_seed(seed), crop=CROP, colour=0.0, grey=0.0)
    data: dict[str, Any] = {"images": images, "labels": torch.full((len(images),), -1)}
    loader = Views({**data, "batch_size": batch, "shuffle_seed": seed}, views)
    with ExitStack() as stack:
        stack.enter_context(same_numbers())
        if not with_own_loss:
            stack.enter_context(lent_function(functions, "distillation_loss", distance))
        # the teacher is of the same class, but has more features
        shown = stack.enter_context(views_with_gradients(type(model), WIDTHS[-1]))
        got = capture_error(
            lambda: functions.distill(
                model, knowing, loader, epochs=epochs, lr=lr, temperature=temperature, alpha=1.0
            )
        )  # fmt: skip
    if "error" in got:
        return raised(got)
    return {"state": state_of(model), "views": sum(shown)}


def distance(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 0.9
) -> Tensor:
    """Return the mean squared distance between the logits of student and teacher, without their means.

    It is lent where the notebook's own loss cannot be taken (Ba and Caruana, *Do Deep Nets Really Need to be Deep?*,
    2014). Labels, temperature and alpha have no effect.

    Args:
        student_logits: Logits of the student, float ``(n, k)``.
        teacher_logits: Logits of the teacher, float ``(n, k)``.
        labels: Not used.
        temperature: Not used.
        alpha: Not used.
    """
    apart = student_logits - teacher_logits.detach()
    return (apart - apart.mean(1, keepdim=True)).square().mean()
