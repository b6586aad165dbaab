"""Examples on which the hidden checks of exercise 3 compare values: the same for all of them, to be asked once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from amllab.checks.knowledge_distillation.ece_tables import NEAR, ROUGH
from amllab.seeds import derive
from autograder.checks.knowledge_distillation.ece_mistakes import FEW_DIGITS, MISTAKES, Case, formula

APART = 5 * NEAR  # least difference of a wrong value in one of the cases
FEW_DECIMALS = 2 * NEAR  # the same for a value that is rounded
FROM_EDGES = 3e-3  # least distance of a confidence from an edge: on which side of it an edge belongs is free
LARGE = 1000.0  # the largest logits of the contract
_ROUNDED = ("2 decimals",)
_DEFAULTS = (1, 2, 5, 8, 10, 12, 14, 16, 20, 25, 30, 50, 100)  # other numbers of bins that could be the default


@lru_cache(maxsize=4)
def usual(run_seed: int) -> tuple[Case, ...]:
    """Return cases that tell all known mistakes from the contract's value."""
    rng = random.Random(derive(run_seed, "examples of expected_calibration_error"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    while True:
        # bins are empty in the first two cases, and none is in the others
        cases = (
            _first(_has_own_value, lambda: _case(generator, 70, 5, 15, spread=2.5, accuracy=0.5)),
            _case(generator, 50, 4, 20, spread=1.2, accuracy=0.95),
            _first(_filled, lambda: _case(generator, 80, 6, 4, spread=1.5, accuracy=0.55)),
            _first(_filled, lambda: _case(generator, 80, 7, 3, spread=1.2, accuracy=0.75)),
        )
        if not _filled(cases[1]) and _is_not_constant(cases[2]) and tell_apart(cases):
            return cases


def _first(condition: Callable[[Case], bool], draw: Callable[[], Case]) -> Case:
    """Draw until a condition holds."""
    while not condition(case := draw()):
        pass
    return case


def _has_own_value(case: Case) -> bool:
    """Return whether another number of bins gives another value."""
    right = formula("")(case)
    return all(abs(formula("")(replace(case, n_bins=number)) - right) > FEW_DECIMALS for number in _DEFAULTS)


def _case(generator: torch.Generator, n: int, classes: int, n_bins: int, *, spread: float, accuracy: float) -> Case:
    """Return random examples, right with this probability, whose confidences are not at the edges of the bins."""
    logits = torch.empty(0, classes)
    while len(logits) < n:
        drawn = spread * torch.randn(2 * n, classes, generator=generator) + torch.randn(2 * n, 1, generator=generator)
        logits = torch.cat([logits, drawn[_off_edges(drawn, n_bins)]])
    logits = logits[:n]
    predicted = logits.argmax(dim=1)
    other = (predicted + torch.randint(1, classes, (n,), generator=generator)) % classes
    # the accuracy falls as the confidence rises, so that gaps of both signs are there
    confidence = logits.softmax(dim=1).amax(dim=1)
    hit = torch.rand(n, generator=generator) < accuracy + 0.6 * (confidence.median() - confidence)
    return Case(logits, torch.where(hit, predicted, other), n_bins)


def _off_edges(logits: Tensor, n_bins: int) -> Tensor:
    """Return which rows have a confidence that is away from all edges, and a single highest probability."""
    first, second = logits.double().softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    away = (first - (first * n_bins).round() / n_bins).abs() > FROM_EDGES
    return away & (first - second > FROM_EDGES)


def _is_not_constant(case: Case) -> bool:
    """Return whether the value is not that of equal logits, as which large logits may count, or of confidences of 0."""
    zeros = replace(case, logits=torch.zeros_like(case.logits))
    nothing = replace(formula(""), probabilities=torch.zeros_like)
    right = formula("")(case)
    return all(abs(wrong - right) > 2 * ROUGH for wrong in (formula("")(zeros), nothing(zeros)))


def tell_apart(cases: Sequence[Case]) -> bool:
    """Return whether the values are no extremes, and every known mistake gives another value in one of the cases."""
    right = [formula("")(case) for case in cases]
    if not all(0.08 < value < 0.6 for value in right):
        return False
    for name in MISTAKES.keys() - {FEW_DIGITS}:  # it shows in large logits
        least = FEW_DECIMALS if name in _ROUNDED else APART
        wrong = formula(name)
        if all(abs(wrong(case) - value) < least for case, value in zip(cases, right, strict=True)):
            return False
    return True


def _filled(case: Case) -> bool:
    """Return whether all bins have examples."""
    confidence = case.logits.double().softmax(dim=1).amax(dim=1)
    return len((confidence * case.n_bins).floor().unique()) == case.n_bins


@lru_cache(maxsize=4)
def large(run_seed: int) -> Case:
    """Return logits far from 0, with the probabilities of small ones: a constant is added to each row."""
    case = usual(run_seed)[2]
    generator = torch.Generator().manual_seed(derive(run_seed, "large logits of expected_calibration_error"))
    sign = torch.where(torch.rand(len(case.logits), 1, generator=generator) < 0.5, -1.0, 1.0)
    sign[:2, 0] = torch.tensor([1.0, -1.0])
    # float32 has few digits for such numbers: the values that they are rounded to are the logits
    return Case(case.logits + sign * (LARGE - 20), case.labels, case.n_bins)


@lru_cache(maxsize=4)
def sizes(run_seed: int) -> dict[str, Case]:
    """Return examples of special sizes and types, by what is special about them."""
    rng = random.Random(derive(run_seed, "sizes of expected_calibration_error"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    exact = _case(generator, 50, 5, 8, spread=2.0, accuracy=0.6)
    return {
        "two classes": _first(_is_no_single_logit, lambda: _case(generator, 60, 2, 5, spread=1.5, accuracy=0.6)),
        "60 classes": _first(_needs_all_classes, lambda: _case(generator, 150, 60, 10, spread=3.0, accuracy=0.5)),
        # Python keeps small numbers, so that only larger ones tell `is not` from `!=`
        "300 examples": _case(generator, 300, 5, 8, spread=2.0, accuracy=0.6),
        "one example": _first(_is_medium, lambda: _case(generator, 1, 4, 7, spread=1.5, accuracy=1.0)),
        "logits in float64": Case(exact.logits.double(), exact.labels, exact.n_bins),
    }


def _is_no_single_logit(case: Case) -> bool:
    """Return whether the value is not that of two sigmoids, or of the probability of class 1 alone."""
    second = replace(formula(""), judged=lambda p, y: (p[:, 1], (y == 1).double()))
    right = formula("")(case)
    return all(abs(wrong(case) - right) > 2 * ROUGH for wrong in (formula("sigmoid"), second))


def _needs_all_classes(case: Case) -> bool:
    """Return whether the first ten classes alone have another value."""
    return abs(formula("")(replace(case, logits=case.logits[:, :10])) - formula("")(case)) > 2 * ROUGH


def _is_medium(case: Case) -> bool:
    """Return whether all confidences are between 0.55 and 0.9."""
    confidence = case.logits.softmax(dim=1).amax(dim=1)
    return bool(((confidence > 0.55) & (confidence < 0.9)).all())
