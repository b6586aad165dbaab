"""Embeddings on which the hidden checks of exercise 2 compare losses: the same for all of them, to be asked once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from amllab.kit.expectations import TOLERANCE
from amllab.seeds import derive
from autograder.checks.meta_learning.prototype_mistakes import MISTAKES, Case, Formula

APART = 30 * TOLERANCE  # least difference of wrong values in one of the cases, relative


def _generator(run_seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(
        random.Random(derive(run_seed, f"{purpose} of prototypical_loss")).getrandbits(62)
    )


def _case(
    generator: torch.Generator, way: int, shot: int, queries: int, d: int, apart: float, spread: float = 0.7
) -> Case:
    """Return embeddings around the centre of each class, by class; the mean of all centres is not the origin."""
    centres = apart * torch.randn(way, d, generator=generator) + torch.randn(d, generator=generator)
    found: dict[str, Tensor] = {}
    for name, number in (("support", shot), ("query", queries)):
        labels = torch.arange(way).repeat_interleave(number)
        found |= {
            name: centres[labels] + spread * torch.randn(len(labels), d, generator=generator),
            f"{name}_labels": labels,
        }
    return found


@lru_cache(maxsize=4)
def usual(run_seed: int) -> tuple[Case, ...]:
    """Return cases by class, with equal numbers, which tell all known mistakes from the contract's loss."""
    return next(cases for cases in _drawn(run_seed) if _tell_apart(cases))


def _drawn(run_seed: int) -> Iterator[tuple[Case, ...]]:
    generator = _generator(run_seed, "embeddings")
    while True:
        yield (
            _case(generator, 4, 3, 2, 5, 0.7),
            # classes that overlap: no probability is nearly 0 or 1
            _case(generator, 3, 5, 4, 4, 0.3),
            _case(generator, 6, 2, 3, 8, 0.5),
        )


def _tell_apart(cases: tuple[Case, ...]) -> bool:
    right = [Formula()(case) for case in cases]
    if min(float(loss) for loss, _ in right) < 0.3:  # the tolerance is relative
        return False

    def differs(formula: Formula) -> bool:
        found = [formula(case) for case in cases]
        return any(
            float((one[part] - other[part]).abs().max()) > APART * float(other[part].abs().max())
            for part in (0, 1)
            for one, other in zip(found, right, strict=True)
        )

    return all(map(differs, MISTAKES.values()))


@lru_cache(maxsize=4)
def small(run_seed: int) -> Case:
    """Return a case with few numbers, to change each of them."""
    return _case(_generator(run_seed, "few embeddings"), 3, 2, 2, 3, 0.5)


@lru_cache(maxsize=4)
def far(run_seed: int) -> Case:
    """Return embeddings whose squared distances are in the hundreds and thousands; queries are nearer to another class.

    Exponentials of all logits are 0 in float32, and so are the probabilities of the own classes.
    """
    generator = _generator(run_seed, "distant embeddings")
    case = _case(generator, 4, 2, 3, 6, 25.0, 12.0)
    case["query"] = case["query"].roll(1, 0)
    return case


@lru_cache(maxsize=4)
def touching(run_seed: int) -> Case:
    """Return a case with one support row of each class; some queries lie on a prototype, of their own class or not."""
    case = _case(_generator(run_seed, "embeddings that coincide"), 4, 1, 2, 5, 0.7)
    case["query"][0], case["query"][3] = case["support"][0], case["support"][2]
    return case


@lru_cache(maxsize=4)
def sizes(run_seed: int) -> dict[str, Case]:
    """Return small and large cases, by what is special about them."""
    generator = _generator(run_seed, "sizes of embeddings")
    one_query = _case(generator, 3, 2, 1, 4, 0.6)
    one_query |= {name: one_query[name][-1:] for name in ("query", "query_labels")}
    double = {name: t.double() if t.is_floating_point() else t for name, t in _case(generator, 3, 2, 2, 4, 0.6).items()}
    return {
        "one query": one_query,
        "embeddings of one number": _case(generator, 4, 2, 2, 1, 1.0),
        "one class": _case(generator, 1, 3, 2, 4, 0.6),
        "20 classes": _case(generator, 20, 5, 3, 64, 0.1, 0.3),
        "float64": double,
    }
