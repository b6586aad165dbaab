"""Calls of ``distillation_loss`` on random logits, and what relates one loss to another one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from amllab.checks import expect
from amllab.kit.expectations import Call, returns
from amllab.protocol.submission import Submission

NO_VALUE = "a number to look at"
CONSTANT = "a loss that depends on the teacher and on the labels"
ROUGH = 1e-2  # relative difference of a value with few digits, which loses points elsewhere
GROSS = 0.1  # relative difference of a difference of such values
SMALL = 1e-4  # a difference of losses that may be rounding


def logits(rng: random.Random, n: int, k: int) -> Tensor:
    """Return random logits, float ``(n, k)``, with another mean in each row."""
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    return 1.5 * torch.randn(n, k, generator=generator) + torch.randn(n, 1, generator=generator)


def some_labels(rng: random.Random, n: int, k: int) -> Tensor:
    """Return labels, int64 ``(n,)``: 0 and the last class are among them."""
    return torch.tensor(rng.sample([0, k - 1, *(rng.randrange(k) for _ in range(n - 2))], n))


def question(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | None = None, alpha: float | None = None
) -> dict[str, Any]:
    """Return the arguments of the probe by name."""
    return {
        "student_logits": student,
        "teacher_logits": teacher,
        "labels": labels,
        "temperature": temperature,
        "alpha": alpha,
    }


def call(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | None = None, alpha: float | None = None
) -> Call:
    """Return the call on random logits as a student reads it."""
    numbers = "".join(
        f", {name}={value:g}" for name, value in (("temperature", temperature), ("alpha", alpha)) if value is not None
    )
    lines = [
        f"{name}_logits = torch.randn{tuple(one.shape)}" for name, one in (("student", student), ("teacher", teacher))
    ]
    shown = labels.tolist() if len(labels) <= 12 else [*labels[:11].tolist(), "..."]
    lines.append(f"labels = torch.tensor({shown})" if "..." not in shown else f"labels = torch.arange({len(labels)})")
    return Call(f"distillation_loss(student_logits, teacher_logits, labels{numbers})", "\n".join(lines))


def number_of(got: Mapping[str, Any]) -> Tensor | None:
    """Return the number that was returned, or the mean of several; ``None`` if there is none."""
    value: Tensor | None = got["value"].get("value")
    return None if value is None or not value.is_floating_point() or not value.numel() else value.double().mean()


def value(submission: Submission, *case: Any, called: Call | None = None) -> Tensor:
    """Return the loss as a number; fail the check if the call raises an error, skip it if there is no number."""
    number = number_of(returns(submission.ask("loss", **question(*case)), called or call(*case)))
    if number is None:
        pytest.skip(NO_VALUE)
    return number


def partly_labelled(
    rng: random.Random, n: int, k: int, rows: Sequence[int]
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
    """Return logits of a student and of two teachers, labels of which some are -1, and other labels.

    The teachers differ in the rows without a label alone: there the first one agrees with the student, and the second
    one is certain of the class that the student finds least likely. The other labels are these classes, so that no
    change of a row cancels that of another one.

    Args:
        rng: Generator of the check.
        n: Number of rows.
        k: Number of classes, 3 or more.
        rows: Indices of the rows without a label.
    """
    student, teacher = logits(rng, n, k), logits(rng, n, k)
    order = student.argsort(dim=1)
    others, labels = order[:, 0], order.gather(1, torch.tensor([[rng.randrange(1, k)] for _ in range(n)]))[:, 0]
    labels[list(rows)] = -1
    without = (labels < 0)[:, None]
    near, far = 1.5 * student, 12 * torch.eye(k)[others]
    return student, (torch.where(without, near, teacher), torch.where(without, far, teacher)), labels, others


def teacher_counts(
    submission: Submission,
    student: Tensor,
    teachers: Sequence[Tensor],
    labels: Tensor,
    temperature: float,
    alpha: float,
) -> Tensor:
    """Return how much the loss changes from one teacher to another one."""
    first, second = (value(submission, student, teacher, labels, temperature, alpha) for teacher in teachers)
    return second - first


def expect_rows_without_label(
    submission: Submission,
    student: Tensor,
    teachers: Sequence[Tensor],
    labels: Tensor,
    others: Tensor,
    temperature: float,
    alpha: float,
) -> None:
    """Fail the check unless all rows count in the teacher's part, and those with a label alone in that of the labels.

    Args:
        submission: The submission.
        student: Logits of the student.
        teachers: Logits of two teachers.
        labels: Labels of all rows; -1 for none.
        others: Other labels of the same rows, without -1.
        temperature: Temperature.
        alpha: Weight of the teacher's part.
    """
    has, teacher = labels >= 0, teachers[0]
    full, other = torch.where(has, labels, others), torch.where(has, others, labels)
    called = call(student, teacher, labels, temperature, alpha)
    seen = teacher_counts(submission, student, teachers, labels, temperature, alpha)
    wanted = teacher_counts(submission, student, teachers, full, temperature, alpha)
    if abs(wanted) < SMALL:
        pytest.skip(CONSTANT)
    expect(
        abs(seen - wanted) <= GROSS * abs(wanted),
        expected=f"a loss that changes by {wanted:.4g} from one teacher to another, with or without labels",
        seen=f"a change of {seen:.4g} where {int((~has).sum())} of {len(labels)} labels are -1",
        why="the teacher answers for every example: those without a label are what it is there for",
        symptom="another teacher's part without labels",
        reproduce=called.lines,
    )

    def labels_count(rows: Tensor) -> Tensor:
        """Return how much the loss of some rows changes from their labels to the others."""
        given = student[rows], teacher[rows]
        first, second = (value(submission, *given, one[rows], temperature, alpha) for one in (labels, other))
        return second - first

    seen, wanted = labels_count(torch.ones_like(has)), labels_count(has)
    if abs(wanted) < SMALL:
        pytest.skip(CONSTANT)
    share = float(has.double().mean())
    less = abs(seen - share * wanted) <= GROSS * abs(wanted)
    said = ": examples without a label count in this mean" if less else ""
    expect(
        abs(seen - wanted) <= GROSS * abs(wanted),
        expected=f"a loss that changes by {wanted:.4g} if the labels do, as without the examples whose label is -1",
        seen=f"a change of {seen:.4g}{said}",
        why="the labels' part is the mean over the examples that have a label: -1 is no class",
        symptom="examples without a label count" if less else "another labels' part without labels",
        reproduce=called.lines,
    )
