"""Plots of knowledge distillation: what a teacher says, calibration, students and their patience."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.plots.figure import (
    BLUE,
    CYCLE,
    INK,
    ORANGE,
    PERCENT,
    STYLE,
    VERMILLION,
    Plot,
    decorate,
    sentence,
    titled,
)
from amllab.plots.legends import place_legend
from amllab.plots.predictions import to_pixels

CalibrationError = Callable[[Tensor, Tensor], float | Tensor]
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
GROUPS = 10  # of a reliability diagram, with equally many images
MOST_PANELS = 3  # in a row
WIDEST_NAME = 28  # characters of a line above a panel
ROOM_FOR_NUMBERS = 1.24  # width of a panel of bars with their values, as a multiple of the longest bar
SMALLEST = 0.01  # at the right end of such a panel


def soft_labels(
    image: Tensor,
    answers: Mapping[float, Tensor],
    classes: Sequence[str],
    *,
    label: int | None = None,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show an image, and the probabilities that a model gives to its classes at several temperatures.

    Args:
        image: ``(3, height, width)``, either uint8 or normalised float.
        answers: for each temperature the probabilities of the classes, float ``(classes,)``.
        classes: their names.
        label: the true class, an index into ``classes``, which is marked.
        mean: channel means with which the image was normalised.
        std: channel standard deviations with which the image was normalised.
        title: title of the plot.

    Returns:
        The figure: the image, and a panel of bars for each temperature.

    Raises:
        ValueError: there are no answers, an answer has not one number for each class, or ``image`` is a batch.
    """
    if image.ndim != 3:
        raise ValueError(f"soft_labels() shows one image (3, height, width), not {tuple(image.shape)}")
    shown = {temperature: torch.as_tensor(values).detach().cpu().float() for temperature, values in answers.items()}
    if not shown or any(values.shape != (len(classes),) for values in shown.values()):
        raise ValueError(f"soft_labels() needs probabilities of shape ({len(classes)},) for at least one temperature")
    names = [f"{name} (true)" if i == label else name for i, name in enumerate(classes)]
    with mpl.rc_context(STYLE):
        # classes take as much room as the image
        figure = Plot(3.6 + 1.75 * len(shown), max(2.6, 1.3 + 0.3 * len(classes)))
        axes = figure.subplots(1, 1 + len(shown), gridspec_kw={"width_ratios": [1.3] + [1.0] * len(shown)})
        axes[0].imshow(to_pixels(image.unsqueeze(0), mean, std)[0], interpolation="nearest")
        axes[0].set(xticks=[], yticks=[], anchor="C")
        axes[0].spines[:].set_visible(False)
        for ax, (temperature, values) in zip(axes[1:], shown.items(), strict=True):
            colours = [VERMILLION if i == label else BLUE for i in range(len(classes))]
            _bars(ax, values.tolist(), "{:.1%}", colours, right=1.45)
            decorate(ax, title=f"T = {temperature:g}", xlabel="probability")
            ax.set_yticks(*((range(len(classes)), names) if ax is axes[1] else ([],)))
            ax.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
            ax.grid(False, axis="y")
        figure.suptitle(titled(title))
    told = "; ".join(
        f"T = {temperature:g}: {', '.join(f'{name} {value:.1%}' for name, value in zip(names, values.tolist(), strict=True))}"
        for temperature, values in shown.items()
    )
    figure.alt_text = sentence(title, f"An image and the probabilities of its classes. {told}.")
    return figure


def reliability(
    runs: Mapping[str, tuple[Tensor, Tensor]],
    ece: CalibrationError | None = None,
    *,
    groups: int = GROUPS,
    title: str = "",
) -> Plot:
    """Plot how often models are right against how sure they are: reliability diagrams.

    Images are sorted by the probability of the chosen class and divided into groups of equally many images, so that
    each point rests on as many images as any other (Nguyen and O'Connor, *Posterior calibration and exploratory
    analysis for natural language processing models*, 2015).

    Args:
        runs: for each model, by name, logits ``(n, classes)`` and labels, int64 ``(n,)``.
        ece: function of logits and labels that returns a calibration error, which each panel then shows.
        groups: largest number of groups.
        title: title of the plot.

    Returns:
        The figure: a panel for each model. Points below the diagonal are those of a model that is too sure.

    Raises:
        ValueError: there are no models or no images, numbers of logits and labels differ, or ``groups`` is below 1.
    """
    if not runs or any(
        logits.ndim != 2 or len(logits) != len(labels) or not len(labels) for logits, labels in runs.values()
    ):
        raise ValueError("reliability() needs logits (n, classes) and labels (n,) of at least one model, with n >= 1")
    if groups < 1:
        raise ValueError(f"groups must be at least 1, not {groups}")
    columns = min(len(runs), MOST_PANELS)
    rows = math.ceil(len(runs) / columns)
    above = max(len(textwrap.wrap(name, WIDEST_NAME)) for name in runs) + (ece is not None)
    told = []
    with mpl.rc_context(STYLE):
        # panels that are nearly square, without a fixed aspect, which the layout would not take into account
        figure = Plot(max(3.3 * columns, 5.0), (3.1 + 0.2 * above) * rows + 0.7)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for ax, (name, (logits, labels)) in zip(axes.flat, runs.items(), strict=False):
            sure, right = _points(logits, labels, groups)
            ax.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.5)
            ax.vlines(sure, sure, right, color=VERMILLION, linewidth=2.5, alpha=0.6, clip_on=False)
            ax.plot(sure, right, color=BLUE, marker="o", markersize=5, clip_on=False)
            error = "" if ece is None else f"calibration error {float(ece(logits, labels)):.3f}"
            decorate(ax, title="\n".join(filter(None, (textwrap.fill(name, WIDEST_NAME), error))))
            ax.set(xlim=(0, 1), ylim=(0, 1))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(PERCENT)
            pairs = ", ".join(f"{s:.0%} sure and {r:.0%} right" for s, r in zip(sure, right, strict=True))
            told.append(f"{name}{f', {error}' if error else ''}: {pairs}")
        for ax in axes.flat[len(runs) :]:
            ax.set_visible(False)
        for ax in axes.flat[max(0, len(runs) - columns) : len(runs)]:  # the lowest panel of each column
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("probability of the choice")
        for ax in axes[:, 0]:
            ax.set_ylabel("share that is right")
        figure.suptitle(titled(title))
        handles = [
            Line2D([], [], color=BLUE, marker="o", label="a group of images"),
            Line2D([], [], color=VERMILLION, linewidth=2.5, alpha=0.6, label="too sure (below), or not sure enough"),
            Line2D([], [], color=INK, linestyle="--", label="calibrated"),
        ]
        place_legend(figure, handles)
    figure.alt_text = sentence(title, f"Groups of images, from the least to the most certain. {'; '.join(told)}.")
    return figure


def students(
    results: Mapping[str, Mapping[str, float]], teacher: Mapping[str, float] | None = None, title: str = ""
) -> Plot:
    """Plot the accuracy of several students next to their calibration error.

    Args:
        results: for each student, by name, its ``"accuracy"`` in [0, 1] and its ``"ece"``, in the order of the rows.
        teacher: the same of the teacher, shown as lines.
        title: title of the plot.

    Returns:
        The figure: two panels of bars, with a row for each student.

    Raises:
        ValueError: there are no students, or a figure is missing.
    """
    everyone = [*results.values(), *([] if teacher is None else [teacher])]
    if not results or any({"accuracy", "ece"} - {*figures} for figures in everyone):
        raise ValueError(
            'students() needs "accuracy" and "ece" of at least one student, and of the teacher if there is one'
        )
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 1.6 + 0.45 * len(results))
        axes = figure.subplots(1, 2, sharey=True)
        for ax, key, colour, spec in zip(axes, ("accuracy", "ece"), (BLUE, ORANGE), ("{:.1%}", "{:.3f}"), strict=True):
            values = [float(figures[key]) for figures in results.values()]
            line = None if teacher is None else float(teacher[key])
            longest = max((v for v in [*values, line or 0.0, SMALLEST] if math.isfinite(v)), default=SMALLEST)
            _bars(ax, values, spec, [colour] * len(values), right=ROOM_FOR_NUMBERS * longest)
            if line is not None:
                ax.axvline(line, color=VERMILLION, linestyle="--", linewidth=1.8)
        decorate(axes[0], title="How often it is right", xlabel="accuracy")
        decorate(axes[1], title="How wrong its probabilities are", xlabel="calibration error (smaller is better)")
        axes[0].set_yticks(range(len(results)), list(results))
        axes[0].xaxis.set_major_formatter(PERCENT)
        axes[0].set_xticks([tick for tick in axes[0].get_xticks() if 0 <= tick <= 1])
        for ax in axes:
            ax.grid(False, axis="y")
        figure.suptitle(titled(title))
        if teacher is not None:
            words = f"teacher: accuracy {teacher['accuracy']:.1%}, calibration error {teacher['ece']:.3f}"
            place_legend(figure, [Line2D([], [], color=VERMILLION, linestyle="--", label=words)])
    rows = {**results, **({} if teacher is None else {"teacher": teacher})}
    told = "; ".join(
        f"{name}: accuracy {figures['accuracy']:.1%}, calibration error {figures['ece']:.3f}"
        for name, figures in rows.items()
    )
    figure.alt_text = sentence(title, f"Accuracy and calibration error. {told}.")
    return figure


def patience(results: Mapping[str, Mapping[int, float]], teacher: float | None = None, title: str = "") -> Plot:
    """Plot accuracy over the number of training steps: a curve for each way to train.

    Args:
        results: for each way, by name, accuracies in [0, 1] by the number of steps.
        teacher: accuracy of the teacher, shown as a line.
        title: title of the plot.

    Returns:
        The figure, with a logarithmic scale of steps.

    Raises:
        ValueError: there are no results, or a number of steps is below 1.
    """
    numbers = sorted({number for curve in results.values() for number in curve})
    if not numbers or numbers[0] < 1 or not all(results.values()):
        raise ValueError("patience() needs at least one accuracy for each curve, after at least 1 step")
    with mpl.rc_context(STYLE):
        figure = Plot(7.6, 4.6)
        ax = figure.subplots()
        looks = zip(cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False)
        for (name, curve), (colour, marker, dash) in zip(results.items(), looks, strict=False):
            own = sorted(curve)
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "linewidth": 2}
            ax.plot(own, [float(curve[number]) for number in own], label=name, **look)
        if teacher is not None:
            look = {"color": INK, "linestyle": "--", "linewidth": 1.5, "label": f"teacher: {teacher:.1%}"}
            ax.axhline(teacher, **look)
        ax.set_xscale("log")
        decorate(ax, title=titled(title), xlabel="training steps (logarithmic scale)", ylabel="accuracy")
        ax.xaxis.set_major_locator(FixedLocator(numbers))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([f"{number:,}" for number in numbers])
        ax.yaxis.set_major_formatter(PERCENT)
        place_legend(figure)
    told = "; ".join(
        f"{name}: {', '.join(f'{number:,} steps {curve[number]:.1%}' for number in sorted(curve))}"
        for name, curve in results.items()
    )
    against = "" if teacher is None else f" Teacher: {teacher:.1%}."
    figure.alt_text = sentence(title, f"Accuracy by number of training steps. {told}.{against}")
    return figure


def _bars(ax: Axes, values: Sequence[float], spec: str, colours: Sequence[str], right: float) -> None:
    """Draw horizontal bars, the first on top, with their values; the axis ends at ``right``."""
    drawn = [value if math.isfinite(value) else 0.0 for value in values]
    ax.barh(range(len(drawn)), drawn, height=0.65, color=list(colours))
    for row, (length, value) in enumerate(zip(drawn, values, strict=True)):
        text = ax.annotate(spec.format(value), (max(length, 0), row), (4, 0), textcoords="offset points", fontsize=10)
        text.set(va="center")
    ax.set_xlim(0, right)
    ax.set_ylim(len(drawn) - 0.4, -0.6)


def _points(logits: Tensor, labels: Tensor, groups: int) -> tuple[list[float], list[float]]:
    """Return, for groups of equally many images, how sure a model is of its choices and how often they are right."""
    sure, chosen = logits.detach().cpu().double().softmax(1).max(1)
    order = sure.argsort()
    right = (chosen == labels.cpu())[order].double()
    parts = list(zip(sure[order].tensor_split(groups), right.tensor_split(groups), strict=True))
    return tuple([float(part[i].mean()) for part in parts if len(part[0])] for i in (0, 1))  # type: ignore[return-value]
