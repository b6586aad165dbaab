"""Results of checks as data, and their renderings as text and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Literal

from amllab.checks.failure import Failure

Outcome = Literal["passed", "failed", "skipped", "error"]

_MARK = {"passed": "✓", "failed": "✗", "skipped": "–", "error": "!"}
_COLOUR = {"passed": "#009e73", "failed": "#d55e00", "skipped": "#777777", "error": "#cc79a7"}
_INTERNAL = "This is a fault of the check, not of your work: a person will look at it."


@dataclass(frozen=True)
class CheckResult:
    """What became of one check.

    Attributes:
        name: name of the test function.
        title: first line of its docstring, the sentence that the student reads.
        cell: grade id of the cell that it counts for.
        points: what it is worth.
        outcome: ``skipped`` when a check that it needs did not pass; ``error`` when the check itself broke.
        failure: why it failed; for ``skipped``, which check to mend first; for ``error``, the exception, for the TA only.
        seconds: wall time.
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
        """Points: all where it passed; where it failed, the share that the failure leaves, in steps of half a point."""
        if self.outcome == "passed":
            return self.points
        share = self.failure.share if self.failure is not None and self.outcome == "failed" else 0.0
        return math.floor(2 * self.points * share) / 2

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "earned": self.earned}


def score(results: Sequence[CheckResult], cell: str | None = None) -> tuple[float, float]:
    """Points earned and points possible, of one cell or of all."""
    chosen = [r for r in results if cell in (None, r.cell)]
    return sum(r.earned for r in chosen), sum(r.points for r in chosen)


def _number(points: float) -> str:
    return f"{points:g}"


def _lines(result: CheckResult) -> list[tuple[str, str]]:
    """Label and text of each line of feedback."""
    if result.outcome == "error":
        return [("", _INTERNAL)]
    failure = result.failure
    if failure is None:
        return []
    if result.outcome == "skipped":
        return [("first", failure.expected)]
    pairs = [("expected", failure.expected), ("seen", failure.seen), ("why", failure.why), ("look at", failure.where)]
    return [(label, text) for label, text in pairs if text]


def to_text(results: Sequence[CheckResult]) -> str:
    """The report for a terminal."""
    rows = []
    for r in results:
        rows.append(f"{_MARK[r.outcome]} {r.title}  [{_number(r.earned)}/{_number(r.points)}]")
        rows += [f"    {label + ':' if label else '':<10}{text}" for label, text in _lines(r)]
    earned, possible = score(results)
    return "\n".join([*rows, f"{_number(earned)} of {_number(possible)} points in these checks"])


def to_html(results: Sequence[CheckResult], *, note: str = "") -> str:
    """The report for a notebook: no scripts, no style sheet, readable on light and dark pages."""
    earned, possible = score(results)
    rows = []
    for r in results:
        details = "".join(
            f'<div style="margin-left:1.6em"><span style="opacity:.7">{escape(label)}{":" if label else ""}</span> '
            f"{_code(text)}</div>"
            for label, text in _lines(r)
        )
        rows.append(
            f'<div style="margin:.35em 0"><span style="color:{_COLOUR[r.outcome]};font-weight:bold">'
            f'{_MARK[r.outcome]} {r.outcome}</span> {_code(r.title)} <span style="opacity:.7">'
            f"({_number(r.earned)} of {_number(r.points)})</span>{details}</div>"
        )
    colour = _COLOUR["passed" if earned == possible else "failed"]
    head = f"<b>{_number(earned)} of {_number(possible)} points</b> in {len(results)} checks"
    note = f'<div style="opacity:.7">{escape(note)}</div>' if note else ""
    return f'<div style="border-left:4px solid {colour};padding:.2em .8em">{head}{"".join(rows)}{note}</div>'


def _code(text: str) -> str:
    """Escapes, and sets what stands in backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
