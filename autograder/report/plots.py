"""The report's plots as SVG elements of the page, in its colours for light and dark mode.

matplotlib does not support CSS: it draws with placeholder colours, which are then replaced with variables of the page's
style sheet. The style sheet also sets the font.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from autograder.report.analysis import CellStatistics, CheckStatistics
from autograder.report.item_statistics import Summary

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
INK, MUTED, GRID, BAR, MARK, PAPER = (f"#0b0c0{i}" for i in range(1, 7))
SERIES = [f"#0b0d0{i}" for i in range(1, 8)]
MARKERS = "osD^vPX"
_VARIABLES = dict(
    zip((INK, MUTED, GRID, BAR, MARK, PAPER), ("ink", "muted", "rule", "bar", "mark", "paper"), strict=True)
)
_VARIABLES |= {colour: f"series-{i}" for i, colour in enumerate(SERIES, 1)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}
Box = tuple[float, float, float, float]  # left, bottom, right, top

_MOST_BINS = 20
_COLUMNS = 5  # small plots in a row


def histogram_of_scores(totals: Sequence[float], most: float, known: Summary) -> Markup:
    """Plot the distribution of total scores, with mean and median.

    Args:
        totals: points of each student.
        most: maximum points; extra credit may exceed them.
        known: statistics of the totals.
    """
    top = max([most, *totals])
    edges = _edges(top, _MOST_BINS)
    with mpl.rc_context(_STYLE):
        figure, (axes,) = _figure(7.4, 3.0)
        _bars(axes, totals, edges)
        for value, style, name in ((known.mean, "-", "mean"), (known.median, (0, (4, 2)), "median")):
            axes.axvline(value, color=MARK, linestyle=style, linewidth=1.6, label=f"{name} {value:.1f}")
        axes.set(xlabel="total score, points", ylabel="students", xlim=(edges[0], edges[-1]))
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        alt = (
            f"Histogram of the total scores of {known.count} students: from {known.lowest:g} to {known.highest:g} of "
            f"{most:g} points, mean {known.mean:.1f}, median {known.median:.1f}."
        )
        return _svg(figure, "scores", "Distribution of total scores", alt)


def histograms_of_cells(cells: Sequence[CellStatistics]) -> Markup:
    """Plot a small histogram for each cell that has scores."""
    shown = [cell for cell in cells if cell.scores]
    rows = math.ceil(len(shown) / _COLUMNS)
    columns = math.ceil(len(shown) / max(rows, 1))
    with mpl.rc_context({**_STYLE, "font.size": 9, "axes.titlesize": 9.5}):
        figure, all_axes = _figure(2.3 * columns, 1.9 * rows, rows, columns)
        for i, (axes, found) in enumerate(zip(all_axes, shown, strict=False)):
            top = max([found.cell.points, *found.scores])
            edges = _edges(top, _MOST_BINS // 2)
            _bars(axes, found.scores, edges)
            axes.axvline(found.summary.mean, color=MARK, linewidth=1.4)
            axes.set(title=_short(_label(found.cell.key)), xlim=(edges[0], edges[-1]))
            axes.set_xlabel(f"points of {found.cell.points:g}")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
            if i % columns == 0:
                axes.set_ylabel("students")
        for axes in all_axes[len(shown) :]:
            axes.remove()
        means = ", ".join(f"{c.cell.key} {c.summary.mean:.1f} of {c.cell.points:g}" for c in shown if c.summary)
        alt = f"One histogram of scores for each cell; the table below has the numbers. Means: {means}."
        return _svg(figure, "cells", "Distribution of scores in each cell", alt)


def difficulty_and_discrimination(checks: Sequence[CheckStatistics]) -> Markup:
    """Plot discrimination over difficulty of the checks that have both, numbered as in the tables."""
    shown = [c for c in checks if c.item.difficulty is not None and c.item.discrimination is not None]
    cells = list(dict.fromkeys(check.cell for check in checks))
    with mpl.rc_context(_STYLE):
        figure, (axes,) = _figure(9.6, 5.0)
        low = min([-0.25, *(float(c.item.discrimination or 0) - 0.1 for c in shown)])
        axes.axhspan(low, 0, color=MARK, alpha=0.10, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=0.9)
        axes.grid(True)
        for i, cell in enumerate(cells):
            own = [c for c in shown if c.cell == cell]
            axes.scatter(
                [c.item.difficulty or 0.0 for c in own],
                [c.item.discrimination or 0.0 for c in own],
                s=[18 + 9 * c.points for c in own],
                color=SERIES[i % len(SERIES)],
                marker=MARKERS[i % len(MARKERS)],
                alpha=0.85,
                linewidths=0,
            )
        axes.set(xlim=(-0.02, 1.06), ylim=(max(low, -1.02), 1.02))
        axes.set_xlabel("difficulty: mean share of the points earned  (left: hard, right: easy)")
        axes.set_ylabel("discrimination: correlation with the rest")
        handles = [
            Line2D(
                [], [], color=SERIES[i % len(SERIES)], marker=MARKERS[i % len(MARKERS)], linestyle="", label=_short(c)
            )
            for i, c in enumerate(map(_label, cells))
        ]
        axes.legend(
            handles=handles,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=4,
            borderaxespad=0.2,
            handletextpad=0.1,
            columnspacing=1.2,
        )
        _number_marks(figure, axes, shown)
        alt = f"Scatter plot of {len(shown)} checks, discrimination over difficulty; the table below has the numbers."
        return _svg(figure, "items", "Difficulty and discrimination of the checks", alt)


def histogram_of_seconds(seconds: Sequence[float], known: Summary) -> Markup:
    """Plot the distribution of the time that grading took."""
    edges = _edges(known.highest, _MOST_BINS)
    with mpl.rc_context(_STYLE):
        figure, (axes,) = _figure(7.4, 2.6)
        _bars(axes, seconds, edges)
        axes.axvline(
            known.median, color=MARK, linestyle=(0, (4, 2)), linewidth=1.6, label=f"median {known.median:.1f} s"
        )
        axes.set(xlabel="time to grade a submission, seconds", ylabel="submissions", xlim=(0, edges[-1]))
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
        alt = (
            f"Histogram of the seconds that grading of {known.count} submissions took: from {known.lowest:.1f} to "
            f"{known.highest:.1f}, median {known.median:.1f}."
        )
        return _svg(figure, "seconds", "Time to grade a submission", alt)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _bars(axes: Axes, values: Sequence[float], edges: list[float]) -> None:
    axes.hist(values, bins=edges, color=BAR, edgecolor=PAPER, linewidth=1)
    axes.grid(True, axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10]))
    axes.tick_params(length=3)
    axes.spines["left"].set_visible(False)


def _edges(top: float, most: int) -> list[float]:
    """Return the edges of at most ``most`` bins from 0 to ``top``.

    Their width is 1, 2, 2.5 or 5 times a power of ten. The last bin includes both of its edges.
    """
    raw = max(top, 1e-3) / most
    power = 10 ** math.floor(math.log10(raw))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * (1 - 1e-9))
    return [i * width for i in range(max(math.ceil(top / width - 1e-9), 1) + 1)]


def _number_marks(figure: Figure, axes: Axes, checks: Sequence[CheckStatistics]) -> None:
    """Write the number of each check next to its mark, on the side where it overlaps other marks and numbers least."""
    figure.draw_without_rendering()  # positions are known only after the layout
    scale = figure.dpi / 72
    at: dict[tuple[float, float], list[str]] = defaultdict(list)
    for check in checks:
        at[check.item.difficulty or 0.0, check.item.discrimination or 0.0].append(str(check.number))
    places = {point: axes.transData.transform(point) / scale for point in at}
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places.values()]
    for point, numbers in at.items():
        text, (x, y) = ", ".join(numbers), places[point]
        width = 5.8 * len(text)
        sides = [
            (7, -3),
            (-7 - width, -3),
            (-width / 2, 7),
            (-width / 2, -14),
            (6, 5),
            (6, -11),
            (-6 - width, 5),
            (-6 - width, -11),
        ]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + 8) for dx, dy in sides]
        best = min(range(len(boxes)), key=lambda i: sum(_overlap(boxes[i], other) for other in taken))
        taken.append(boxes[best])
        axes.annotate(text, point, xytext=sides[best], textcoords="offset points", fontsize=9, color=INK)


def _overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _label(key: str) -> str:
    return key.removeprefix("check_").replace("_", " ")


_LONGEST_LABEL = 26


def _short(text: str) -> str:
    """Shorten a text for a plot, without dollar signs, which would begin a formula."""
    text = text.replace("$", "")
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _svg(figure: Figure, name: str, title: str, alt: str) -> Markup:
    """Return the figure as an element of a page, with a title and a description for screen readers."""
    buffer = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    width, height = figure.get_size_inches() * 72
    drawn = buffer.getvalue().partition("<svg ")[2].partition(">")[2]  # without the start tag, which follows below
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{name}-", drawn)  # ids must be unique in the page
    drawn = re.sub("|".join(_VARIABLES), lambda colour: f"var(--{_VARIABLES[colour[0]]})", drawn)
    return Markup(
        '<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:.0f}pt" role="img" aria-labelledby="{name}-title '
        '{name}-alt"><title id="{name}-title">{title}</title><desc id="{name}-alt">{alt}</desc>{drawn}'
    ).format(width=width, height=height, name=name, title=title, alt=alt, drawn=Markup(drawn))
