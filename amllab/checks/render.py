"""Reports of the results of checks, as text and as HTML with the same content."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from amllab.checks.results import CheckResult, score
from amllab.protocol.failure import Series
from amllab.templates import MARKS, render

# characters per line of a table; of these, its margin, and room for what extends beyond its last column
_WIDTH = 100
_MARGIN, _OVERHANG = 4, 16
_LABEL = 10  # width of the labels of a report, in characters
_ROWS = 3  # rows of a table; a longer series is shortened
_AROUND = 2  # epochs shown on both sides of a mark and at both ends of a shortened series
_BARS = "▁▂▃▄▅▆▇█"
_GAP = "…"
_INTERNAL = "This is an error in the check, not in your work. A person will look into it."


class _Table(NamedTuple):
    """Consecutive epochs of a series, few enough for the width of a terminal."""

    rows: Sequence[tuple[str, Sequence[str]]]  # label and cells: epochs, values and bars; a gap has a cell too
    marks: Sequence[Sequence[str]]  # what points at each cell; empty if nothing points at any
    width: int  # characters of the longest value


class _Block(NamedTuple):
    """Checks that failed in the same way or broke, with one explanation for all of them."""

    results: list[CheckResult]
    lines: list[tuple[str, str]]  # label and text of each sentence
    tables: Sequence[_Table] = ()
    reproduce: str = ""  # code to try


def to_text(results: Sequence[CheckResult], remarks: Sequence[str] = (), *, hidden_points: float | None = None) -> str:
    """Format the report for a terminal, with failures first.

    Args:
        results: Results of the checks.
        remarks: Sentences about all of them together, shown at the top. With remarks, only the first block shows its
            evidence.
        hidden_points: What hidden checks are worth, if ``results`` are those of all public checks of an exercise;
            ``None`` or 0 to say nothing about them.
    """
    rows = [f"→ {remark}" for remark in remarks]
    for block in _blocks(results, bool(remarks)):
        rows += [_title(r) for r in block.results]
        rows += [f"    {label + ':' if label else '':<{_LABEL}}{text}" for label, text in block.lines]
        rows += [f"    {line.rstrip()}" for table in block.tables for line in _table_text(table)]
        for j, line in enumerate(block.reproduce.splitlines()):
            rows.append(f"    {'try it:' if j == 0 else '':<{_LABEL}}{line}".rstrip())
    rows += map(_title, _others(results))
    total, more = points_in_words(results, hidden_points)
    return "\n".join([*rows, total + (more or " in these checks")])


def points_in_words(results: Sequence[CheckResult], hidden_points: float | None) -> tuple[str, str]:
    """Return the points of checks in words, and what to say about hidden checks: an empty text if there is nothing."""
    earned, possible = score(results)
    if not hidden_points:
        return f"{earned:g} of {possible:g} points", ""
    return f"{earned:g} of {possible:g} public points", f"; hidden checks give {hidden_points:g} more"


def to_html(
    results: Sequence[CheckResult],
    *,
    note: str = "",
    remarks: Sequence[str] = (),
    hidden_points: float | None = None,
) -> str:
    """Format the report for a notebook; see :func:`to_text`. ``note`` is shown at the end."""
    earned, possible = score(results)
    total, more = points_in_words(results, hidden_points)
    return render(
        "report.html.j2",
        outcome="passed" if earned == possible else "failed",
        total=total,
        more=more or f" in {len(results)} checks",
        remarks=remarks,
        blocks=_blocks(results, bool(remarks)),
        others=_others(results),
        note=note,
    )


def _title(result: CheckResult) -> str:
    return f"{MARKS[result.outcome]} {result.title}  [{result.earned:g}/{result.points:g}]"


def _table_text(table: _Table) -> Iterator[str]:
    """Yield epochs, values, bars, and one line per mark that points at its epoch."""
    for label, cells in table.rows:
        yield f"{label:<{_LABEL}}" + "  ".join(f"{cell:<{table.width}}" for cell in cells)
    for i, marks in enumerate(table.marks):
        yield from (" " * (_LABEL + i * (table.width + 2)) + mark for mark in marks)


def _blocks(results: Sequence[CheckResult], brief: bool) -> list[_Block]:
    """Explain the checks that failed or broke: one block covers all that failed in the same way.

    If ``brief``, only the first block has evidence: numbers and code to try.
    """
    groups: dict[object, list[CheckResult]] = {}
    for r in results:
        if r.outcome in ("failed", "error"):
            symptom = r.failure.symptom if r.failure is not None and r.outcome == "failed" else ""
            groups.setdefault((r.cell, symptom) if symptom else r, []).append(r)
    return [_block(group, with_evidence=i == 0 or not brief) for i, group in enumerate(groups.values())]


def _block(group: list[CheckResult], *, with_evidence: bool) -> _Block:
    failures = [r.failure for r in group if r.failure is not None and r.outcome == "failed"]
    if not failures:
        return _Block(group, [("", _INTERNAL)] if group[0].outcome == "error" else [])
    first = failures[0]
    pairs = [("expected", first.expected), ("seen", first.seen), ("why", first.why), ("look at", first.where)]
    lines = [(label, text) for label, text in pairs if text]
    if not with_evidence:
        return _Block(group, lines)
    # one table for all, and the code that belongs to it
    shown = next((failure for failure in failures if failure.series is not None), first)
    return _Block(group, lines, _tables(shown.series), shown.reproduce)


def _others(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the checks that passed, after one result that stands for all that were not run."""
    skipped = [r for r in results if r.outcome == "skipped"]
    title = "not run until the other checks pass: " + " · ".join(r.title for r in skipped)
    waiting = [replace(r, title=title, points=sum(r.points for r in skipped)) for r in skipped[:1]]
    return waiting + [r for r in results if r.outcome == "passed"]


def _tables(series: Series | None) -> list[_Table]:
    """Fold a series into tables; a long one is shortened to its ends and what is around its marks."""
    if series is None:
        return []
    values = [_value(value) for value in series.values]
    bars = _bars(series.values)
    count = max([len(values), *(epoch + 1 for epoch, _ in series.marks)])
    shown = list(range(count))
    if count > _ROWS * _cells_in_a_row(values):
        kept = {epoch + d for epoch, _ in series.marks for d in range(-_AROUND, _AROUND + 1)}
        kept |= {*range(_AROUND + 1), *range(count - _AROUND - 1, count)}
        shown = sorted(kept & set(shown))
    columns: list[tuple[str, str, str, list[str]]] = []
    for previous, epoch in zip([-1, *shown], shown, strict=False):
        if epoch > previous + 1:
            columns.append((_GAP, _GAP, "", []))
        value, bar = (values[epoch], bars[epoch]) if epoch < len(values) else ("–", "")
        columns.append((str(epoch), value, bar, [f"↑ {mark}" for marked, mark in series.marks if marked == epoch]))
    tables = []
    size = _cells_in_a_row([value for _, value, _, _ in columns])
    for i in range(0, len(columns), size):
        epochs, cells, heights, marks = zip(*columns[i : i + size], strict=True)
        rows = (("epoch", epochs), (series.name, cells), ("", heights))
        tables.append(_Table(rows, marks if any(marks) else (), max(map(len, cells))))
    return tables


def _cells_in_a_row(values: Sequence[str]) -> int:
    width = max(map(len, values), default=1)
    return max((_WIDTH - _MARGIN - _LABEL - _OVERHANG) // (width + 2), 1)


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _bars(values: Sequence[float]) -> list[str]:
    """Return a block for each value, with its height between the lowest and the highest; ``×`` for NaN."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def bar(value: float) -> str:
        if math.isnan(value):
            return "×"
        if high <= low or not math.isfinite(value):
            return _BARS[-1] if value > low else _BARS[0]
        # halved first: the difference of two large numbers may overflow
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        return _BARS[round(share * (len(_BARS) - 1))]

    return [bar(value) for value in values]
