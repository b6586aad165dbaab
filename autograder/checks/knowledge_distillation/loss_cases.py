"""Logits on which the hidden checks of exercise 1 compare losses: the same for all of them, to be asked once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from amllab.kit.expectations import TOLERANCE
from amllab.seeds import derive
from autograder.checks.knowledge_distillation.loss_mistakes import MISTAKES, WITHOUT_LABEL, Case, formula, recognised

APART = 30 * TOLERANCE  # least difference of a wrong loss in one of the cases, relative
LARGE = 1000.0  # the largest logits of the contract

Drawn = tuple[random.Random, torch.Generator]


def _generators(run_seed: int, purpose: str) -> Drawn:
    rng = random.Random(derive(run_seed, f"{purpose} of distillation_loss"))
    return rng, torch.Generator().manual_seed(rng.getrandbits(62))


def _logits(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Return logits with another mean in each row, which changes no probability."""
    return 1.5 * torch.randn(n, k, generator=generator) + 2 * torch.randn(n, 1, generator=generator)


def _labels(n: int, k: int, rng: random.Random, without: int = 0, first: bool = True) -> Tensor:
    """Return labels, of which some are -1; 0 and the last class are among the others if there is room.

    Args:
        n: Number of labels.
        k: Number of classes.
        rng: Generator.
        without: Number of rows without a label.
        first: Whether the first row has a label, if some have one and some have none.
    """
    rest = [rng.randrange(k) for _ in range(max(n - without - 2, 0))]
    labels = rng.sample([*[0, k - 1, *rest][: n - without], *[-1] * without], n)
    if 0 < without < n:
        labels.insert(0, labels.pop(next(i for i in range(n) if (labels[i] >= 0) == first)))
    return torch.tensor(labels)


def _case(
    drawn: Drawn, n: int, k: int, temperature: float, alpha: float, without: int = 0, *, first: bool = True
) -> Case:
    rng, generator = drawn
    labels = _labels(n, k, rng, without, first)
    return _logits(n, k, generator), _logits(n, k, generator), labels, round(temperature, 2), round(alpha, 2)


@lru_cache(maxsize=4)
def usual(run_seed: int) -> tuple[Case, ...]:
    """Return cases with a label for each row, which tell all known mistakes from the contract's loss."""
    return next(cases for cases in _usual(_generators(run_seed, "logits")) if _tell_apart(cases, MISTAKES))


def _usual(drawn: Drawn) -> Iterator[tuple[Case, ...]]:
    rng, _ = drawn
    while True:
        yield (
            _case(drawn, 4, 3, rng.uniform(2.5, 3.5), rng.uniform(0.3, 0.4)),
            _case(drawn, 6, 5, rng.uniform(1.6, 1.9), rng.uniform(0.65, 0.8)),
            _case(drawn, 3, 6, rng.uniform(5, 7), rng.uniform(0.55, 0.65)),
            _case(drawn, 5, 4, rng.uniform(1.2, 1.5), rng.uniform(0.15, 0.25)),
        )


@lru_cache(maxsize=4)
def partly(run_seed: int) -> tuple[Case, ...]:
    """Return cases with rows without a label, which tell what may be done with these from the contract's loss."""
    return next(cases for cases in _partly(_generators(run_seed, "some labels")) if _tell_apart(cases, WITHOUT_LABEL))


def _partly(drawn: Drawn) -> Iterator[tuple[Case, ...]]:
    rng, _ = drawn
    while True:
        yield (
            _case(drawn, 6, 3, rng.uniform(2.5, 3.5), rng.uniform(0.3, 0.5), without=2, first=False),
            _case(drawn, 5, 4, rng.uniform(1.6, 2.2), rng.uniform(0.6, 0.7), without=4),
        )


@lru_cache(maxsize=4)
def unlabelled(run_seed: int) -> Case:
    """Return a case without any label."""
    drawn = _generators(run_seed, "no labels")
    return _case(drawn, 5, 3, drawn[0].uniform(2.5, 3.5), drawn[0].uniform(0.3, 0.7), without=5)


def _tell_apart(cases: tuple[Case, ...], mistakes: Iterable[str]) -> bool:
    right = [float(formula("")(*case)) for case in cases]
    if min(right) < 0.3:  # the tolerance is relative
        return False
    for name in mistakes:
        wrong = [float(formula(name)(*case)) for case in cases]
        if all(abs(one - loss) < APART * loss for one, loss in zip(wrong, right, strict=True)):
            return False
    return True


@lru_cache(maxsize=64)
def mistake(run_seed: int, values: tuple[float, ...]) -> str | None:
    """Return the mistakes that explain the losses of the usual cases; see :func:`recognised`."""
    return recognised(usual(run_seed), values)


@lru_cache(maxsize=4)
def small(run_seed: int) -> Case:
    """Return a case with few numbers, to change each of them."""
    drawn = _generators(run_seed, "few logits")
    return _case(drawn, 4, 3, drawn[0].uniform(1.8, 2.4), drawn[0].uniform(0.4, 0.6))


@lru_cache(maxsize=4)
def extreme(run_seed: int) -> tuple[Case, ...]:
    """Return logits up to the largest of the contract; student and teacher are certain of different classes.

    At the temperature of the call, many probabilities are 0 in float32, both of classes that the other one is certain
    of and of others. In some rows both agree. The label of a row is a class that the student finds impossible.
    """
    rng, _ = _generators(run_seed, "large logits")
    cases = []
    for temperature in (1.0, 4.0):
        student, teacher = torch.full((4, 4), -LARGE), torch.full((4, 4), -LARGE)
        chosen, others = rng.sample(range(4), 4), rng.sample(range(4), 4)
        for row in range(4):
            student[row, chosen[row]] = LARGE
            # rows 0 and 1 disagree, row 2 agrees, and the teacher of row 3 hesitates between two classes
            teacher[row, chosen[row] if row == 2 else (chosen[row] + 1 + others[row] % 3) % 4] = LARGE
        teacher[3, chosen[3]] = LARGE
        student[1] = LARGE * torch.tensor(rng.sample([1.0, 0.4, -0.3, -1.0], 4))
        labels = torch.tensor([(c + 1) % 4 for c in chosen])
        labels[1] = -1
        cases.append((student, teacher, labels, temperature, 0.5))
    return tuple(cases)


@lru_cache(maxsize=4)
def sizes(run_seed: int) -> dict[str, Case]:
    """Return small and large cases, by what is special about them."""
    drawn = _generators(run_seed, "sizes")
    whole = _case(drawn, 5, 4, 2.0, 0.5)
    return {
        "one example": _case(drawn, 1, 5, 2.5, 0.6),
        "a temperature below 1": _case(drawn, 4, 3, 0.5, 0.6),
        "two classes": _case(drawn, 5, 2, 2.5, 0.6),
        "as many examples as classes": _case(drawn, 4, 4, 2.5, 0.6),
        "100 classes": _case(drawn, 8, 100, 2.5, 0.6),
        "300 examples": _case(drawn, 300, 5, 2.5, 0.6, without=200),
        "numbers without a decimal point": (*whole[:3], 2, 1),
        "alpha=0 without a decimal point": (*whole[:3], 3, 0),
    }
