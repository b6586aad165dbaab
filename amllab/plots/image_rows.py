"""Plots of images in rows: several views of the same images, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.plots.figure import GREEN, STYLE, VERMILLION, Plot, sentence, titled
from amllab.plots.predictions import to_pixels


def views(
    rows: Mapping[str, Tensor],
    n: int = 8,
    *,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show the same images in several versions: a row for each version, a column for each image.

    Args:
        rows: for each version, by name, the images ``(images, 3, height, width)`` in the same order, either normalised
            float or uint8.
        n: largest number of images to show.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot.

    Returns:
        The figure.

    Raises:
        ValueError: there are no rows, or no images.
    """
    columns = min([n, *map(len, rows.values())]) if rows else 0
    if columns < 1:
        raise ValueError("views() needs at least one row with at least one image")
    pixels = {name: to_pixels(torch.as_tensor(batch)[:columns], mean, std) for name, batch in rows.items()}
    heading = titled(title)
    with mpl.rc_context(STYLE):
        figure = Plot(1.15 * columns + 1.1, 1.15 * len(rows) + 0.3 * len(heading.splitlines()))
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for line, (name, images) in zip(axes, pixels.items(), strict=True):
            for ax, image in zip(line, images, strict=True):
                _show(ax, image)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        figure.suptitle(heading)
    told = f"{columns} images, a column each, in {len(rows)} rows: {', '.join(rows)}."
    figure.alt_text = sentence(title, told)
    return figure


def neighbours(
    queries: Tensor,
    found: Mapping[str, Tensor],
    same: Mapping[str, Tensor],
    *,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    title: str = "",
) -> Plot:
    """Show images and their nearest neighbours, each neighbour framed and marked by whether its class is the same.

    Args:
        queries: images ``(n, 3, height, width)``, either normalised float or uint8.
        found: for each encoder, by name, the nearest neighbours ``(n, k, 3, height, width)``, the nearest first.
        same: for each encoder, by the same name, bool ``(n, k)``: whether a neighbour has the class of its query.
        mean: channel means with which the images were normalised.
        std: channel standard deviations with which the images were normalised.
        title: title of the plot.

    Returns:
        The figure: a row for each image, a block of columns for each encoder.

    Raises:
        ValueError: there are no images or encoders, or ``same`` does not belong to ``found``.
    """
    if not found or len(queries) == 0 or any(same[name].shape != images.shape[:2] for name, images in found.items()):
        raise ValueError("neighbours() needs images, and for each encoder their neighbours and a mark for each of them")
    n, blocks = len(queries), list(found)
    widths = [1.0]
    for name in blocks:
        widths += [0.25] + [1.0] * found[name].shape[1]
    heading = titled(title)
    with mpl.rc_context(STYLE):
        figure = Plot(0.82 * sum(widths) + 0.3, 0.82 * n + 0.7 + 0.3 * len(heading.splitlines()))
        axes = figure.subplots(n, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
        for row, image in enumerate(to_pixels(queries, mean, std)):
            _show(axes[row, 0], image)
        axes[0, 0].set_title("image", fontsize=11)
        column = 1
        for name in blocks:
            for ax in axes[:, column]:
                ax.axis("off")
            k = found[name].shape[1]
            pixels = to_pixels(found[name].flatten(0, 1), mean, std).reshape(n, k, *queries.shape[-2:], 3)
            for row, place in np.ndindex(n, k):
                _show(axes[row, column + 1 + place], pixels[row, place], right=bool(same[name][row, place]))
            look: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 6), "textcoords": "offset points"}
            # spans several columns, so that it must not widen the first of them
            axes[0, column + 1].annotate(name, (0, 1), fontsize=11, **look).set_in_layout(False)
            column += 1 + k
        figure.suptitle(heading)
        looks: list[Any] = [
            Patch(facecolor="none", edgecolor=GREEN, linewidth=2.5, label="same class"),
            Patch(facecolor="none", edgecolor=VERMILLION, linewidth=2.5, linestyle=":", label="another class"),
        ]
        figure.legend(handles=looks, loc="outside lower center", ncols=2, frameon=False)
    told = "; ".join(
        f"{name}: {int(same[name].sum())} of {same[name].numel()} neighbours have the class of their image"
        for name in blocks
    )
    figure.alt_text = sentence(title, f"{n} images with their nearest neighbours. {told}.")
    return figure


def _show(ax: Axes, image: np.ndarray, *, right: bool | None = None) -> None:
    """Show an image without ticks; with a frame if it is right (solid, green) or wrong (dotted, vermillion)."""
    ax.imshow(image, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(right is not None)
    if right is not None:
        ax.spines[:].set(color=GREEN if right else VERMILLION, linewidth=2.5, linestyle="-" if right else ":")
