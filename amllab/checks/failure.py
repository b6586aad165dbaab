"""A failed check as data, and the one call that a check makes to fail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why a check failed, in the student's terms.

    Attributes:
        expected: what the contract asks for, with this run's numbers.
        seen: what the submission did instead.
        why: why it matters.
        where: the section of the notebook that explains it; empty for that of the check's cell.
    """

    expected: str
    seen: str
    why: str
    where: str = ""


class CheckFailure(AssertionError):  # noqa: N818
    """Raised by :func:`expect`; carries a :class:`Failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"expected {failure.expected}; seen {failure.seen}")
        self.failure = failure


def expect(holds: object, *, expected: str, seen: str, why: str, where: str = "") -> None:
    """Fails the check unless ``holds``; the texts are those of :class:`Failure`."""
    if not holds:
        raise CheckFailure(Failure(expected, seen, why, where))
