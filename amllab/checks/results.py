"""Results of checks as data, and their renderings as text and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Literal

from amllab.protocol.failure import Failure, Series

Outcome = Literal["passed", "failed", "skipped", "error"]

_MARK = {"passed": "✓", "failed": "✗", "skipped": "–", "error": "!"}
# for symbols, not for text: no colour is dark enough for text on a light page and light enough on a dark one
_COLOUR = {"passed": "#009e73", "failed": "#d55e00", "skipped": "#777777", "error": "#cc79a7"}
# characters per line of a table; of these, its margin, and room for what extends beyond its last column
_WIDTH = 100
_MARGIN, _OVERHANG = 4, 16
_LABEL = 10  # width of the labels of a report, in characters
_ROWS = 3  # rows of a table; a longer series is shortened
_AROUND = 2  # epochs shown on both sides of a mark and at both ends of a shortened series
_BARS = "▁▂▃▄▅▆▇█"
_POINTER = "↑"
_GAP = "…"
_INTERNAL = "This is an error in the check, not in your work. A person will look into it."


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


def _number(points: float) -> str:
    return f"{points:g}"


def _lines(result: CheckResult) -> list[tuple[str, str]]:
    """Return the label and text of each line of feedback."""
    if result.outcome == "error":
        return [("", _INTERNAL)]
    failure = result.failure
    if failure is None:
        return []
    pairs = [("expected", failure.expected), ("seen", failure.seen), ("why", failure.why), ("look at", failure.where)]
    return [(label, text) for label, text in pairs if text]


@dataclass(frozen=True)
class _Column:
    """An epoch in the table of a series, or a gap where epochs are left out."""

    epoch: str
    value: str = ""
    bar: str = ""
    marks: tuple[str, ...] = ()


def _columns(series: Series) -> list[_Column]:
    """Return all epochs of a series if they fit into a few rows, or else its ends and what is around the marks."""
    values = series.values
    count = max([len(values), *(epoch + 1 for epoch, _ in series.marks)])
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    shown = list(range(count))
    if count > _ROWS * _columns_in_a_row(list(map(_value, values))):
        kept = {epoch + d for epoch, _ in series.marks for d in range(-_AROUND, _AROUND + 1)}
        kept |= {*range(_AROUND + 1), *range(count - _AROUND - 1, count)}
        shown = sorted(kept & set(shown))
    columns: list[_Column] = []
    for previous, epoch in zip([-1, *shown], shown, strict=False):
        if epoch > previous + 1:
            columns.append(_Column(_GAP, _GAP))
        marks = tuple(mark for marked, mark in series.marks if marked == epoch)
        value, bar = (_value(values[epoch]), _bar(values[epoch], low, high)) if epoch < len(values) else ("–", "")
        columns.append(_Column(str(epoch), value, bar, marks))
    return columns


def _rows(series: Series) -> list[list[_Column]]:
    """Split the columns of a series into rows that are not too wide."""
    columns = _columns(series)
    size = _columns_in_a_row([column.value for column in columns])
    return [columns[i : i + size] for i in range(0, len(columns), size)]


def _columns_in_a_row(values: list[str]) -> int:
    return max((_WIDTH - _MARGIN - _LABEL - _OVERHANG) // (_column_width(values) + 2), 1)


def _column_width(values: list[str]) -> int:
    return max(map(len, values), default=1)


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _bar(value: float, low: float, high: float) -> str:
    """Return a block whose height shows where the value is between the lowest and the highest; ``×`` for NaN."""
    if math.isnan(value):
        return "×"
    if high <= low or not math.isfinite(value):
        return _BARS[-1] if value > low else _BARS[0]
    # halved first: the difference of two large numbers may overflow
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return _BARS[round(share * (len(_BARS) - 1))]


def _series_text(series: Series) -> list[str]:
    """Return the lines of the table: epochs, values, bars, and one line per mark that points at its epoch."""
    lines = []
    for row in _rows(series):
        width = _column_width([column.value for column in row])
        for label, cells in (
            ("epoch", [column.epoch for column in row]),
            (series.name, [column.value for column in row]),
            ("", [column.bar for column in row]),
        ):
            lines.append(f"{label:<{_LABEL}}" + "  ".join(f"{cell:<{width}}" for cell in cells))
        for i, column in enumerate(row):
            lines += [" " * (_LABEL + i * (width + 2)) + f"{_POINTER} {mark}" for mark in column.marks]
    return [line.rstrip() for line in lines]


def _series_html(series: Series) -> str:
    """Return the same table in HTML, with the marks of each epoch below it."""
    tables = []
    for row in _rows(series):
        lines = [
            ("epoch", [escape(column.epoch) for column in row], "th"),
            (series.name, [escape(column.value) for column in row], "td"),
            ("", [column.bar for column in row], "td"),
        ]
        if any(column.marks for column in row):
            marks = ["<br>".join(f"{_POINTER} {escape(mark)}" for mark in column.marks) for column in row]
            lines.append(("", marks, "th"))
        body = "".join(
            f'<tr><th style="{_CELL}">{escape(label)}</th>'
            + "".join(f'<{tag} style="{_CELL}">{cell}</{tag}>' for cell in cells)
            + "</tr>"
            for label, cells, tag in lines
        )
        tables.append(f'<table style="border-collapse:collapse;margin:.3em 0">{body}</table>')
    return f'<div style="margin-left:1.6em;overflow-x:auto">{"".join(tables)}</div>'


# no colours, so that tables and code are readable on light and dark pages
_CELL = "text-align:left;vertical-align:top;padding:0 .5em;border:0;max-width:7em"
_BOX = (
    "margin:.2em 0 .4em 0;padding:.4em .8em;border:1px solid rgba(128,128,128,.5);"
    "font-family:monospace;white-space:pre;overflow-x:auto"
)


def _blocks(results: Sequence[CheckResult]) -> list[list[CheckResult]]:
    """Group the checks that failed or broke: one report covers all checks that failed in the same way."""
    blocks: dict[object, list[CheckResult]] = {}
    for r in results:
        if r.outcome in ("failed", "error"):
            symptom = r.failure.symptom if r.failure is not None and r.outcome == "failed" else ""
            blocks.setdefault((r.cell, symptom) if symptom else r, []).append(r)
    return list(blocks.values())


def _not_run(results: Sequence[CheckResult]) -> tuple[str, str]:
    """Return one line with all checks that were not run, and their points; both empty if all were run."""
    skipped = [r for r in results if r.outcome == "skipped"]
    points = f"{_number(sum(r.earned for r in skipped))}/{_number(sum(r.points for r in skipped))}"
    return (
        ("not run until the other checks pass: " + " · ".join(r.title for r in skipped), points)
        if skipped
        else ("", "")
    )


def to_text(results: Sequence[CheckResult], remarks: Sequence[str] = ()) -> str:
    """Format the report for a terminal, with failures first.

    Args:
        results: Results of the checks.
        remarks: Sentences about all of them together, shown at the top. With remarks, only the first block shows its
            evidence.
    """
    rows = [f"→ {remark}" for remark in remarks]
    for i, block in enumerate(_blocks(results)):
        rows += [_title(r) for r in block]
        rows += [f"    {label + ':' if label else '':<{_LABEL}}{text}" for label, text in _lines(block[0])]
        series, reproduce = _evidence(block) if i == 0 or not remarks else (None, "")
        if series is not None:
            rows += [f"    {line}" for line in _series_text(series)]
        for j, line in enumerate(reproduce.splitlines()):
            rows.append(f"    {'try it:' if j == 0 else '':<{_LABEL}}{line}".rstrip())
    waiting, points = _not_run(results)
    rows += [f"{_MARK['skipped']} {waiting}  [{points}]"] if waiting else []
    rows += [_title(r) for r in results if r.outcome == "passed"]
    earned, possible = score(results)
    return "\n".join([*rows, f"{_number(earned)} of {_number(possible)} points in these checks"])


def _title(result: CheckResult) -> str:
    return f"{_MARK[result.outcome]} {result.title}  [{_number(result.earned)}/{_number(result.points)}]"


def _evidence(block: Sequence[CheckResult]) -> tuple[Series | None, str]:
    """Return what a failure shows in addition to its sentences: numbers, and code to try.

    All checks of a block share one table.
    """
    failures = [r.failure for r in block if r.failure is not None and r.outcome == "failed"]
    series = next((failure.series for failure in failures if failure.series is not None), None)
    return series, next((failure.reproduce for failure in failures if failure.series is series), "")


def to_html(results: Sequence[CheckResult], *, note: str = "", remarks: Sequence[str] = ()) -> str:
    """Format the report for a notebook; see :func:`to_text`.

    It uses no scripts and no style sheet, and is readable on light and dark pages.
    """
    earned, possible = score(results)
    rows = [f'<div style="margin:.35em 0">→ <b>{_code(remark)}</b></div>' for remark in remarks]
    for i, block in enumerate(_blocks(results)):
        details = "".join(
            f'<div style="margin-left:1.6em"><span style="opacity:.7">{escape(label)}{":" if label else ""}</span> '
            f"{_code(text)}</div>"
            for label, text in _lines(block[0])
        )
        series, reproduce = _evidence(block) if i == 0 or not remarks else (None, "")
        if series is not None:
            details += _series_html(series)
        if reproduce:
            details += (
                '<div style="margin-left:1.6em"><span style="opacity:.7">try it:</span>'
                f'<pre style="{_BOX}">{escape(reproduce)}</pre></div>'
            )
        titles = "".join(f"<div>{_title_html(r)}</div>" for r in block)
        rows.append(f'<div style="margin:.5em 0">{titles}{details}</div>')
    waiting, points = _not_run(results)
    if waiting:
        mark = f'<span style="color:{_COLOUR["skipped"]}">{_MARK["skipped"]}</span>'
        rows.append(
            f'<div style="margin:.35em 0">{mark} {_code(waiting)} <span style="opacity:.7">({_of(points)})</span></div>'
        )
    rows += [f'<div style="margin:.35em 0">{_title_html(r)}</div>' for r in results if r.outcome == "passed"]
    colour = _COLOUR["passed" if earned == possible else "failed"]
    head = f"<b>{_number(earned)} of {_number(possible)} points</b> in {len(results)} checks"
    note = f'<div style="opacity:.7">{escape(note)}</div>' if note else ""
    return f'<div style="border-left:4px solid {colour};padding:.2em .8em">{head}{"".join(rows)}{note}</div>'


def _title_html(result: CheckResult) -> str:
    return (
        f'<b><span style="color:{_COLOUR[result.outcome]}">{_MARK[result.outcome]}</span> {result.outcome}</b> '
        f'{_code(result.title)} <span style="opacity:.7">({_number(result.earned)} of {_number(result.points)})</span>'
    )


def _of(points: str) -> str:
    return points.replace("/", " of ")


def _code(text: str) -> str:
    """Escape text, and format what is in backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
