"""Plots of predictions and images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.plots.figure import PERCENT, STYLE, Plot, sentence, titled

GAP = 1  # pixels between the images of a gallery


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
        ax.set(xlabel="predicted class", ylabel="true class", title=titled(title or summary))
        bar = figure.colorbar(image, ax=ax, format=PERCENT, label="share of the true class", shrink=0.8)
        bar.outline.set_visible(False)
    rows = "; ".join(
        f"{classes[i]}: {', '.join(f'{counts[i, j]} as {classes[j]}' for j in range(k) if counts[i, j])}"
        for i in range(k)
    )
    figure.alt_text = sentence(title, f"Confusion matrix, {summary}. Predictions by true class: {rows}.")
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
    figure = _grid(to_pixels(torch.as_tensor(images)[shown], mean, std), captions, heading)
    told = "; ".join(caption.replace("\n→", " predicted as") for caption in captions)
    figure.alt_text = sentence(heading, f"Images with true class, predicted class and confidence: {told or 'none'}.")
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
    shown = to_pixels(torch.as_tensor(batch)[:n], mean, std)
    captions = [""] * len(shown)
    if labels is not None:
        names = [int(label) for label in torch.as_tensor(labels)[:n]]
        captions = [str(label) if classes is None else classes[label] for label in names]
    figure = _grid(shown, captions, title)
    told = f": {', '.join(captions)}" if labels is not None else ""
    figure.alt_text = sentence(title, f"{len(shown)} images{told}.")
    return figure


def gallery(
    batch: Tensor,
    labels: Tensor,
    classes: Sequence[str] | None = None,
    n: int = 10,
    *,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show the first images of each class, one row for each class.

    Args:
        batch: ``(batch, 3, height, width)``, either normalised float or uint8.
        labels: classes, int64 ``(batch,)``.
        classes: names of the classes; without them, the rows are named by their labels.
        n: largest number of images of a class to show.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no images.
    """
    labels = torch.as_tensor(labels).cpu()
    if not len(labels):
        raise ValueError("gallery() needs at least one image")
    rows = {int(label): (labels == label).nonzero().squeeze(1)[:n] for label in labels.unique()}
    names = [str(label) if classes is None else classes[label] for label in rows]
    columns = max(map(len, rows.values()))
    high, wide = batch.shape[2] + GAP, batch.shape[3] + GAP
    canvas = np.ones((len(rows) * high - GAP, columns * wide - GAP, 3), np.float32)
    for row, index in enumerate(rows.values()):
        for column, image in enumerate(to_pixels(torch.as_tensor(batch)[index], mean, std)):
            canvas[row * high :, column * wide :][: high - GAP, : wide - GAP] = image
    with mpl.rc_context(STYLE):
        figure = Plot(
            max(0.6 * columns + 1.4, 4.5), 0.6 * len(rows) * high / wide + 0.3 * len(titled(title).splitlines())
        )
        figure.set_layout_engine("compressed")
        ax = figure.subplots()
        ax.imshow(canvas, interpolation="nearest")
        ax.set_yticks([row * high + (high - GAP) / 2 - 0.5 for row in range(len(rows))], names, fontsize=10)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        figure.suptitle(titled(title))
    told = ", ".join(f"{len(index)} of {name}" for name, index in zip(names, rows.values(), strict=True))
    figure.alt_text = sentence(title, f"Images, a row for each class: {told}.")
    return figure


def to_pixels(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Convert images ``(n, 3, h, w)``, uint8 or normalised, to ``(n, h, w, 3)`` with values in [0, 1]."""
    batch = batch.detach().cpu()
    if batch.dtype == torch.uint8:
        pixels = batch.float() / 255
    else:
        m, s = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))
        pixels = batch.float() * s + m
    return pixels.clamp(0, 1).nan_to_num(0).permute(0, 2, 3, 1).numpy()


def _grid(pixels: np.ndarray, captions: Sequence[str], title: str) -> Plot:
    """Plot images in rows, each with a caption."""
    count = len(pixels)
    # rows of equal length if possible: 12 images are 2 rows of 6
    rows = max(1, math.ceil(count / 8))
    columns = max(1, math.ceil(count / rows))
    title = titled(title)
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
