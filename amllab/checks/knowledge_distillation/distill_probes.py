"""The probe of exercise 2: a distillation from a small teacher to a small student, on watermarked images."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from amllab.checks.knowledge_distillation.distill_nets import (
    Answered,
    Compared,
    Journal,
    Student,
    Teacher,
    Views,
    ViewsLoader,
)
from amllab.kit.history import History
from amllab.kit.lent_functions import lent_function
from amllab.kit.loss_history import loss_history
from amllab.kit.probing import Raised, State, backward_passes, raised, state_of
from amllab.kit.snapshots import Snapshot, snapshot
from amllab.kit.step_gradients import StepGradients, recorded_gradients
from amllab.numerics import same_numbers, without_compiling
from amllab.protocol.schema import IntVector
from amllab.protocol.submission import Functions, capture_error

LOSS = "distillation_loss"
MOST_TEXT = 1900  # characters of the description of a network


class Given(TypedDict):
    """A batch that the loader gave.

    Attributes:
        passing: Number of the pass over the loader, from 1 on.
        numbers: Numbers of the images, int64 ``(n,)``.
        draws: Numbers of the draws, int64 ``(n,)``.
    """

    passing: int
    numbers: IntVector
    draws: IntVector


class Distilled(TypedDict):
    """A distillation.

    Attributes:
        history: What it returned.
        answers: The first ``MOST`` calls of both networks.
        compared: The first ``MOST`` calls of the lent loss; empty if the notebook computes its own.
        given: The first ``MOST`` batches that the loader gave; empty for a plain list.
        backwards: Number of backward passes.
        steps: Steps of optimizers, and the gradients of the student that they used.
        started: Parameters of both networks at the first call of each.
        final: State of the student at the end.
        teacher: The teacher at the end.
        teacher_gradients: The ``.grad`` of the teacher's parameters at the end.
        settings: Description of all modules of the teacher, at the end.
        hooks: Number of hooks on its modules, at the end.
        gradients_enabled: Whether gradients were recorded after the call.
        dtype: PyTorch's default dtype after the call.
    """

    history: History
    answers: list[Answered]
    compared: list[Compared]
    given: list[Given]
    backwards: int
    steps: StepGradients
    started: State
    final: State
    teacher: Snapshot
    teacher_gradients: State
    settings: str
    hooks: int
    gradients_enabled: bool
    dtype: str


def stand_in_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 0.9
) -> Tensor:
    """Return the loss that is lent instead of ``distillation_loss``; it is another one, of the same arguments.

    Its first part is the squared distance between both networks' logits; its second part is the squared distance of the
    label's logit from 3, for the rows that have a label. The weights of both depend on ``alpha`` and ``temperature``.

    Args:
        student_logits: Float ``(n, classes)``.
        teacher_logits: Float ``(n, classes)``; no gradient reaches them.
        labels: Int64 ``(n,)``; -1 is no label.
        temperature: Temperature, not 0.
        alpha: Weight of the first part.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if (
        student_logits.ndim != 2
        or student_logits.shape != teacher_logits.shape
        or labels.shape != student_logits.shape[:1]
    ):
        shapes = [tuple(tensor.shape) for tensor in (student_logits, teacher_logits, labels)]
        raise ValueError(f"logits and labels of shapes {shapes}")
    apart = (student_logits - teacher_logits.detach().clone()).square().sum(1).mean()
    rows = (labels >= 0).nonzero().flatten()
    own = student_logits[rows, labels[rows]]
    return alpha / temperature * apart + (1 - alpha) * (own - 3).square().sum() / max(len(rows), 1)


def teacher_of(state: State, training: list[str], frozen: list[str], journal: Journal | None = None) -> Teacher:
    """Return a teacher with a hook and with gradients, as a question describes it.

    Args:
        state: Its state.
        training: Names of its modules in train mode; ``""`` is the teacher itself.
        frozen: Names of its parameters that require no gradient; all others do, and those of the head have a ``.grad``.
        journal: Where it notes its calls.
    """
    teacher = Teacher(journal)
    teacher.load_state_dict(state)
    for name, module in teacher.named_modules():
        module.training = name in training
    for name, parameter in teacher.named_parameters():
        parameter.requires_grad = name not in frozen
        if name.startswith("head"):
            parameter.grad = gradient_of(parameter)
    teacher.body.register_forward_hook(_no_effect)
    return teacher


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the gradient that a parameter of the teacher's head comes with."""
    return 0.1 + parameter.detach().abs()


def _no_effect(module: nn.Module, inputs: Any, outputs: Any) -> None:
    """Do nothing: a hook that belongs to the owner of the teacher."""


def settings_of(teacher: nn.Module) -> str:
    """Return a description of the modules of a teacher, such as the rate of dropout."""
    return repr(teacher)[:MOST_TEXT]


def hooks_of(teacher: nn.Module) -> int:
    """Return the number of hooks on the modules of a teacher."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in teacher.modules() for kind in kinds)


def distilled_watermarks(
    functions: Functions,
    *,
    student: dict[str, Tensor],
    teacher: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    sizes: list[int],
    scales: list[float],
    seed: int,
    arguments: dict[str, Any],
    student_in_eval: list[str],
    teacher_in_train: list[str],
    teacher_frozen: list[str],
    shuffle_seed: int | None = None,
    as_list: bool = False,
) -> Distilled | Raised:
    """Call ``distill``, with :func:`stand_in_loss` in place of the notebook's ``distillation_loss``.

    A call of that loss with other arguments than those of its contract gets the notebook's own one.

    Args:
        functions: Functions of the notebook.
        student: State of the student.
        teacher: State of the teacher.
        images: Watermarked images, float ``(n, 3, 4, 4)``.
        labels: Labels, int64 ``(n,)``; -1 is no label.
        sizes: Sizes of the batches.
        scales: Size of the values in each image's views.
        seed: Seed of the views.
        arguments: Further arguments of ``distill``.
        student_in_eval: Modules of the student that come in eval mode; ``""`` is the student itself.
        teacher_in_train: Modules of the teacher that come in train mode; ``""`` is the teacher itself.
        teacher_frozen: Parameters of the teacher that require no gradient.
        shuffle_seed: With it, the order of the images differs in each pass over the loader.
        as_list: Whether the loader is a plain list of batches.
    """
    journal = Journal()
    learner, source = Student(journal), teacher_of(teacher, teacher_in_train, teacher_frozen, journal)
    learner.load_state_dict(student)
    for name, module in learner.named_modules():
        module.training = name not in student_in_eval
    data = {"images": images.clone(), "labels": labels.clone(), "sizes": sizes, "shuffle_seed": shuffle_seed}
    loader = ViewsLoader(data, Views(seed, scales), journal)
    given = list(loader) if as_list else loader
    own = functions.namespace.get(LOSS)
    contract = inspect.signature(stand_in_loss)

    def lent(*positional: Any, **named: Any) -> Any:
        try:
            bound = contract.bind(*positional, **named)
        except TypeError:
            if callable(own):
                return own(*positional, **named)
            raise
        bound.apply_defaults()
        value = stand_in_loss(*bound.args)
        journal.compare(value, *bound.args)
        return value

    with (
        torch.random.fork_rng(devices=[]),
        same_numbers(),
        without_compiling(),
        lent_function(functions, LOSS, lent),
        backward_passes() as backwards,
        recorded_gradients(list(learner.parameters())) as steps,
    ):
        torch.manual_seed(seed)  # a training with random numbers of its own can be compared with another one
        got = capture_error(lambda: functions.distill(learner, source, given, **arguments))
        gradients_enabled, dtype = torch.is_grad_enabled(), str(torch.get_default_dtype())
    if "error" in got:
        return raised(got)
    return {
        "history": loss_history(got["value"]),
        "answers": journal.calls(),
        "compared": journal.compared,
        "given": [
            {"passing": number, "numbers": torch.tensor(numbers), "draws": torch.tensor(draws)}
            for number, numbers, draws in journal.given
        ],
        "backwards": len(backwards),
        "steps": steps,
        "started": journal.started,
        "final": state_of(learner),
        "teacher": snapshot(source),
        "teacher_gradients": {
            n: p.grad.detach().cpu().clone() for n, p in source.named_parameters() if p.grad is not None
        },
        "settings": settings_of(source),
        "hooks": hooks_of(source),
        "gradients_enabled": gradients_enabled,
        "dtype": dtype,
    }
