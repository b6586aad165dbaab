"""A failed check as data, and the one call that a check makes to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """Numbers of a run, one for each epoch, as a student sees them in a report.

    Attributes:
        name: what the numbers are, such as ``"val_loss"``.
        values: one for each epoch; NaN is shown as such.
        marks: epoch -> what is to be said of it, such as ``{3: "should stop", 4: "stopped"}``. Epochs beyond ``values``
            have a mark alone.
    """

    name: str
    values: tuple[float, ...]
    marks: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a check failed, in the student's terms.

    Attributes:
        expected: what the contract asks for, with this run's numbers.
        seen: what the submission did instead.
        why: why it matters.
        where: the section of the notebook that explains it; empty for that of the check's cell.
        symptom: one word or two for the way in which it failed, the same for the same mistake whatever the numbers
            (``"one epoch late"``). Not shown: mistakes are recognised by it.
        series: numbers behind it, shown as a small table.
        reproduce: lines of code that bring the situation about at home; never an answer.
        share: of the check's points that are earned all the same, in [0, 1).
    """

    expected: str
    seen: str
    why: str
    where: str = ""
    symptom: str = ""
    series: Series | None = None
    reproduce: str = ""
    share: float = 0.0


class CheckFailure(AssertionError):  # noqa: N818
    """Raised by :func:`expect`; carries a :class:`Failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"expected {failure.expected}; seen {failure.seen}")
        self.failure = failure


def expect(
    holds: object,
    *,
    expected: str,
    seen: str,
    why: str,
    where: str = "",
    symptom: str = "",
    series: Series | None = None,
    reproduce: str = "",
    share: float = 0.0,
) -> None:
    """Fails the check unless ``holds``; the other arguments are those of :class:`Failure`."""
    if not holds:
        raise CheckFailure(Failure(expected, seen, why, where, symptom, series, reproduce, share))


def series(name: str, values: Sequence[float], **marks: int) -> Series:
    """A :class:`Series`; keywords are marks, with ``_`` for blanks: ``series("val_loss", losses, should_stop=3)``."""
    named = tuple(sorted((epoch, mark.replace("_", " ")) for mark, epoch in marks.items()))
    return Series(name, tuple(map(float, values)), named)
