"""Plots of training runs, freezing and predictions.

Every function returns a :class:`Plot`: a matplotlib figure that a notebook shows when it is the last value of a cell
or is passed to ``display``. Each plot has a description in words for readers who cannot see it. The module does not
use pyplot: nothing is shown twice, and pyplot's settings do not change.

:func:`note` adds a text to the titles and descriptions of all plots.

The colours are those of M. Okabe and K. Ito, *Color Universal Design* (2008), which colour-blind people can
distinguish; line style, marker or hatching convey the same information.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from torch import Tensor, nn

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.layers import Layer, layers_of

History = Mapping[str, Any]

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY = "#666666"
STYLE: dict[Any, Any] = {"font.size": 11, "axes.titlesize": 12, "figure.titlesize": 13, "hatch.linewidth": 0.8}
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
PIXELS_PER_INCH = 144  # of the saved image
SHOWN_PER_INCH = 96  # of the same image on a page: sharp on high-resolution screens
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


_noted = ""


def note(text: str) -> None:
    """Add a text to the titles of all plots from now on, for example that results are from a quick run.

    Args:
        text: a few words; an empty text removes the note.
    """
    global _noted
    _noted = text


def _titled(title: str) -> str:
    return "\n".join(filter(None, (title, _noted)))


class Plot(Figure):
    """A matplotlib figure with a description in words.

    Attributes:
        alt_text: the description; notebooks store it with the image (``metadata["image/png"]["alt"]``) and as its plain
            text.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        self.alt_text = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
        image = b64encode(buffer.getvalue()).decode()
        shown = {"alt": self.alt_text, "width": round(self.get_figwidth() * SHOWN_PER_INCH)}
        return {"image/png": image, "text/plain": self.alt_text}, {"image/png": shown}


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
            _decorate(ax, title=name, xlabel="epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[0].set_ylabel("cross-entropy (nats)")
        axes[1].set_ylabel("accuracy")
        axes[1].yaxis.set_major_formatter(PERCENT)
        figure.suptitle(_titled(title))
        handles = _curve_legend(None if single else list(runs), [_best(run) for run in runs.values()])
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    told = "; ".join(f"{name}: {_curve_words(run)}" if name else _curve_words(run) for name, run in runs.items())
    figure.alt_text = _sentence(title, f"Loss and accuracy over epochs, training and validation. {told}.")
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
    deviations = np.array([_deviation(results[n]) for n in numbers])
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
            markeredgecolor="white",
            zorder=5,
            label=f"highest: {means[best]:.1%} at n_trainable = {numbers[best]}",
        )
        _decorate(ax, title=_titled(title), xlabel="n_trainable (layers, counted from the head)", ylabel="accuracy")
        ax.yaxis.set_major_formatter(PERCENT)
        ax.xaxis.set_major_locator(FixedLocator(numbers) if len(numbers) <= 14 else MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    points = ", ".join(f"{n}: {_spread(results[n])}" for n in numbers)
    against = f" From scratch: {_spread(baseline)}." if baseline is not None and len(baseline) else ""
    figure.alt_text = _sentence(title, f"Accuracy by number of trainable layers: {points}.{against}")
    return figure


def confusion(
    labels: Tensor | Sequence[int], predictions: Tensor | Sequence[int], classes: Sequence[str], title: str = ""
) -> Plot:
    """Plot the confusion matrix: a row per true class, a column per predicted class, counts and percent of the row.

    Args:
        labels: true classes, int ``(n,)``, indices into ``classes``.
        predictions: predicted classes, int ``(n,)``, indices into ``classes``.
        classes: names of the classes.
        title: title of the plot; by default, the accuracy.

    Returns:
        The figure.

    Raises:
        ValueError: a label or prediction is not an index into ``classes``.
    """
    true, predicted = (torch.as_tensor(values).cpu().long().numpy() for values in (labels, predictions))
    k = len(classes)
    if any(len(values) and not 0 <= values.min() <= values.max() < k for values in (true, predicted)):
        raise ValueError(f"labels and predictions must be indices into the {k} classes, from 0 to {k - 1}")
    counts = np.bincount(true * k + predicted, minlength=k * k).reshape(k, k)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    summary = f"{np.trace(counts)} of {counts.sum()} correct"
    if counts.sum():
        summary += f" ({np.trace(counts) / counts.sum():.1%})"
    with mpl.rc_context(STYLE):
        side = min(14.0, max(4.0, 0.95 * k))
        figure = Plot(side + 2.2, side + 0.8)
        figure.set_layout_engine("compressed")  # leaves room for labels next to square cells
        ax = figure.subplots()
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(k, k):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=11 if k <= 12 else 7)
        ax.set_xticks(range(k), classes, rotation=0 if k <= 6 else 45, ha="center" if k <= 6 else "right")
        ax.set_yticks(range(k), classes)
        ax.set_xticks(np.arange(k - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(k - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=2)
        ax.tick_params(which="both", length=0)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="predicted class", ylabel="true class", title=_titled(title or summary))
        bar = figure.colorbar(image, ax=ax, format=PERCENT, label="share of the true class", shrink=0.8)
        bar.outline.set_visible(False)  # type: ignore[operator]
    rows = "; ".join(
        f"{classes[i]}: {', '.join(f'{counts[i, j]} as {classes[j]}' for j in range(k) if counts[i, j])}"
        for i in range(k)
    )
    figure.alt_text = _sentence(title, f"Confusion matrix, {summary}. Predictions by true class: {rows}.")
    return figure


def mistakes(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    classes: Sequence[str],
    n: int = 12,
    *,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show the most confident wrong predictions: image, true class → predicted class, confidence.

    Args:
        images: ``(examples, 3, height, width)``, either normalised float or uint8.
        labels: true classes, int64 ``(examples,)``.
        probabilities: float ``(examples, num_classes)``, as :func:`amllab.predict` returns them.
        classes: names of the classes.
        n: largest number of images to show.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot; by default, the number of mistakes.

    Returns:
        The figure.
    """
    confidence, predicted = torch.as_tensor(probabilities).cpu().max(1)
    labels = torch.as_tensor(labels).cpu()
    wrong = (predicted != labels).nonzero().squeeze(1)
    shown = wrong[confidence[wrong].argsort(descending=True, stable=True)][:n].tolist()
    captions = [f"{classes[int(labels[i])]}\n→ {classes[int(predicted[i])]} {confidence[i]:.0%}" for i in shown]
    count = f"{len(wrong)} mistakes in {len(labels)} images"
    heading = title or (f"{count}; the {len(shown)} most confident" if len(shown) < len(wrong) else count)
    figure = _grid(_pixels(torch.as_tensor(images)[shown], mean, std), captions, heading)
    told = "; ".join(caption.replace("\n→", " predicted as") for caption in captions)
    figure.alt_text = _sentence(heading, f"Images with true class, predicted class and confidence: {told or 'none'}.")
    return figure


def images(
    batch: Tensor,
    labels: Tensor | None = None,
    classes: Sequence[str] | None = None,
    n: int = 16,
    *,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show the first images of a batch, with their classes.

    Args:
        batch: ``(batch, 3, height, width)``, either normalised float or uint8.
        labels: classes, int64 ``(batch,)``; without them, the images have no captions.
        classes: names of the classes; without them, the captions are the labels.
        n: largest number of images to show.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot.

    Returns:
        The figure.
    """
    shown = _pixels(torch.as_tensor(batch)[:n], mean, std)
    captions = [""] * len(shown)
    if labels is not None:
        names = [int(label) for label in torch.as_tensor(labels)[:n]]
        captions = [str(label) if classes is None else classes[label] for label in names]
    figure = _grid(shown, captions, title)
    told = f": {', '.join(captions)}" if labels is not None else ""
    figure.alt_text = _sentence(title, f"{len(shown)} images{told}.")
    return figure


def frozen(model: nn.Module, title: str = "") -> Plot:
    """Plot which layers of a model are frozen: a bar for each layer, from input to output.

    The length of a bar is the number of parameters, on a logarithmic scale. A diamond marks layers with batch
    normalisation. It is filled if the batch normalisation is in train mode, in which its running statistics change
    with every batch, even if the layer is frozen.

    Args:
        model: any timm model.
        title: title of the plot; by default, the number of trainable layers and parameters.

    Returns:
        The figure.

    Raises:
        TypeError: the model does not describe how its layers are grouped; see :func:`amllab.layers_of`.
    """
    layers = layers_of(model)
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    trainable = [sum(p.numel() for p in layer.parameters() if p.requires_grad) for layer in layers]
    states = [2 if free == size else 1 if free else 0 for size, free in zip(sizes, trainable, strict=True)]
    norms = [_norm_mode(layer) for layer in layers]
    looks = (
        {"facecolor": "#D9D9D9", "edgecolor": GREY, "hatch": "////", "label": "frozen"},
        {"facecolor": "#FBE3B0", "edgecolor": ORANGE, "hatch": "..", "label": "partly frozen"},
        {"facecolor": BLUE, "edgecolor": BLUE, "label": "trainable"},
    )
    count = f"{states.count(2)} of {len(layers)} layers trainable"
    heading = title or f"{count}: {sum(trainable):,} of {sum(sizes):,} parameters ({sum(trainable) / sum(sizes):.1%})"
    with mpl.rc_context(STYLE):
        figure = Plot(8.6, 1.6 + 0.3 * len(layers))
        ax = figure.subplots()
        for row, (size, state) in enumerate(zip(sizes, states, strict=True)):
            ax.barh(row, size, height=0.72, **looks[state])  # type: ignore[arg-type]
            ax.annotate(f"{size:,}", (size, row), (5, 0), textcoords="offset points", va="center", fontsize=10)
        ax.set_xscale("log")
        left, right = 10 ** math.floor(math.log10(min(sizes)) - 0.35), max(sizes) * 5
        for row, mode in enumerate(norms):
            if mode:
                ax.plot(left * 1.25, row, **_diamond(mode))
        ax.set_xlim(left, right)
        ax.set_yticks(range(len(layers)), [layer.name for layer in layers])
        ax.invert_yaxis()
        _decorate(
            ax, title=_titled(heading), xlabel="parameters (logarithmic scale)", ylabel="layer, from input to output"
        )
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.grid(False, axis="y")
        handles: list[Any] = [Patch(**looks[state]) for state in sorted(set(states))]  # type: ignore[arg-type]
        handles += [Line2D([], [], **_diamond(mode), linestyle="") for mode in ("train", "eval") if mode in norms]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    words = ("frozen", "partly frozen", "trainable")
    told = "; ".join(
        f"{layer.name} {words[state]}, {size:,} parameters" + (f", BatchNorm in {norm} mode" if norm else "")
        for layer, state, size, norm in zip(layers, states, sizes, norms, strict=True)
    )
    figure.alt_text = _sentence(heading, f"Layers from input to output: {told}.")
    return figure


def _decorate(ax: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.grid(True, color="#DDDDDD", linewidth=0.8)
    ax.tick_params(labelsize=10)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


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
    ax.plot(best, float(history[key][best]), "*", color=colour, markersize=14, markeredgecolor="white", zorder=5)


def _curve_legend(names: list[str] | None, bests: list[int | None]) -> list[Line2D]:
    """Return the legend entries: the two curves of a single run, or the colours of several runs and the line styles."""
    first, second = (ORANGE, BLUE) if names is None else (GREY, GREY)
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


def _deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1%}" + (f" ± {100 * _deviation(values):.1f}" if len(values) > 1 else "")


def _band(ax: Axes, baseline: Sequence[float]) -> None:
    mean, deviation = float(np.mean(baseline)), _deviation(baseline)
    ax.axhline(mean, color=GREY, linestyle="--", linewidth=1.5, label=f"from scratch: {_spread(baseline)}", zorder=1)
    ax.axhspan(mean - deviation, mean + deviation, color=GREY, alpha=0.18, linewidth=0, zorder=0)


def _norm_mode(layer: Layer) -> str:
    """Return ``"train"`` if the layer's running statistics change, ``"eval"`` if not, and "" if it has none."""
    norms = [m for m in layer.modules() if isinstance(m, BATCH_NORMS) and m.track_running_stats]
    if not norms:
        return ""
    return "train" if any(norm.training for norm in norms) else "eval"


def _diamond(mode: str) -> dict[str, Any]:
    moves = mode == "train"
    label = "BatchNorm in train mode: statistics change" if moves else "BatchNorm in eval mode: statistics fixed"
    return {
        "marker": "D",
        "markersize": 7,
        "color": VERMILLION,
        "markerfacecolor": VERMILLION if moves else "white",
        "label": label,
    }


def _pixels(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Convert images ``(n, 3, h, w)``, uint8 or normalised, to ``(n, h, w, 3)`` with values in [0, 1]."""
    batch = batch.detach().cpu()
    if batch.dtype == torch.uint8:
        pixels = batch.float() / 255
    else:
        m, s = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))
        pixels = batch.float() * s + m
    return pixels.clamp(0, 1).nan_to_num(0).permute(0, 2, 3, 1).numpy()


def _grid(pixels: np.ndarray, captions: Sequence[str], title: str, columns: int = 8) -> Plot:
    """Plot images in rows, each with a caption."""
    count = len(pixels)
    # rows of equal length if possible: 12 images are 2 rows of 6
    rows = max(1, math.ceil(count / columns))
    columns = max(1, math.ceil(count / rows))
    title = _titled(title)
    lines = max((1 + caption.count("\n") for caption in captions if caption), default=0)
    with mpl.rc_context(STYLE):
        figure = Plot(
            max(1.3 * columns, 4.5), rows * (1.3 + 0.2 * lines) + 0.25 * len(title.splitlines()) + 0.15 * bool(title)
        )
        for place, (image, caption) in enumerate(zip(pixels, captions, strict=True), start=1):
            ax = figure.add_subplot(rows, columns, place)
            ax.imshow(image, interpolation="nearest")
            ax.set_title(caption, fontsize=10)
            ax.axis("off")
        figure.suptitle(title)
    return figure


def _sentence(title: str, text: str) -> str:
    return ". ".join(filter(None, (title, _noted, text)))
