"""A submission of this corpus: functions, and how they are graded by the contract."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

from tests.helpers.variants import CELLS

FREEZE, BUILD, TRAIN = CELLS


@dataclass(frozen=True)
class Wild:
    """A submission in the style of public code, graded by the contract before any check ran on it.

    Attributes:
        name: short, unique.
        reason: why it is correct under the contract; of a wrong one the mistake, as a clause.
        sources: of its solution cells; those not named have the plain correct functions.
        exercise: where the mistake is; empty for correct ones.
        cost: the fewest and the most points that the mistake should cost, in that exercise alone.
    """

    name: str
    reason: str
    sources: dict[str, str]
    exercise: str = ""
    cost: tuple[float, float] = (0, 0)


def correct(name: str, reason: str, *, freeze: str = "", build: str = "", train: str = "") -> Wild:
    """Return a correct submission of these functions."""
    given = zip(CELLS, (freeze, build, train), strict=True)
    return Wild(name, reason, {cell: dedent(source) for cell, source in given if source})


def wrong(exercise: str, name: str, reason: str, cost: tuple[float, float], source: str) -> Wild:
    """Return a wrong submission: this function, and the plain correct ones."""
    return Wild(name, reason, {exercise: dedent(source)}, exercise, cost)


def changed(base: Wild, exercise: str, name: str, reason: str, cost: tuple[float, float], *texts: str) -> Wild:
    """Return a correct submission with texts replaced in one exercise: old, new, old, new, ..."""
    source = base.sources[exercise]
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        assert old in source, f"{name}: {old!r} is not in {base.name}"
        source = source.replace(old, new)
    return Wild(name, reason, {**base.sources, exercise: source}, exercise, cost)
