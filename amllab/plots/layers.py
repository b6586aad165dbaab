"""A plot of the layers of a model."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from torch import nn

from amllab.layers import Layer, layers_of
from amllab.plots.figure import BLUE, GREY, ORANGE, STYLE, VERMILLION, Plot, decorate, sentence, titled

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


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
        decorate(
            ax, title=titled(heading), xlabel="parameters (logarithmic scale)", ylabel="layer, from input to output"
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
    figure.alt_text = sentence(heading, f"Layers from input to output: {told}.")
    return figure


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
