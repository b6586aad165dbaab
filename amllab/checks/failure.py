"""A failed check as data, and the one call that a check makes to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """Numbers of a run, one for each epoch, as a student sees them in a report.

    Attributes:
        name: what the numbers are, such as ``"val_loss"``.
        values: one for each epoch, from epoch 0 on; NaN is shown as such.
        marks: epochs (0-based) with what is to be said of them, such as ``((3, "should stop"), (4, "stopped"))``. Epochs
            beyond ``values`` have a mark alone.
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
        symptom: a short fixed phrase for the way in which it failed, the same for the same mistake whatever the numbers
            (``"1 epoch late"``), and never a text of the submission's. Not shown: mistakes are recognised by it.
        series: numbers behind it, shown as a small table.
        reproduce: lines of code that bring the situation about in the student's notebook; never an answer.
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


def series(name: str, values: Sequence[float], **marks: float | None) -> Series:
    """A :class:`Series`; keywords are marks, with ``_`` for blanks: ``series("val_loss", losses, should_stop=3)``.

    What a submission returned can be marked as it is: a mark that is ``None``, no whole number, or farther than one epoch
    from the values is left out.
    """
    whole = {mark: int(epoch) for mark, epoch in marks.items() if epoch is not None and epoch in range(len(values) + 1)}
    named = sorted(((epoch, mark.replace("_", " ")) for mark, epoch in whole.items()), key=lambda mark: mark[0])
    return Series(name, tuple(map(float, values)), tuple(named))
