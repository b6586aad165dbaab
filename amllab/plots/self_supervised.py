"""Plots of self-supervised learning: similarities, pretraining, and what the features are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from torch import Tensor

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
    deviation_of,
    sentence,
    spread_words,
    titled,
)
from amllab.plots.legends import place_legend

MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
BINS = 50
SMALLEST = 1e-5  # of the singular values that are shown
TINY = 1e-30


def similarities(runs: Mapping[str, tuple[Tensor, Tensor]], title: str = "") -> Plot:
    """Plot how similar views of the same image are, and views of different images.

    Args:
        runs: for each encoder, by name, the cosine similarities of positive pairs (two views of one image) and of
            negative pairs (views of different images), float tensors of any shape.
        title: title of the plot.

    Returns:
        The figure: a histogram for each encoder, each kind of pair with an area of 1.

    Raises:
        ValueError: there are no runs, or a run has no pairs of a kind.
    """
    pairs = {name: tuple(_flat(values) for values in both) for name, both in runs.items()}
    if not pairs or any(len(values) == 0 for both in pairs.values() for values in both):
        raise ValueError("similarities() needs at least one positive and one negative pair for each encoder")
    low = min(float(values.min()) for both in pairs.values() for values in both)
    edges = np.linspace(min(low, 0.0) - 1e-3, 1.0 + 1e-3, BINS + 1)
    looks: tuple[dict[str, Any], ...] = (
        {"facecolor": BLUE, "alpha": 0.75, "label": "positive: two views of one image"},
        {"facecolor": "#FBE3B0", "edgecolor": VERMILLION, "hatch": "////", "alpha": 0.75, "label": "negative"},
    )
    looks[1]["label"] += ": views of different images"
    with mpl.rc_context(STYLE):
        figure = Plot(4.9 * max(len(pairs), 1.4), 3.9)
        axes = figure.subplots(1, len(pairs), sharex=True, squeeze=False)[0]
        for ax, (name, both) in zip(axes, pairs.items(), strict=True):
            # the many negatives first, so that the positives stay visible
            for values, look in zip(both[::-1], looks[::-1], strict=True):
                ax.hist(np.clip(values, edges[0], edges[-1]), bins=edges, density=True, histtype="stepfilled", **look)
                ax.axvline(values.mean(), color=look.get("edgecolor", BLUE), linestyle=":", linewidth=1.5)
            decorate(ax, title=name, xlabel="cosine similarity")
        axes[0].set_ylabel("density")
        figure.suptitle(titled(title))
        handles = [Patch(**look) for look in looks]
        handles += [Line2D([], [], color=INK, linestyle=":", label="mean")]  # type: ignore[list-item]
        place_legend(figure, handles)
    told = "; ".join(
        f"{name}: positive pairs {a.mean():.2f} on average, negative pairs {b.mean():.2f}"
        for name, (a, b) in pairs.items()
    )
    figure.alt_text = sentence(title, f"Histograms of cosine similarities. {told}.")
    return figure


def pretraining(
    runs: Mapping[str, Mapping[str, Sequence[float]]], baseline: float | None = None, title: str = ""
) -> Plot:
    """Plot the loss of pretraining next to what the features are worth.

    Args:
        runs: for each run, by name, ``"loss"``, one value per epoch, and ``"knn"``, accuracies in [0, 1]: the first
            before training, then one after each epoch.
        baseline: a loss to compare with, shown as a line: that of features that tell nothing.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("pretraining() needs at least one run")
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 4.2)
        left, right = figure.subplots(1, 2)
        for run, colour, marker, dash in zip(runs.values(), cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False):
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 5}
            left.plot(range(1, len(run["loss"]) + 1), list(run["loss"]), **look)
            right.plot(range(len(run["knn"])), list(run["knn"]), **look)
        if baseline is not None:
            left.axhline(baseline, color=INK, linestyle="--", linewidth=1.5, zorder=1)
        decorate(left, title="What is trained: the loss", xlabel="epoch", ylabel="contrastive loss (nats)")
        decorate(right, title="What it is for: the features", xlabel="epochs done", ylabel="kNN accuracy")
        right.yaxis.set_major_formatter(PERCENT)
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.suptitle(titled(title))
        looks = zip(runs, cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False)
        handles = [Line2D([], [], color=c, marker=m, linestyle=d, label=name) for name, c, m, d in looks]
        if baseline is not None:
            handles.append(Line2D([], [], color=INK, linestyle="--", label=f"guessing: {baseline:.2f}"))
        place_legend(figure, handles)
    told = "; ".join(
        f"{name}: loss {run['loss'][0]:.2f} to {run['loss'][-1]:.2f}, kNN accuracy {run['knn'][0]:.1%} to "
        f"{run['knn'][-1]:.1%}"
        for name, run in runs.items()
    )
    figure.alt_text = sentence(title, f"Loss and kNN accuracy over epochs. {told}.")
    return figure


def label_efficiency(results: Mapping[str, Mapping[int, Sequence[float]]], title: str = "") -> Plot:
    """Plot accuracy over the number of labels: a curve for each way to use them.

    Args:
        results: for each way, by name, the accuracies in [0, 1] by the number of labels per class, one for each draw of
            the labels.
        title: title of the plot.

    Returns:
        The figure: mean and standard deviation over the draws, with a logarithmic scale of labels.

    Raises:
        ValueError: there are no results, or none for one number of labels.
    """
    if not results or not all(curve and all(map(len, curve.values())) for curve in results.values()):
        raise ValueError("label_efficiency() needs at least one accuracy for each number of labels")
    numbers = sorted({n for curve in results.values() for n in curve})
    with mpl.rc_context(STYLE):
        figure = Plot(8.6, 5)
        ax = figure.subplots()
        looks = zip(cycle(CYCLE), cycle(MARKERS), cycle(DASHES), strict=False)
        for (name, curve), (colour, marker, dash) in zip(results.items(), looks, strict=False):
            own = sorted(curve)
            means, deviations = ([f(curve[n]) for n in own] for f in (_mean, deviation_of))
            ax.errorbar(own, means, deviations, color=colour, marker=marker, linestyle=dash, capsize=4, label=name)
        ax.set_xscale("log")
        decorate(ax, title=titled(title), xlabel="labels per class (logarithmic scale)", ylabel="accuracy")
        ax.xaxis.set_major_locator(FixedLocator(numbers))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([str(n) for n in numbers])
        ax.yaxis.set_major_formatter(PERCENT)
        place_legend(figure)
    told = "; ".join(
        f"{name}: {', '.join(f'{n} labels {spread_words(curve[n])}' for n in sorted(curve))}"
        for name, curve in results.items()
    )
    figure.alt_text = sentence(title, f"Accuracy by number of labels per class. {told}.")
    return figure


def ablation(results: Mapping[str, tuple[float, float]], baseline: float | None = None, title: str = "") -> Plot:
    """Plot the last loss of several runs next to the accuracy of their features: bars, the lowest loss on top.

    Args:
        results: for each run, by name, its last loss in nats and its kNN accuracy in [0, 1].
        baseline: accuracy of the untrained encoder, shown as a line.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no results.
    """
    if not results:
        raise ValueError("ablation() needs at least one result")
    names = sorted(results, key=lambda name: results[name][0])
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 1.5 + 0.45 * len(names))
        left, right = figure.subplots(1, 2, sharey=True)
        for ax, i, colour, fmt in ((left, 0, ORANGE, "{:.2f}"), (right, 1, BLUE, "{:.1%}")):
            values = [results[name][i] for name in names]
            ax.barh(range(len(names)), values, height=0.65, color=colour)
            for row, value in enumerate(values):
                text = ax.annotate(fmt.format(value), (max(value, 0), row), (4, 0), textcoords="offset points")
                text.set(va="center")
            ax.set_xlim(min(0, *values) * 1.1, max(max(values), baseline or 0 if i else 0) * 1.2)
        decorate(left, title="Last loss (lowest on top)", xlabel="contrastive loss (nats)")
        decorate(right, title="What the features are worth", xlabel="kNN accuracy")
        left.set_yticks(range(len(names)), names)
        left.invert_yaxis()
        right.xaxis.set_major_formatter(PERCENT)
        for ax in (left, right):
            ax.grid(False, axis="y")
        if baseline is not None:
            label = f"untrained encoder: {baseline:.1%}"
            right.axvline(baseline, color=VERMILLION, linestyle="--", linewidth=1.8, label=label)
            figure.legend(loc="outside lower center", frameon=False)
        figure.suptitle(titled(title))
    told = "; ".join(f"{name}: loss {results[name][0]:.2f}, accuracy {results[name][1]:.1%}" for name in names)
    against = "" if baseline is None else f" Untrained encoder: {baseline:.1%}."
    figure.alt_text = sentence(title, f"Runs, from the lowest loss to the highest. {told}.{against}")
    return figure


def spectrum(features: Mapping[str, Tensor], title: str = "") -> Plot:
    """Plot in how many directions features differ: their singular values, from the largest to the smallest.

    Rows are first scaled to length 1, then centred; singular values are divided by the root of the number of images.
    Their squares then add up to 1 minus the squared length of the mean row: to 0 if all images have the same features.

    Args:
        features: for each encoder, by name, float ``(images, dimensions)``.
        title: title of the plot.

    Returns:
        The figure, with a logarithmic scale. Its legend has the effective rank of the features: the exponential of the
        entropy of the singular values' shares (Roy and Vetterli 2007).

    Raises:
        ValueError: there are no features, or fewer than 2 images.
    """
    if not features or min(map(len, features.values())) < 2:
        raise ValueError("spectrum() needs the features of at least 2 images for each encoder")
    told = []
    with mpl.rc_context(STYLE):
        figure = Plot(8, 4.6)
        ax = figure.subplots()
        looks = zip(cycle(CYCLE), cycle(DASHES), strict=False)
        for (name, rows), (colour, dash) in zip(features.items(), looks, strict=False):
            values, rank = _spectrum(rows)
            words = f"{name}: effective rank {rank:.1f} of {rows.shape[1]}, largest {values[0]:.2f}"
            look: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2, "label": words}
            ax.plot(range(1, len(values) + 1), np.maximum(values, SMALLEST), **look)
            told.append(words)
        ax.set_yscale("log")
        ax.set_ylim(top=1)
        decorate(ax, title=titled(title), xlabel="number of the singular value", ylabel="singular value / √images")
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
    figure.alt_text = sentence(title, f"Singular values of the features. {'; '.join(told)}.")
    return figure


def _flat(values: Tensor) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().float().flatten().numpy()


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _spectrum(features: Tensor) -> tuple[np.ndarray, float]:
    """Return the singular values of the centred rows of length 1, divided by √rows, and their effective rank."""
    rows = torch.nn.functional.normalize(features.detach().cpu().double(), dim=1)
    values = torch.linalg.svdvals(rows - rows.mean(0)) / len(rows) ** 0.5
    shares = values / values.sum().clamp(min=TINY)
    return values.numpy(), float(torch.exp(-(shares * shares.clamp(min=TINY).log()).sum()))
