"""Plots of models that adapt to tasks: quality over the steps of adaptation, and fits of a sinusoid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from torch import Tensor

from amllab.confidence import Interval
from amllab.plots.figure import BLUE, CYCLE, INK, PERCENT, STYLE, Plot, decorate, sentence, titled
from amllab.plots.legends import place_legend
from amllab.plots.meta_learning import DASHES, error_curves, told_curves

if TYPE_CHECKING:
    from amllab.few_shot import Episode

MARGIN = 0.35  # of the height of a sinusoid, above and below it: what is further off is not shown


def adaptation(
    results: Mapping[str, Mapping[int, Interval]],
    *,
    ylabel: str = "mean squared error",
    percent: bool = False,
    log: bool = False,
    title: str = "",
) -> Plot:
    """Plot how good models are after several numbers of steps of adaptation, with 95 % intervals over tasks.

    Args:
        results: for each model, by name, what :func:`amllab.adaptation_curve` returned.
        ylabel: what was measured.
        percent: whether it is a share, to be shown in percent.
        log: whether its scale is logarithmic.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no results.
    """
    if not results or not all(results.values()):
        raise ValueError("adaptation() needs at least one number of steps for each model")
    numbers = sorted({number for curve in results.values() for number in curve})
    with mpl.rc_context(STYLE):
        figure = Plot(7.6, 4.6)
        ax = figure.subplots()
        error_curves(ax, results)
        decorate(ax, title=titled(title), xlabel="steps of adaptation", ylabel=ylabel)
        ax.xaxis.set_major_locator(FixedLocator(numbers))
        if log:
            ax.set_yscale("log")
        if percent:
            ax.yaxis.set_major_formatter(PERCENT)
        place_legend(figure)
    told = told_curves(results, "steps", ".1%" if percent else ".2f")
    figure.alt_text = sentence(title, f"{ylabel} by steps of adaptation. {told}.")
    return figure


def sinusoid_fits(task: Episode, fits: Mapping[str, Mapping[int, Tensor]], title: str = "") -> Plot:
    """Plot what models predict for a sinusoid before and after adapting to a few of its points: a panel each.

    Args:
        task: one task, with inputs and targets ``(points, 1)``.
        fits: for each model, by name, its outputs for the query set by the number of steps, as
            :func:`amllab.adapted_outputs` returns them.
        title: title of the plot.

    Returns:
        The figure. Curves that leave the neighbourhood of the sinusoid are cut.

    Raises:
        ValueError: there are no fits, or outputs that do not belong to the query set.
    """
    n = len(task.query)
    if not fits or not all(fit and all(len(y) == n for y in fit.values()) for fit in fits.values()):
        raise ValueError(f"sinusoid_fits() needs outputs for the {n} query points, for at least one model")
    order = task.query.flatten().argsort()
    x, truth = _flat(task.query)[order], _flat(task.query_labels)[order]
    numbers = sorted({number for fit in fits.values() for number in fit})
    looks: dict[int, tuple[str, Any]] = {}
    for place, number in enumerate(numbers):
        last = place == len(numbers) - 1
        looks[number] = CYCLE[1 + place % (len(CYCLE) - 1)], DASHES[0] if last else DASHES[3 - place % 3]
    with mpl.rc_context(STYLE):
        figure = Plot(max(4.0 * len(fits), 6.4), 4.2)
        axes = figure.subplots(1, len(fits), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (name, fit) in zip(axes, fits.items(), strict=True):
            ax.plot(x, truth, color=INK, linewidth=5, alpha=0.45, solid_capstyle="round")
            for number in sorted(fit):
                colour, dash = looks[number]
                ax.plot(x, _flat(fit[number])[order], color=colour, linestyle=dash, linewidth=2)
            ax.plot(_flat(task.support), _flat(task.support_labels), "o", color=BLUE, markersize=7, zorder=5)
            decorate(ax, title=name, xlabel="x")
        margin = MARGIN * max(float(np.ptp(truth)), 0.1)
        axes[0].set_ylim(float(truth.min()) - margin, float(truth.max()) + margin)
        axes[0].set_ylabel("y")
        handles = [
            Line2D([], [], color=INK, linewidth=5, alpha=0.45, label="the sinusoid"),
            Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=7, label="support points"),
        ]
        handles += [
            Line2D(
                [],
                [],
                color=c,
                linestyle=d,
                linewidth=2,
                label="before" if not k else f"{k} step{'s' if k > 1 else ''}",
            )
            for k, (c, d) in looks.items()
        ]
        figure.suptitle(titled(title))
        place_legend(figure, handles, most=len(handles))
    told = "; ".join(
        f"{name}: {', '.join(f'{k} steps {_error(fit[k], task.query_labels):.2f}' for k in sorted(fit))}"
        for name, fit in fits.items()
    )
    figure.alt_text = sentence(
        title, f"Fits of a sinusoid from {len(task.support)} points. Mean squared errors: {told}."
    )
    return figure


def _flat(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().flatten().numpy()


def _error(outputs: Tensor, targets: Tensor) -> float:
    return float(((outputs.detach().flatten() - targets.flatten()) ** 2).mean())
