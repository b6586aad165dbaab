"""Distillation losses, right and wrong, by which the checks recognise what a submission computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.kit import symptoms
from amllab.kit.expectations import TOLERANCE, close

NEAR = 1e-3  # largest difference from the value of a wrong loss, relative
ROUGH = 0.03  # largest difference of a loss with few digits, relative
FEW_DIGITS = "few digits"
# another value and the same gradients: the public checks take a point where student and teacher agree
CROSS_ENTROPY = "cross-entropy in place of the divergence"

Case = tuple[Tensor, Tensor, Tensor, float, float]  # student, teacher, labels, temperature, alpha


def _log(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    return (logits / temperature).log_softmax(dim=dim)


def _forward(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.exp() * (log_p - log_q)


def _mixture(log_p: Tensor, log_q: Tensor) -> Tensor:
    middle = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
    return (_forward(log_p, middle) + _forward(log_q, middle)) / 2


def _label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.logsumexp(dim=1) - logits.gather(1, labels[:, None])[:, 0]


def _smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    return 0.9 * _label_losses(logits, labels) - 0.1 * logits.log_softmax(dim=1).mean(dim=1)


def _mean(losses: Tensor, n: int) -> Tensor:
    return losses.sum() / max(len(losses), 1)


@dataclass(frozen=True)
class Formula:
    """A loss of logits and labels; the defaults follow the contract.

    Attributes:
        of_teacher: Function of student, teacher and temperature: logarithms of the probabilities to be followed.
        of_student: Function of student, teacher and temperature: logarithms of the probabilities that follow.
        terms: Function of both: terms that add up to how far they are apart, float ``(n, k)``.
        soft_mean: Function of these terms: the teacher's part.
        factor: Function of the temperature: factor of the teacher's part.
        asked: Function of student, teacher and temperature: the logits that labels are compared with.
        label_losses: Function of logits and labels, of the rows that have one: losses of these rows.
        hard_mean: Function of these losses and the number of all rows: the labels' part.
        weights: Function of alpha and the temperature: weights of the teacher's part and of the labels' part.
        soft_rows: Function of the labels: which rows count in the teacher's part.
        targets: Function of labels and number of classes: labels, -1 for rows that do not count in the labels' part.
    """

    of_teacher: Callable[[Tensor, Tensor, float], Tensor] = lambda s, t, temperature: _log(t, temperature)
    of_student: Callable[[Tensor, Tensor, float], Tensor] = lambda s, t, temperature: _log(s, temperature)
    terms: Callable[[Tensor, Tensor], Tensor] = _forward
    soft_mean: Callable[[Tensor], Tensor] = lambda terms: terms.sum(dim=1).mean()
    factor: Callable[[float], float] = lambda temperature: temperature**2
    asked: Callable[[Tensor, Tensor, float], Tensor] = lambda s, t, temperature: s
    label_losses: Callable[[Tensor, Tensor], Tensor] = _label_losses
    hard_mean: Callable[[Tensor, int], Tensor] = _mean
    weights: Callable[[float, float], tuple[float, float]] = lambda alpha, temperature: (alpha, 1 - alpha)
    soft_rows: Callable[[Tensor], Tensor] = torch.ones_like
    targets: Callable[[Tensor, int], Tensor] = lambda labels, k: labels

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Tensor:
        """Return the loss of logits, float ``(n, k)``, and labels, int64 ``(n,)``, in double precision."""
        both = student.double(), teacher.double()
        terms = self.terms(self.of_teacher(*both, temperature), self.of_student(*both, temperature))
        soft = self.factor(temperature) * self.soft_mean(terms[self.soft_rows(labels).bool()])
        targets = self.targets(labels, student.shape[1])
        has = targets >= 0
        losses = self.label_losses(self.asked(*both, temperature)[has], targets[has])
        ours, theirs = self.weights(alpha, temperature)
        return ours * soft + theirs * self.hard_mean(losses, len(labels))

    def gradient(self, student: Tensor, *more: Any) -> Tensor:
        """Return the gradient of the student's logits; the arguments are those of a call."""
        given = student.double().clone().requires_grad_()
        with torch.enable_grad():
            value = self(given, *more)
        (found,) = torch.autograd.grad(value, [given], allow_unused=True, materialize_grads=True)
        return found


Changes = dict[str, Callable[..., Any]]


def _at(other: Callable[[float], float]) -> Changes:
    """Return what a formula has that takes another temperature."""
    return {
        "of_teacher": lambda s, t, temperature: _log(t, other(temperature)),
        "of_student": lambda s, t, temperature: _log(s, other(temperature)),
        "factor": lambda t: other(t) ** 2,
    }


# symptom -> what a formula with this mistake has in place of the contract's
MISTAKES: dict[str, Changes] = {
    CROSS_ENTROPY: {"terms": lambda log_p, log_q: -log_p.exp() * log_q},
    # the teacher's part
    "square of the temperature missing": {"factor": lambda t: 1.0},
    "temperature in place of its square": {"factor": lambda t: t},
    "divided by the temperature": {"factor": lambda t: 1 / t},
    "divided by the square of the temperature": {"factor": lambda t: t**-2},
    "temperature to the third": {"factor": lambda t: t**3},
    "temperature to the fourth": {"factor": lambda t: t**4},
    "root of the temperature": {"factor": lambda t: t**0.5},
    "temperature doubled": {"factor": lambda t: 2 * t},
    "teacher's part doubled": {"factor": lambda t: 2 * t * t},
    "teacher's part halved": {"factor": lambda t: t * t / 2},
    "square of a temperature of 4": {"factor": lambda t: 16.0},
    "sum over the examples": {"soft_mean": lambda terms: terms.sum()},
    "mean over the classes": {"soft_mean": lambda terms: terms.mean()},
    "sum over the examples, mean over the classes": {"soft_mean": lambda terms: terms.sum() / terms.shape[1]},
    "divided by the examples twice": {"soft_mean": lambda terms: terms.sum() / len(terms) ** 2},
    "largest example": {"soft_mean": lambda terms: terms.sum(dim=1).max()},
    "student and teacher exchanged": {"terms": lambda log_p, log_q: _forward(log_q, log_p)},
    "both directions": {"terms": lambda log_p, log_q: _forward(log_p, log_q) + _forward(log_q, log_p)},
    "half of both directions": {"terms": lambda log_p, log_q: (_forward(log_p, log_q) + _forward(log_q, log_p)) / 2},
    "Jensen-Shannon divergence": {"terms": _mixture},
    "opposite sign": {"terms": lambda log_p, log_q: -_forward(log_p, log_q)},
    "cross-entropy with the opposite sign": {"terms": lambda log_p, log_q: log_p.exp() * log_q},
    "student and teacher exchanged in a cross-entropy": {"terms": lambda log_p, log_q: -log_q.exp() * log_p},
    "entropy of the student": {"terms": lambda log_p, log_q: -log_q.exp() * log_q},
    "probabilities in place of logarithms": {"terms": lambda log_p, log_q: log_p.exp() * (log_p - log_q.exp())},
    "probabilities of the teacher without logarithm": {"terms": lambda log_p, log_q: log_p.exp() * (log_p.exp() - log_q)},
    "difference of the logarithms alone": {"terms": lambda log_p, log_q: log_p - log_q},
    "squared error of the probabilities": {"terms": lambda log_p, log_q: (log_p.exp() - log_q.exp()).square()},
    "squared error of the logarithms": {"terms": lambda log_p, log_q: (log_p - log_q).square()},
    "logarithms of the teacher as probabilities": {"terms": lambda log_p, log_q: log_p.exp().exp() * (log_p.exp() - log_q)},
    "temperature in the student alone": {"of_teacher": lambda s, t, temperature: _log(t)},
    "temperature in the teacher alone": {"of_student": lambda s, t, temperature: _log(s)},
    "no temperature in the probabilities": {
        "of_teacher": lambda s, t, temperature: _log(t),
        "of_student": lambda s, t, temperature: _log(s),
    },
    "temperature multiplied": {
        "of_teacher": lambda s, t, temperature: _log(t, 1 / temperature),
        "of_student": lambda s, t, temperature: _log(s, 1 / temperature),
    },
    "square of the temperature in the probabilities": {
        "of_teacher": lambda s, t, temperature: _log(t, temperature**2),
        "of_student": lambda s, t, temperature: _log(s, temperature**2),
    },
    "temperature of 4 always": _at(lambda t: 4.0),
    "temperature rounded": _at(lambda t: max(round(t), 1)),
    "temperature rounded down": _at(lambda t: max(int(t), 1)),
    "probabilities divided by the temperature": {
        "of_teacher": lambda s, t, temperature: t.softmax(dim=1).div(temperature).log_softmax(dim=1),
        "of_student": lambda s, t, temperature: s.softmax(dim=1).div(temperature).log_softmax(dim=1),
    },
    "softmax of the teacher twice": {
        "of_teacher": lambda s, t, temperature: _log(t, temperature).exp().log_softmax(dim=1)
    },
    "softmax of the student twice": {
        "of_student": lambda s, t, temperature: _log(s, temperature).exp().log_softmax(dim=1)
    },
    "over the examples": {
        "of_teacher": lambda s, t, temperature: _log(t, temperature, dim=0),
        "of_student": lambda s, t, temperature: _log(s, temperature, dim=0),
    },
    "teacher over the examples": {"of_teacher": lambda s, t, temperature: _log(t, temperature, dim=0)},
    "student over the examples": {"of_student": lambda s, t, temperature: _log(s, temperature, dim=0)},
    "logits of the student as logarithms": {"of_student": lambda s, t, temperature: s / temperature},
    "logits of the student as logarithms, without temperature": {"of_student": lambda s, t, temperature: s},
    "teacher on both sides": {"of_student": lambda s, t, temperature: _log(t, temperature)},
    "student on both sides": {"of_teacher": lambda s, t, temperature: _log(s.detach(), temperature)},
    "first choice of the teacher": {
        "terms": lambda log_p, log_q: -F.one_hot(log_p.argmax(dim=1), log_p.shape[1]) * log_q
    },
    # the labels' part
    "temperature in the labels' part": {"asked": lambda s, t, temperature: s / temperature},
    "temperature multiplied in the labels' part": {"asked": lambda s, t, temperature: s * temperature},
    "teacher in the labels' part": {"asked": lambda s, t, temperature: t},
    "probabilities in place of logits in the labels' part": {"asked": lambda s, t, temperature: s.softmax(dim=1)},
    "probabilities at the temperature in place of logits in the labels' part": {
        "asked": lambda s, t, temperature: (s / temperature).softmax(dim=1)
    },
    "no logarithm in the labels' part": {
        "label_losses": lambda x, labels: -x.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    },
    "logits as logarithms in the labels' part": {"label_losses": lambda x, labels: -x.gather(1, labels[:, None])[:, 0]},
    "opposite sign of the labels' part": {"label_losses": lambda x, labels: -_label_losses(x, labels)},
    "label smoothing": {"label_losses": _smoothed},
    "sum over the labels": {"hard_mean": lambda losses, n: losses.sum()},
    "label 0 left out": {"targets": lambda labels, k: torch.where(labels > 0, labels, -1)},
    "label 0 counted with 0": {
        "targets": lambda labels, k: torch.where(labels > 0, labels, -1),
        "hard_mean": lambda losses, n: losses.sum() / n,
    },
    # weights
    "weights exchanged": {"weights": lambda alpha, t: (1 - alpha, alpha)},
    "alpha for both parts": {"weights": lambda alpha, t: (alpha, alpha)},
    "no weights": {"weights": lambda alpha, t: (1.0, 1.0)},
    "labels' part in full": {"weights": lambda alpha, t: (alpha, 1.0)},
    "teacher's part in full": {"weights": lambda alpha, t: (1.0, 1 - alpha)},
    "alpha on the labels alone": {"weights": lambda alpha, t: (1.0, alpha)},
    "both halved": {"weights": lambda alpha, t: (0.5, 0.5)},
    "alpha of 0.9 always": {"weights": lambda alpha, t: (0.9, 0.1)},
    "alpha squared": {"weights": lambda alpha, t: (alpha**2, 1 - alpha**2)},
    "no labels' part": {"weights": lambda alpha, t: (alpha, 0.0)},
    "teacher's part in full, without labels": {"weights": lambda alpha, t: (1.0, 0.0)},
    "labels' part alone": {"weights": lambda alpha, t: (0.0, 1.0)},
    "no teacher's part": {"weights": lambda alpha, t: (0.0, 1 - alpha)},
    "labels' part subtracted": {"weights": lambda alpha, t: (alpha, alpha - 1)},
    "square of the temperature on both parts": {"weights": lambda alpha, t: (alpha, (1 - alpha) * t * t)},
    "square of the temperature on the labels' part alone": {"weights": lambda alpha, t: (alpha / t**2, (1 - alpha) * t * t)},
    "weights exchanged, square of the temperature on the labels' part": {
        "weights": lambda alpha, t: ((1 - alpha) / t**2, alpha * t * t)
    },
}  # fmt: skip

# mistakes that show in rows without a label alone
WITHOUT_LABEL: dict[str, Changes] = {
    "class 0 in place of no label": {"targets": lambda labels, k: labels.clamp(min=0)},
    "last class in place of no label": {"targets": lambda labels, k: labels % k},
    "mean over all examples": {"hard_mean": lambda losses, n: losses.sum() / n},
    "no teacher's part without a label": {"soft_rows": lambda labels: labels >= 0},
}

# in addition to those of the public checks
SAYS = {
    CROSS_ENTROPY: "a cross-entropy with the teacher's probabilities, which is larger than the divergence",
    "square of the temperature missing": "the factor `temperature**2` of the teacher's part is missing",
    "temperature in place of its square": "the teacher's part has the factor `temperature`, not its square",
    "square of a temperature of 4": "the factor of the teacher's part is 16, whatever is passed",
    "sum over the examples": "the teacher's part is a sum over the examples",
    "mean over the classes": "the teacher's part is divided by the number of classes as well",
    "student and teacher exchanged": "this is `KL(student || teacher)`",
    "temperature in the student alone": "the teacher's probabilities are those at a temperature of 1",
    "temperature in the teacher alone": "the student's probabilities are those at a temperature of 1",
    "no temperature in the probabilities": "both probabilities are those at a temperature of 1",
    "temperature of 4 always": "this is the loss at a temperature of 4, whatever is passed",
    "over the examples": "probabilities add up to 1 over the examples, not over the classes",
    "teacher on both sides": "the divergence of the teacher from itself is always 0",
    "student on both sides": "the divergence of the student from itself is always 0",
    "temperature in the labels' part": "the labels' part has the temperature, too",
    "sum over the labels": "the labels' part is a sum over the examples",
    "label 0 left out": "examples with label 0 do not count in the labels' part",
    "weights exchanged": "alpha and 1 - alpha have changed places",
    "no weights": "the parts have no weights",
    "labels' part in full": "the labels' part is not weighted by 1 - alpha",
    "teacher's part in full": "the teacher's part is not weighted by alpha",
    "alpha of 0.9 always": "this is the loss for alpha=0.9, whatever is passed",
    "square of the temperature on both parts": "the labels' part has the factor `temperature**2`, too",
    "square of the temperature on the labels' part alone": "the factor `temperature**2` is on the labels' part, not on the teacher's",
    "class 0 in place of no label": "examples without a label count as class 0",
    "last class in place of no label": "examples without a label count as the last class: -1 is an index from the end",
    "mean over all examples": "the labels' part is divided by the number of all examples",
    "no teacher's part without a label": "examples without a label do not count in the teacher's part",
    FEW_DIGITS: "about right, and not to four digits",
}


def formula(name: str) -> Formula:
    """Return the loss with these mistakes, joined as symptoms are; the contract's for an empty name."""
    changes: Changes = {}
    for part in name.split("; "):
        changes |= {**MISTAKES, **WITHOUT_LABEL, "": {}, FEW_DIGITS: {}}[part]
    return replace(Formula(), **changes)


def explains(name: str, cases: Sequence[Case], values: Sequence[float], tolerance: float = NEAR) -> bool:
    """Return whether the loss with these mistakes has these values."""
    loss = formula(name)
    return all(close(loss(*case), torch.tensor(seen), tolerance) for case, seen in zip(cases, values, strict=True))


def recognised(cases: Sequence[Case], values: Sequence[float]) -> str | None:
    """Return the mistakes that explain the values of a submission; empty if they are right, ``None`` if none do.

    Args:
        cases: Logits, labels, temperature and alpha of each case; all rows have a label.
        values: Loss of each case.
    """
    if explains("", cases, values, TOLERANCE):
        return ""
    one = next((name for name in MISTAKES if explains(name, cases, values)), None)
    if one is None and explains("", cases, values, ROUGH):
        return FEW_DIGITS
    pairs = (
        symptoms.join(*names)
        for names in itertools.combinations(MISTAKES, 2)
        if not MISTAKES[names[0]].keys() & MISTAKES[names[1]].keys()
    )
    # one mistake is more likely than two; the first case leaves few of them
    return one or next(
        (pair for pair in pairs if explains(pair, cases[:1], values[:1]) and explains(pair, cases, values)), None
    )


def without_label(name: str, cases: Sequence[Case], values: Sequence[float]) -> str:
    """Return the mistake that explains these values, of cases with rows without a label; empty if none does.

    Args:
        name: Mistakes that explain the values of other cases.
        cases: The cases.
        values: Loss of each case.
    """
    return next((one for one in WITHOUT_LABEL if explains(symptoms.join(name, one), cases, values)), "")
