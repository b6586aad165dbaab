"""Results of checks, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from amllab.protocol.failure import Failure

Outcome = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Name of the test function.
        title: First paragraph of its docstring, the sentence that the student reads.
        cell: Grade id of the cell that it counts for.
        points: What it is worth.
        outcome: ``skipped`` if a check that it needs did not pass; ``error`` if the check itself broke.
        failure: Why it failed; for ``skipped``, which check it waits for; for ``error``, the exception, shown only to
            the TA.
        seconds: Wall time.
    """

    name: str
    title: str
    cell: str
    points: float
    outcome: Outcome
    failure: Failure | None = None
    seconds: float = 0.0

    @property
    def earned(self) -> float:
        """Points earned: all if it passed; if it failed, the share that the failure grants, rounded down to halves."""
        if self.outcome == "passed":
            return self.points
        share = self.failure.share if self.failure is not None and self.outcome == "failed" else 0.0
        return math.floor(2 * self.points * share) / 2

    def as_dict(self) -> dict[str, object]:
        """Return plain data that every JSON parser accepts: numbers without a JSON form become strings (``"nan"``)."""
        failure = self.failure
        if failure is not None and failure.series is not None:
            values: Any = tuple(v if math.isfinite(v) else str(v) for v in failure.series.values)
            failure = replace(failure, series=replace(failure.series, values=values))
        return {**asdict(replace(self, failure=failure)), "earned": self.earned}


def score(results: Sequence[CheckResult], cell: str | None = None) -> tuple[float, float]:
    """Return points earned and points possible, of one cell or of all."""
    chosen = [r for r in results if cell in (None, r.cell)]
    return sum(r.earned for r in chosen), sum(r.points for r in chosen)
