"""A failed check as data, and the function that checks call to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """Numbers of a run, one per epoch, as a student sees them in a report.

    Attributes:
        name: What the numbers are, such as ``"val_loss"``.
        values: One number per epoch, from epoch 0 on; NaN is shown as such.
        marks: Epochs (0-based) with a label each, such as ``((3, "should stop"), (4, "stopped"))``. An epoch beyond
            ``values`` shows only its label.
    """

    name: str
    values: tuple[float, ...]
    marks: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a check failed, in the student's terms.

    Attributes:
        expected: What the contract asks for, with this run's numbers.
        seen: What the submission did instead.
        why: Why it matters.
        where: Section of the notebook that explains it; empty for the section of the check's cell.
        symptom: A short fixed phrase for the way in which it failed, such as ``"1 epoch late"``. The same mistake has
            the same symptom whatever the numbers. It never contains text of the submission. Students do not see it: it
            serves to recognise mistakes.
        series: The underlying numbers, shown as a small table.
        reproduce: Code that reproduces the situation in the student's notebook; never an answer.
        share: Share of the check's points that the student earns nevertheless, in [0, 1).
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
    """The exception that :func:`expect` raises; it carries a :class:`Failure`."""

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
    """Fail the check unless ``holds``; the other arguments are those of :class:`Failure`.

    Raises:
        CheckFailure: ``holds`` is false.
    """
    if not holds:
        raise CheckFailure(Failure(expected, seen, why, where, symptom, series, reproduce, share))


def series(name: str, values: Sequence[float], **marks: float | None) -> Series:
    """Return a :class:`Series`; keyword arguments are marks, with ``_`` for spaces.

    For example, ``series("val_loss", losses, should_stop=3)``. Values that a submission returned can be passed as marks
    unchecked: a mark is left out if it is ``None``, negative, not a whole number, or more than one epoch beyond the
    values.
    """
    whole = {mark: int(epoch) for mark, epoch in marks.items() if epoch is not None and epoch in range(len(values) + 1)}
    named = sorted(((epoch, mark.replace("_", " ")) for mark, epoch in whole.items()), key=lambda mark: mark[0])
    return Series(name, tuple(map(float, values)), tuple(named))
