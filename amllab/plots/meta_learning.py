"""Plots of meta-learning: episodes, accuracies with their intervals, and meta-training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.confidence import Interval
from amllab.plots.figure import CYCLE, INK, PERCENT, STYLE, VERMILLION, Plot, decorate, sentence, titled
from amllab.plots.legends import place_legend
from amllab.plots.predictions import to_pixels

if TYPE_CHECKING:
    from amllab.few_shot import Episode

Intervals = Interval | tuple[Interval, Interval] | Mapping[str, Interval]
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xx")
FILLS = ("#0072B2", "#9CCBE8", "#F2D9A6", "#DDDDDD")  # of the bars of a group, from dark to light
SHOTS = ("1-shot", "5-shot")  # names of a pair of intervals
ROOM_FOR_NUMBERS = 1.22  # width of a plot of bars with their values, as a multiple of the longest bar
SMALLEST_SHARE = 0.01  # at the right end of such a plot


def episode(
    episode: Episode,
    *,
    n_support: int = 5,
    n_query: int = 5,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show an episode: a row for each class, with support images on the left and query images on the right.

    Args:
        episode: an episode of images ``(n, 3, height, width)``, either normalised float or uint8.
        n_support: largest number of support images of a class to show.
        n_query: largest number of query images of a class to show.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: the episode has no images.
    """
    sets = ((episode.support, episode.support_labels, n_support), (episode.query, episode.query_labels, n_query))
    if any(images.ndim != 4 or len(images) == 0 for images, _, _ in sets):
        raise ValueError("episode() needs support and query images (n, 3, height, width)")
    classes = sorted({*episode.support_labels.tolist(), *episode.query_labels.tolist()})
    blocks = [
        [to_pixels(images[labels == label][:most], mean, std) for label in classes] for images, labels, most in sets
    ]
    columns = [max(map(len, rows)) for rows in blocks]
    heading = titled(title)
    with mpl.rc_context(STYLE):
        figure = Plot(0.85 * (sum(columns) + 1.6) + 0.4, 0.85 * len(classes) + 0.4 + 0.3 * len(heading.splitlines()))
        widths = [1.0] * columns[0] + [0.4] + [1.0] * columns[1]
        axes = figure.subplots(len(classes), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        for rows, start, name in zip(blocks, (0, columns[0] + 1), ("support set", "query set"), strict=True):
            for row, images in enumerate(rows):
                for column, image in enumerate(images):
                    axes[row, start + column].imshow(image, interpolation="nearest")
            # spans several columns, so that it must not widen the first of them
            look: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points"}
            axes[0, start].annotate(name, (0, 1), fontsize=11, **look).set_in_layout(False)
        for row, label in enumerate(classes):
            axes[row, 0].set_ylabel(f"label {label}", rotation=0, ha="right", va="center", labelpad=6)
        # a title of one space leaves room for the names of the sets
        figure.suptitle(f"{heading}\n " if heading else " ")
    told = f"{len(classes)} classes, a row each: {len(episode.support)} support images and {len(episode.query)} query images."
    figure.alt_text = sentence(title, told)
    return figure


def intervals(results: Mapping[str, Intervals], chance: float | None = None, title: str = "") -> Plot:
    """Plot accuracies with their 95 % intervals: a row for each method, a bar for each number of shots.

    Args:
        results: for each method, by name, an :class:`amllab.Interval`; a pair of them, for 1 and 5 shots; or several by
            name.
        chance: accuracy of guessing, shown as a line.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no results.
    """
    groups = {name: _named(value) for name, value in results.items()}
    kinds = list(dict.fromkeys(kind for group in groups.values() for kind in group))
    if not kinds:
        raise ValueError("intervals() needs at least one interval")
    height = 0.8 / len(kinds)
    handles: list[Any] = []
    with mpl.rc_context(STYLE):
        figure = Plot(8.6, 1.4 + len(groups) * (0.25 + 0.3 * len(kinds)))
        ax = figure.subplots()
        for place, kind in enumerate(kinds):
            rows = [row for row, group in enumerate(groups.values()) if kind in group]
            own = [group[kind] for group in groups.values() if kind in group]
            at = [row + (place - (len(kinds) - 1) / 2) * height for row in rows]
            look: dict[str, Any] = {"color": FILLS[place % len(FILLS)], "hatch": HATCHES[place % len(HATCHES)]}
            bars: dict[str, Any] = {"edgecolor": "white", "label": kind or None, "error_kw": {"ecolor": INK}}
            drawn = ax.barh(
                at, [i.mean for i in own], height * 0.9, xerr=[i.half_width for i in own], capsize=3, **look, **bars
            )
            handles += [drawn] if kind else []
            for y, value in zip(at, own, strict=True):
                end = _finite(value.mean) + _finite(value.half_width)
                ax.annotate(str(value), (end, y), (5, 0), textcoords="offset points", va="center", fontsize=10)
        decorate(ax, title=titled(title), xlabel="accuracy, with 95 % interval over episodes")
        ax.set_yticks(range(len(groups)), list(groups))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.xaxis.set_major_formatter(PERCENT)
        right = max(_finite(i.mean) + _finite(i.half_width) for group in groups.values() for i in group.values())
        ax.set_xlim(0, ROOM_FOR_NUMBERS * max(right, chance or 0, SMALLEST_SHARE))
        ax.set_xticks([tick for tick in ax.get_xticks() if tick <= 1])
        if chance is not None:
            look = {"color": VERMILLION, "linestyle": "--", "linewidth": 1.8, "label": f"guessing: {chance:.0%}"}
            handles.append(ax.axvline(chance, **look))
        if handles:
            place_legend(figure, handles)
    told = "; ".join(
        f"{name}: {', '.join(f'{kind} {value}'.strip() for kind, value in group.items())}"
        for name, group in groups.items()
    )
    against = "" if chance is None else f" Guessing: {chance:.0%}."
    figure.alt_text = sentence(title, f"Accuracies with 95 % intervals. {told}.{against}")
    return figure


def meta_training(
    runs: Mapping[str, Mapping[str, Sequence[float]]],
    chance: float | None = None,
    *,
    ylabel: str = "accuracy on validation classes",
    percent: bool = True,
    title: str = "",
) -> Plot:
    """Plot the loss of meta-training next to the evaluations.

    Args:
        runs: for each run, by name, what :func:`amllab.meta_train` returned with ``evaluate``.
        chance: evaluation of guessing, shown as a line.
        ylabel: what the evaluation is.
        percent: whether it is a share, to be shown in percent.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no runs, or a run has no evaluations.
    """
    if not runs or not all(len(run.get("evaluation", ())) == len(run["step"]) + 1 for run in runs.values()):
        raise ValueError("meta_training() needs at least one run, each with evaluations: meta_train(..., evaluate=...)")
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 4.2)
        left, right = figure.subplots(1, 2)
        looks = list(zip(runs, cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False))
        for (_, colour, marker, dash), run in zip(looks, runs.values(), strict=True):
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 5}
            left.plot(list(run["step"]), drawable(run["loss"]), **look)
            right.plot([0, *run["step"]], drawable(run["evaluation"]), **look)
        handles = [Line2D([], [], color=c, marker=m, linestyle=d, label=name) for name, c, m, d in looks]
        if chance is not None:
            right.axhline(chance, color=INK, linestyle="--", linewidth=1.5, zorder=1)
            handles.append(Line2D([], [], color=INK, linestyle="--", label=f"guessing: {_figure(chance, percent)}"))
        decorate(left, title="Training tasks: the loss", xlabel="step", ylabel="loss")
        decorate(right, title="Tasks of other classes" if percent else "Other tasks", xlabel="step", ylabel=ylabel)
        if percent:
            right.yaxis.set_major_formatter(PERCENT)
        last = max(run["step"][-1] for run in runs.values())
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
            ax.set_xlim(-0.03 * last, 1.03 * last)
        figure.suptitle(titled(title))
        place_legend(figure, handles)
    told = "; ".join(
        f"{name}: loss {run['loss'][0]:.2f} to {run['loss'][-1]:.2f}, {ylabel} "
        f"{_figure(run['evaluation'][0], percent)} to {_figure(run['evaluation'][-1], percent)}"
        for name, run in runs.items()
    )
    figure.alt_text = sentence(title, f"Loss and evaluation over steps. {told}.")
    return figure


def class_numbers(results: Mapping[int, Intervals], title: str = "") -> Plot:
    """Plot accuracy over the number of training classes, with 95 % intervals.

    Args:
        results: for each number of training classes an :class:`amllab.Interval`; a pair of them, for 1 and 5 shots; or
            several by name.
        title: title of the plot.

    Returns:
        The figure, with a logarithmic scale of classes.

    Raises:
        ValueError: there are no results.
    """
    curves: dict[str, dict[float, Interval]] = {}
    for number in sorted(results):
        for kind, value in _named(results[number]).items():
            curves.setdefault(kind, {})[number] = value
    if not curves:
        raise ValueError("class_numbers() needs at least one interval")
    with mpl.rc_context(STYLE):
        figure = Plot(7.6, 4.6)
        ax = figure.subplots()
        error_curves(ax, curves)
        ax.set_xscale("log")
        decorate(ax, title=titled(title), xlabel="number of training classes (logarithmic scale)", ylabel="accuracy")
        ax.xaxis.set_major_locator(FixedLocator(sorted(results)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([str(number) for number in sorted(results)])
        ax.yaxis.set_major_formatter(PERCENT)
        if any(curves):
            place_legend(figure)
    figure.alt_text = sentence(
        title, f"Accuracy by number of training classes. {told_curves(curves, 'classes', '.1%')}."
    )
    return figure


def _named(value: Intervals) -> dict[str, Interval]:
    """Return intervals by the name of their kind; a single one has an empty name."""
    if isinstance(value, Interval):
        return {"": value}
    if isinstance(value, Mapping):
        return dict(value)
    return dict(zip(SHOTS, value, strict=True))


def error_curves(ax: Axes, curves: Mapping[str, Mapping[Any, Interval]]) -> None:
    """Draw a curve with error bars for each entry, over the numbers on the horizontal axis."""
    looks = zip(cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False)
    for (name, curve), (colour, marker, dash) in zip(curves.items(), looks, strict=False):
        own = sorted(curve)
        means, halves = drawable([curve[n].mean for n in own]), drawable([curve[n].half_width for n in own])
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "capsize": 4}
        ax.errorbar(own, means, halves, label=name or None, **look)


def told_curves(curves: Mapping[str, Mapping[Any, Interval]], unit: str, spec: str) -> str:
    """Describe curves in words, with their values in the format ``spec``."""
    return "; ".join(
        f"{name or 'accuracy'}: {', '.join(f'{n} {unit} {format(curve[n], spec)}' for n in sorted(curve))}"
        for name, curve in curves.items()
    )


def drawable(values: Sequence[float]) -> list[float]:
    """Return numbers that can be drawn: NaN for those that are not finite."""
    return [float(value) if math.isfinite(value) else math.nan for value in values]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _figure(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.2f}"
