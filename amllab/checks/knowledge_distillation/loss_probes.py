"""Probes of exercise 1: the distillation loss, the gradients of both logits, and how the loss changes with a number."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.kit.gradients import Evaluated, evaluate
from amllab.kit.probing import Raised, State, printed_by, raised
from amllab.protocol.lab_probes import probes_of
from amllab.protocol.submission import Functions, capture_error

LOGITS = ("student_logits", "teacher_logits")


class Slopes(TypedDict):
    """Gradients as measured.

    Attributes:
        slopes: Under the name ``"student_logits"``: how much the loss changes with each number.
    """

    slopes: State


def loss(
    functions: Functions,
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float | None = None,
    alpha: float | None = None,
    learning: list[str] | None = None,
) -> Evaluated | Raised:
    """Call ``distillation_loss``.

    Logits and labels are passed by position; temperature and alpha by name, if the function knows these names, and a
    temperature without an alpha by position. A number that is no tensor is observed as a value, too: its type says what
    was returned.

    Args:
        functions: Functions of the notebook.
        student_logits: Logits of the student, float ``(n, k)``.
        teacher_logits: Logits of the teacher, float ``(n, k)``.
        labels: Labels, int64 ``(n,)``; -1 for none.
        temperature: Temperature; ``None`` leaves it out of the call, and alpha as well.
        alpha: Weight of the teacher; ``None`` leaves it out of the call.
        learning: Names of the logits whose gradients are computed.
    """
    numbers: list[float] = []

    def call(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Any:
        value = _called(functions.distillation_loss, (student_logits, teacher_logits, labels), temperature, alpha)
        numbers.extend([float(value)] if isinstance(value, float) else [])
        return value

    inputs = {"student_logits": student_logits, "teacher_logits": teacher_logits, "labels": labels}
    got = evaluate(call, inputs, learning or [])
    if numbers and "error" not in got:
        got["value"] = {"value": torch.tensor(numbers[0])}
    return got


def _called(
    function: Callable[..., Any], tensors: Sequence[Tensor], temperature: float | None, alpha: float | None
) -> Any:
    if temperature is None:
        return function(*tensors)
    if alpha is None:
        return function(*tensors, temperature)
    known: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):
        known = inspect.signature(function).parameters
    if {"temperature", "alpha"} <= known.keys() or any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return function(*tensors, temperature=temperature, alpha=alpha)
    return function(*tensors, temperature, alpha)


def loss_slopes(
    functions: Functions,
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    alpha: float,
    step: float,
) -> Slopes | Raised:
    """Measure how ``distillation_loss`` changes with each logit of the student, by central differences.

    Args:
        functions: Functions of the notebook.
        student_logits: Logits of the student, float ``(n, k)``.
        teacher_logits: Logits of the teacher, float ``(n, k)``.
        labels: Labels, int64 ``(n,)``; -1 for none.
        temperature: Temperature.
        alpha: Weight of the teacher.
        step: Change of each number.
    """

    def loss_at(place: int, change: float) -> float:
        moved = student_logits.clone()
        moved.view(-1)[place] += change
        tensors = (moved, teacher_logits.clone(), labels.clone())
        value = _called(functions.distillation_loss, tensors, temperature, alpha)
        return float(torch.as_tensor(value, dtype=torch.float64).sum())

    def slopes() -> list[float]:
        places = range(student_logits.numel())
        return [(loss_at(i, step) - loss_at(i, -step)) / (2 * step) for i in places]

    measured = capture_error(slopes)
    if "error" in measured:
        return raised(measured)
    found = torch.tensor(measured["value"], dtype=torch.float64).view(student_logits.shape)
    return {"slopes": {"student_logits": found}}


def printed(functions: Functions, *, probe: str, arguments: dict[str, Any]) -> str:
    """Return what the functions print when another probe of this lab puts its question."""
    asked = getattr(probes_of("knowledge_distillation"), probe)
    return printed_by(lambda: asked(functions, **arguments))
