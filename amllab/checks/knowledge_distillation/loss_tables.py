"""Logits whose probabilities are to each other as powers of two, so that losses are known: right and wrong ones."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amllab.kit.expectations import Call

LOG2 = math.log(2)
APART = 0.04  # least difference of a wrong loss from the right one, relative to the larger of both
CALL = "distillation_loss(student_logits, teacher_logits, labels, temperature={temperature:g}, alpha={alpha:g})"
# exponents of probabilities, such as 1/2, 1/4 and 1/4. Rows of one kind alone would have the same divergence in both
# directions.
EXPONENTS = {
    3: ((1, 2, 2), (1, 1, 3), (1, 2, 3)),
    4: ((1, 2, 3, 3), (1, 1, 3, 4), (2, 2, 2, 2)),
    5: ((1, 2, 3, 4, 4), (2, 2, 2, 3, 3), (1, 3, 3, 3, 3)),
}
# what the usual wrong losses are, in words that a report adds to the value that was seen
SAYS = {
    "without the square of the temperature": "the factor `temperature**2` of the teacher's part is missing",
    "temperature instead of its square": "the teacher's part has the factor `temperature`, not its square",
    "divided by the square of the temperature": "the teacher's part is divided by the square of the temperature, not multiplied",
    "sum over the examples": "the teacher's part is a sum over the examples, not their mean",
    "mean over the classes": "the teacher's part is divided by the number of classes: a divergence is a sum over the classes",
    "mean over the classes, without the square of the temperature": (
        "the teacher's part is divided by the number of classes, and the factor `temperature**2` is missing"
    ),
    "sum over the examples, without the square of the temperature": (
        "the teacher's part is a sum over the examples, and the factor `temperature**2` is missing"
    ),
    "student and teacher exchanged": "this is `KL(student || teacher)`: student and teacher have changed places",
    "opposite sign": "this is the loss with the opposite sign: training would make the student less like the teacher",
    "teacher without temperature": "the teacher's probabilities are those at a temperature of 1",
    "student without temperature": "the student's probabilities are those at a temperature of 1",
    "no temperature in the probabilities": "both probabilities are those at a temperature of 1",
    "temperature multiplied": "logits are multiplied by the temperature, not divided by it",
    "probabilities in place of logarithms": "the student's probabilities are taken where their logarithms belong",
    "over the examples": "probabilities add up to 1 over the examples, not over the classes: is it the wrong `dim`?",
    "nothing": "the teacher's part is 0",
    "labels' part alone": "this is the labels' part",
    "teacher's part alone": "this is the teacher's part",
    "weights exchanged": "alpha and 1 - alpha have changed places: alpha is the weight of the teacher's part",
    "both parts in full": "the labels' part is not weighted by 1 - alpha",
    "teacher in full": "the teacher's part is not weighted by alpha",
    "temperature in the labels' part": "the labels' part has the temperature, too: there the student's logits count as they are",
    "square of the temperature in the labels' part": "the labels' part has the factor `temperature**2`, which belongs to the teacher's part",
    "sum over the labels": "the labels' part is a sum over the examples, not their mean",
    "probabilities in place of logits": "probabilities in place of logits give this loss: `F.cross_entropy` applies softmax itself",
    "label 0 left out": "examples with label 0 do not count: 0 is a class, and -1 says that there is no label",
    "labels of the teacher": "this is the cross-entropy of the teacher's logits, not of the student's",
    "opposite sign of the labels' part": "this is the labels' part with the opposite sign",
}

Rows = list[list[int]]


@dataclass(frozen=True)
class Known:
    """Logits with known probabilities, which are to each other as powers of two at one temperature.

    Attributes:
        student: Exponents of the student: row ``(3, 4, 4)`` stands for probabilities that are to each other as
            1/8, 1/16 and 1/16.
        teacher: Exponents of the teacher.
        labels: Labels of the rows.
        temperature: Temperature of the call.
        at: Temperature at which the student's logits have these probabilities; those of the teacher have theirs at
            the temperature of the call.
    """

    student: Rows
    teacher: Rows
    labels: list[int]
    temperature: float
    at: float

    @property
    def arguments(self) -> dict[str, Tensor]:
        """The logits and labels of the call by name."""
        return {
            "student_logits": (-self.at * LOG2 * torch.tensor(self.student, dtype=torch.float64)).float(),
            "teacher_logits": (-self.temperature * LOG2 * torch.tensor(self.teacher, dtype=torch.float64)).float(),
            "labels": torch.tensor(self.labels),
        }

    def call(self, alpha: float) -> Call:
        """Return the call as a student reads it."""
        lines = [
            f"student_logits = -{self.at:g} * math.log(2) * torch.tensor({self.student})",
            f"teacher_logits = -{self.temperature:g} * math.log(2) * torch.tensor({self.teacher})",
            f"labels = torch.tensor({self.labels})",
        ]
        return Call(CALL.format(temperature=self.temperature, alpha=alpha), "\n".join(["import math", *lines]))

    def student_at(self, temperature: float) -> list[list[float]]:
        """Return the student's probabilities at a temperature."""
        return [chances(row, self.at / temperature) for row in self.student]

    def teacher_at(self, temperature: float) -> list[list[float]]:
        """Return the teacher's probabilities at a temperature."""
        return [chances(row, self.temperature / temperature) for row in self.teacher]


def chances(exponents: Sequence[int], power: float = 1.0) -> list[float]:
    """Return probabilities that are to each other as ``2**-exponent`` to a power."""
    parts = [2.0 ** (-power * exponent) for exponent in exponents]
    return [part / sum(parts) for part in parts]


def _columns(rows: Rows) -> list[list[float]]:
    """Return probabilities that add up to 1 over the rows."""
    columns = [chances(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _in_bits(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the mean number of bits that are lost if codes are made for ``other`` and the truth is ``one``."""
    pairs = zip(one, other, strict=True)
    return sum(p * math.log2(p / q) for rows in pairs for p, q in zip(*rows, strict=True)) / len(one)


def _label_bits(probabilities: list[list[float]], labels: list[int]) -> float:
    """Return the mean number of bits of the labels."""
    return sum(-math.log2(row[label]) for row, label in zip(probabilities, labels, strict=True)) / len(labels)


def teacher_part(known: Known) -> dict[str, float]:
    """Return losses for ``alpha=1``: the right one has no name, the others are called by the mistake."""
    t, n, k = known.temperature, len(known.labels), len(known.student[0])
    p, q = known.teacher_at(t), known.student_at(t)
    right = _in_bits(p, q) * LOG2 * t * t
    sharp = known.student_at(1)
    products = [[x * y for x, y in zip(one, other, strict=True)] for one, other in zip(p, q, strict=True)]
    entropy = sum(-x * math.log(x) for row in p for x in row) / n

    def of(one: list[list[float]], other: list[list[float]]) -> float:
        return _in_bits(one, other) * LOG2 * t * t

    return {
        "": right,
        "cross-entropy": right + entropy * t * t,
        "without the square of the temperature": right / t**2,
        "temperature instead of its square": right / t,
        "divided by the square of the temperature": right / t**4,
        "sum over the examples": right * n,
        "mean over the classes": right / k,
        "mean over the classes, without the square of the temperature": right / k / t**2,
        "sum over the examples, without the square of the temperature": right * n / t**2,
        "student and teacher exchanged": of(q, p),
        "opposite sign": -right,
        "teacher without temperature": of(known.teacher_at(1), q),
        "student without temperature": of(p, sharp),
        "no temperature in the probabilities": of(known.teacher_at(1), sharp),
        "temperature multiplied": of(known.teacher_at(1 / t), known.student_at(1 / t)),
        "probabilities in place of logarithms": -(entropy + sum(map(sum, products)) / n) * t * t,
        "over the examples": of(_columns(known.teacher), _columns(known.student)),
        "nothing": 0.0,
        "labels' part alone": _label_bits(sharp, known.labels) * LOG2,
        "both parts in full": right + _label_bits(sharp, known.labels) * LOG2,
    }


def labels_part(known: Known) -> dict[str, float]:
    """Return losses for ``alpha=0``: the right one has no name, the others are called by the mistake."""
    t, n = known.temperature, len(known.labels)
    sharp, soft = known.student_at(1), known.student_at(t)
    right = _label_bits(sharp, known.labels) * LOG2
    teacher = _in_bits(known.teacher_at(t), soft) * LOG2 * t * t
    others = [i for i in range(n) if known.labels[i] > 0]
    twice = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in sharp]
    return {
        "": right,
        "teacher's part alone": teacher,
        "teacher in full": right + teacher,
        "temperature in the labels' part": _label_bits(soft, known.labels) * LOG2,
        "square of the temperature in the labels' part": right * t * t,
        "sum over the labels": right * n,
        "probabilities in place of logits": _label_bits(twice, known.labels) * LOG2,
        "label 0 left out": _label_bits([sharp[i] for i in others], [known.labels[i] for i in others]) * LOG2,
        "labels of the teacher": _label_bits(known.teacher_at(1), known.labels) * LOG2,
        "opposite sign of the labels' part": -right,
    }


def known_logits(
    rng: random.Random, n: int, k: int, temperature: float, losses: Callable[[Known], dict[str, float]], *, at: float
) -> Known:
    """Draw logits on which no usual mistake gives the right loss.

    Args:
        rng: Generator of the check.
        n: Number of rows.
        k: Number of classes.
        temperature: Temperature of the call.
        losses: Function that returns right and wrong losses.
        at: Temperature at which the student's probabilities are powers of two.
    """

    def rows() -> Rows:
        drawn = [rng.sample(rng.choice(EXPONENTS[k]), k) for _ in range(n)]
        # the same number added to all logits of a row changes no probability
        return [[exponent + shift for exponent in row] for row in drawn for shift in [rng.randint(-3, 3)]]

    def labels() -> list[int]:
        return [0, *(rng.randrange(1, k) for _ in range(n - 2)), k - 1]

    candidates = (Known(rows(), rows(), rng.sample(labels(), n), temperature, at) for _ in itertools.count())
    return next(known for known in candidates if _tells_apart(losses(known)))


def _tells_apart(values: dict[str, float]) -> bool:
    right = values[""]
    wrong = [value for name, value in values.items() if name]
    return right > 0.2 and all(abs(value - right) > APART * max(abs(value), right) for value in wrong)
