"""Views on which the hidden checks of exercise 1 compare losses: the same for all of them, to be asked once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from amllab.kit.expectations import TOLERANCE
from amllab.seeds import derive
from autograder.checks.self_supervised_learning.loss_mistakes import DETACHED, MISTAKES, Case, formula, recognised

APART = 30 * TOLERANCE  # least difference of a wrong loss in one of the cases, relative
SMALL = 0.01  # the smallest temperature of the contract


@lru_cache(maxsize=4)
def usual(run_seed: int) -> tuple[Case, ...]:
    """Return views and temperatures that tell all known mistakes from the contract's loss."""
    return next(cases for cases in _drawn(run_seed) if _tell_apart(cases))


def _drawn(run_seed: int) -> Iterator[tuple[Case, ...]]:
    rng = random.Random(derive(run_seed, "views of nt_xent_loss"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    while True:
        plain, related, close, warm = (
            (torch.randn(2, n, d, generator=generator), torch.randn(1, 1, d, generator=generator))
            for n, d in ((4, 5), (5, 8), (6, 16), (3, 4))
        )
        first, other = related[0]
        yield (
            # all kinds of similarities, negative ones too
            _case([*plain[0]], rng.uniform(0.6, 0.8), rng),
            # two views of an image resemble each other
            _case([first, first + 0.8 * other], rng.uniform(0.25, 0.4), rng),
            # at a low temperature all rows do: no term of a sum is lost in the rounding of another one
            _case([*(close[0] + 3 * close[1])], 0.1, rng),
            _case([*warm[0]], rng.uniform(1.5, 3), rng),
        )


def _case(views: list[Tensor], temperature: float, rng: random.Random) -> Case:
    """Return views whose rows have different lengths, from 1/2 to 2."""
    n = len(views[0])
    longer = [0.5 * 4 ** (i / (2 * n - 1)) for i in range(2 * n)]
    rng.shuffle(longer)
    first, second = torch.nn.functional.normalize(torch.stack(views), dim=2) * torch.tensor(longer).view(2, n, 1)
    return first, second, round(temperature, 3)


def _tell_apart(cases: tuple[Case, ...]) -> bool:
    right = formula("")
    losses = [float(right(*case)) for case in cases]
    if min(losses) < 0.5:  # the tolerance is relative
        return False
    for name in MISTAKES:
        wrong = formula(name)
        if all(abs(float(wrong(*case)) - loss) < APART * loss for case, loss in zip(cases, losses, strict=True)):
            return False
    wanted = [right.gradients(*case) for case in cases]
    for name in DETACHED:
        found = [formula(name).gradients(*case) for case in cases]
        if not any(_differ(one, other) for one, other in zip(found, wanted, strict=True)):
            return False
    return True


def _differ(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return any(
        float((found[view] - wanted[view]).abs().max()) > APART * float(wanted[view].abs().max()) for view in wanted
    )


@lru_cache(maxsize=64)
def mistake(run_seed: int, values: tuple[float, ...]) -> str | None:
    """Return the mistakes that explain the losses of the usual cases; see :func:`recognised`."""
    return recognised(usual(run_seed), values)


@lru_cache(maxsize=4)
def cold(run_seed: int) -> Case:
    """Return views at the smallest temperature; those of two images are opposite.

    The probability of such a positive is 0 in float32. Every row resembles some other row: exponentials relative
    to exp(1 / temperature) have a sum, too. Those of the two most similar rows have no value in float32.
    """
    rng = random.Random(derive(run_seed, "views of nt_xent_loss at a low temperature"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    while True:
        views = torch.randn(2, 6, 8, generator=generator)
        views[1, 5] = views[0, 5] + 0.3 * views[1, 5]
        views[1, :2] = -views[0, :2]
        rows = torch.nn.functional.normalize(views.flatten(0, 1), dim=1)
        others = (rows @ rows.T).fill_diagonal_(-1)
        if others.amax(1).min() > 0.3 and 0.9 < others.amax() < 0.97:
            return _case([*views], SMALL, rng)


@lru_cache(maxsize=4)
def sizes(run_seed: int) -> dict[str, Case]:
    """Return the smallest and large views, by what is special about them."""
    rng = random.Random(derive(run_seed, "sizes of views of nt_xent_loss"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    found = {}
    for words, n, d in (("two images", 2, 6), ("rows of one number", 4, 1), ("64 images", 64, 32)):
        first, other = torch.randn(2, n, d, generator=generator)
        found[words] = _case([first, other], rng.uniform(0.4, 0.6), rng)
    return found
