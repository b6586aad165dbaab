"""The report as one HTML page that loads nothing, runs no scripts and escapes all text from submissions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from amllab.lab import find_lab
from amllab.templates import environment
from autograder.report import plots
from autograder.report.analysis import Analysis, Remark
from autograder.report.csv_tables import in_order
from autograder.report.item_statistics import TRUSTED_FROM, summary
from autograder.results.class_results import status

MAX_TEXT = 300  # characters of a text that may come from a submission
MAX_ENTRIES = 40  # lines of one list about the grading
NONE = "–"


def page(analysis: Analysis, files: Sequence[Path], anonymous: bool) -> str:
    """Render the whole page.

    Args:
        analysis: the data to show.
        files: the page and the tables; the page shows only the names of the tables.
        anonymous: whether to leave out student ids and texts that come from submissions.
    """
    templates = environment("autograder.report")
    templates.filters |= {
        "plain": plain,
        "number": number,
        "share": share,
        "signed": signed,
        "duration": duration,
        "label": label,
    }
    results = analysis.results
    seconds = summary(analysis.seconds)
    values: dict[str, Any] = {
        "title": _title(results.assignment),
        "written": datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        "analysis": analysis,
        "results": results,
        "totals": analysis.totals,
        "anonymous": anonymous,
        "tables": [file.name for file in files[1:]],
        "trusted_from": TRUSTED_FROM,
        "unreadable": sum(not s.readable for s in results.graded),
        "by_cell": [(cell, list(checks)) for cell, checks in groupby(analysis.checks, lambda check: check.cell)],
        "seconds": seconds,
        "submissions": in_order(results, anonymous),
        "status": status,
        "entries": partial(_entries, anonymous=anonymous),
        "plot_scores": plots.histogram_of_scores([s.total for s in results.graded], results.points, analysis.totals),
        "plot_cells": plots.histograms_of_cells(analysis.cells),
        "plot_items": plots.difficulty_and_discrimination(analysis.checks) if _can_be_drawn(analysis) else "",
        "plot_seconds": plots.histogram_of_seconds(analysis.seconds, seconds) if seconds else "",
    }
    return templates.get_template("page.html.j2").render(values)


def plain(text: str, most: int = MAX_TEXT) -> str:
    """Return text on one line, cut after ``most`` characters.

    Characters that hide the text around them or reverse its direction become spaces.
    """
    line = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return line if len(line) <= most else line[:most] + " …"


def number(value: float | None, digits: int = 1) -> str:
    """Format a number of points or students; whole numbers have no decimals."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def share(value: float | None) -> str:
    """Format a share as a percentage; only exactly 0 and 1 become 0 % and 100 %."""
    if value is None:
        return NONE
    percent = round(100 * value)
    if percent in (0, 100) and 0 < value < 1:
        return "< 1 %" if percent == 0 else "> 99 %"
    return f"{percent} %"


def signed(value: float | None) -> str:
    """Format a correlation, with a minus sign instead of a hyphen."""
    if value is None:
        return NONE
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Format seconds in readable units."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def label(key: str) -> str:
    """Return a cell's readable name, without the prefix ``check_`` of check cells."""
    return key.removeprefix("check_").replace("_", " ")


def _title(assignment: str) -> str:
    try:
        return find_lab(assignment).title
    except (LookupError, ValueError):
        return assignment


def _can_be_drawn(analysis: Analysis) -> bool:
    return any(check.item.discrimination is not None for check in analysis.checks)


def _entries(remark: Remark, anonymous: bool) -> list[tuple[str, str]]:
    """Return the lines of a list, as pairs of students and text; none if anonymous.

    Students with the same text share a line.
    """
    if anonymous:
        return []
    by_text: dict[str, list[str]] = {}
    for student, text in remark.entries:
        by_text.setdefault(plain(text), []).append(plain(student, 60))
    lines = [(", ".join(dict.fromkeys(students)), text) for text, students in by_text.items()]
    more = len(lines) - MAX_ENTRIES
    return lines[:MAX_ENTRIES] + ([("", f"and {more} more")] if more > 0 else [])
