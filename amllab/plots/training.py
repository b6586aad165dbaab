"""Plots of training runs: curves, accuracy by number of trainable layers, drift of batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from amllab.plots.figure import (
    BLUE,
    CYCLE,
    INK,
    ORANGE,
    PERCENT,
    SKY,
    STYLE,
    VERMILLION,
    Plot,
    decorate,
    deviation_of,
    sentence,
    spread_words,
    titled,
)

History = Mapping[str, Any]


def curves(history: History | Mapping[str, History], title: str = "") -> Plot:
    """Plot loss and accuracy over epochs: training dashed, validation solid, the best epoch marked.

    Args:
        history: a history as ``train_with_early_stopping`` returns it, with the lists ``"train_loss"``, ``"val_loss"``
            (in nats), ``"train_acc"``, ``"val_acc"`` (in [0, 1]), one value per epoch, and ``"best_epoch"`` if known;
            or a dict of several histories, by the name of the run.
        title: title of the plot.

    Returns:
        The figure.
    """
    single = "val_loss" in history
    runs: Mapping[str, History] = {"": history} if single else history
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 4.2)
        axes = figure.subplots(1, 2)
        for i, run in enumerate(runs.values()):
            train, val = (ORANGE, BLUE) if single else (CYCLE[i % len(CYCLE)],) * 2
            for ax, quantity in zip(axes, ("loss", "acc"), strict=True):
                _curve(ax, run[f"train_{quantity}"], color=train, linestyle="--")
                _curve(ax, run[f"val_{quantity}"], color=val, linestyle="-")
                _mark_best(ax, run, f"val_{quantity}", val)
        for ax, name in zip(axes, ("Loss", "Accuracy"), strict=True):
            decorate(ax, title=name, xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[0].set_ylabel("cross-entropy (nats)")
        axes[1].set_ylabel("accuracy")
        axes[1].yaxis.set_major_formatter(PERCENT)
        figure.suptitle(titled(title))
        handles = _curve_legend(None if single else list(runs), [_best(run) for run in runs.values()])
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    told = "; ".join(f"{name}: {_curve_words(run)}" if name else _curve_words(run) for name, run in runs.items())
    figure.alt_text = sentence(title, f"Loss and accuracy over epochs, training and validation. {told}.")
    return figure


def sweep(results: Mapping[int, Sequence[float]], baseline: Sequence[float] | None = None, title: str = "") -> Plot:
    """Plot accuracy over the number of trainable layers: mean, standard deviation over seeds, and single runs.

    Args:
        results: for each ``n_trainable``, the accuracies in [0, 1], one per seed.
        baseline: accuracies of training from scratch, one per seed; shown as a band.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no results, or none for one ``n_trainable``.
    """
    if not results or not all(len(values) for values in results.values()):
        raise ValueError("sweep() needs at least one accuracy for each n_trainable")
    numbers = sorted(results)
    means = np.array([np.mean(results[n]) for n in numbers])
    deviations = np.array([deviation_of(results[n]) for n in numbers])
    several = max(len(values) for values in results.values()) > 1
    with mpl.rc_context(STYLE):
        figure = Plot(8, 4.6)
        ax = figure.subplots()
        if baseline is not None and len(baseline):
            _band(ax, baseline)
        if several:
            x, y = zip(*((n, value) for n in numbers for value in results[n]), strict=True)
            ax.plot(x, y, "o", color=SKY, markersize=4, alpha=0.8, label="single seeds", zorder=2)
        label = "mean ± standard deviation over seeds" if several else "one seed"
        ax.errorbar(numbers, means, deviations if several else None, fmt="o-", color=BLUE, capsize=4, label=label)
        best = int(np.nanargmax(means)) if not np.isnan(means).all() else 0
        ax.plot(
            numbers[best],
            means[best],
            "*",
            color=VERMILLION,
            markersize=15,
            markeredgecolor="none",
            zorder=5,
            label=f"highest: {means[best]:.1%} at n_trainable = {numbers[best]}",
        )
        decorate(ax, title=titled(title), xlabel="n_trainable (layers, counted from the head)", ylabel="accuracy")
        ax.yaxis.set_major_formatter(PERCENT)
        ax.xaxis.set_major_locator(FixedLocator(numbers) if len(numbers) <= 14 else MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    points = ", ".join(f"{n}: {spread_words(results[n])}" for n in numbers)
    against = f" From scratch: {spread_words(baseline)}." if baseline is not None and len(baseline) else ""
    figure.alt_text = sentence(title, f"Accuracy by number of trainable layers: {points}.{against}")
    return figure


def drift(shifts: Mapping[str, Sequence[float]], title: str = "") -> Plot:
    """Plot how far the running means of batch normalisation move while batches pass.

    Args:
        shifts: for each layer, from input to output, the mean shift after each batch, in standard deviations of its
            channels; the first value is before the first batch.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no layers, or there is no shift of one.
    """
    if not shifts or not all(map(len, shifts.values())):
        raise ValueError("drift() needs at least one shift for each layer")
    with mpl.rc_context(STYLE):
        figure = Plot(9, 4)
        ax = figure.subplots()
        for i, (name, values) in enumerate(shifts.items()):
            shade = 0.25 + 0.6 * i / max(1, len(shifts) - 1)  # neither too dark for a dark theme nor too light
            ax.plot([100 * v for v in values], color=mpl.colormaps["viridis"](shade), label=name)
        decorate(ax, title=titled(title), xlabel="batches seen", ylabel="mean shift, % of a standard deviation")
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    told = ", ".join(f"{name} {values[-1]:.1%}" for name, values in shifts.items())
    batches = max(len(values) - 1 for values in shifts.values())
    figure.alt_text = sentence(title, f"Shift of the running means after {batches} batches: {told}.")
    return figure


def _curve(ax: Axes, values: Sequence[float], **look: Any) -> None:
    finite = [value if math.isfinite(value) else math.nan for value in map(float, values)]
    ax.plot(range(len(finite)), finite, marker="o", markersize=3.5 if len(finite) <= 40 else 0, linewidth=1.8, **look)


def _best(history: History) -> int | None:
    """Return the best epoch if the history names one that was run."""
    best = history.get("best_epoch")
    return int(best) if best is not None and 0 <= best < len(history["val_loss"]) else None


def _mark_best(ax: Axes, history: History, key: str, colour: str) -> None:
    best = _best(history)
    if best is None:
        return
    ax.axvline(best, color=colour, linestyle=":", linewidth=1.3, alpha=0.8, zorder=1)
    ax.plot(best, float(history[key][best]), "*", color=colour, markersize=14, markeredgecolor="none", zorder=5)


def _curve_legend(names: list[str] | None, bests: list[int | None]) -> list[Line2D]:
    """Return the legend entries: the two curves of a single run, or the colours of several runs and the line styles."""
    first, second = (ORANGE, BLUE) if names is None else (INK, INK)
    handles = [
        Line2D([], [], color=BLUE if names is None else CYCLE[i % len(CYCLE)], linewidth=3, label=name)
        for i, name in enumerate(names or [])
    ]
    handles += [
        Line2D([], [], color=first, linestyle="--", linewidth=1.8, label="training"),
        Line2D([], [], color=second, linewidth=1.8, label="validation"),
    ]
    if any(best is not None for best in bests):
        label = f"best epoch: {bests[0]}" if names is None else "best epoch"
        handles.append(Line2D([], [], color=second, marker="*", markersize=11, linestyle=":", label=label))
    return handles


def _curve_words(history: History) -> str:
    epochs, best = len(history["val_loss"]), _best(history)
    if best is None:
        return f"{epochs} epochs"
    loss, accuracy, train = (history[key][best] for key in ("val_loss", "val_acc", "train_acc"))
    return (
        f"{epochs} epochs, best epoch {best} with validation loss {loss:.3f}, validation accuracy {accuracy:.1%} "
        f"and training accuracy {train:.1%}"
    )


def _band(ax: Axes, baseline: Sequence[float]) -> None:
    mean, deviation = float(np.mean(baseline)), deviation_of(baseline)
    ax.axhline(
        mean, color=INK, linestyle="--", linewidth=1.5, label=f"from scratch: {spread_words(baseline)}", zorder=1
    )
    ax.axhspan(mean - deviation, mean + deviation, color=INK, alpha=0.18, linewidth=0, zorder=0)
