"""Plots of the layers of a model: which are frozen, and which are copied to another task."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import nn

from amllab.layers import Layer, layers_of
from amllab.plots.figure import BLUE, GREEN, INK, ORANGE, STYLE, VERMILLION, Plot, decorate, sentence, titled

WORDS = ("frozen", "partly frozen", "trainable")
LOOKS: tuple[dict[str, Any], ...] = (
    {"facecolor": INK + "22", "edgecolor": INK + "66", "hatch": "////"},
    {"facecolor": ORANGE + "33", "edgecolor": ORANGE + "88", "hatch": ".."},
    {"facecolor": BLUE + "30"},
)
BARS = (INK, ORANGE, BLUE)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def frozen(model: nn.Module, title: str = "") -> Plot:
    """Plot which layers of a model are frozen: a bar for each layer, from input to output.

    The length of a bar is the number of parameters. The background of a row says whether its layer is frozen. A diamond
    marks layers with batch normalisation. It is filled if the batch normalisation is in train mode, in which its
    running statistics change with every batch, even if the layer is frozen.

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
    count = f"{states.count(2)} of {len(layers)} layers trainable"
    heading = title or f"{count}: {sum(trainable):,} of {sum(sizes):,} parameters ({sum(trainable) / sum(sizes):.1%})"
    with mpl.rc_context(STYLE):
        figure = Plot(8.6, 1.6 + 0.3 * len(layers))
        ax = figure.subplots()
        for row, (size, state) in enumerate(zip(sizes, states, strict=True)):
            ax.axhspan(row - 0.44, row + 0.44, **LOOKS[state], linewidth=0, zorder=0)
            ax.barh(row, size, height=0.6, color=BARS[state])
            ax.annotate(f"{size:,}", (size, row), (5, 0), textcoords="offset points", va="center", fontsize=10)
        for row, mode in enumerate(norms):
            if mode:
                ax.plot(-0.03 * max(sizes), row, **_diamond(mode))
        ax.set_xlim(-0.06 * max(sizes), 1.16 * max(sizes))
        ax.set_yticks(range(len(layers)), [layer.name for layer in layers])
        ax.invert_yaxis()
        decorate(ax, title=titled(heading), xlabel="parameters", ylabel="layer, from input to output")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.grid(False, axis="y")
        handles: list[Any] = [Patch(**LOOKS[state], label=WORDS[state]) for state in sorted(set(states))]
        handles += [Line2D([], [], **_diamond(mode), linestyle="") for mode in ("train", "eval") if mode in norms]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    told = "; ".join(
        f"{layer.name} {WORDS[state]}, {size:,} parameters" + (f", BatchNorm in {norm} mode" if norm else "")
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
        "markerfacecolor": VERMILLION if moves else "none",
        "label": label,
    }


def transfer(backbone: nn.Module, classes: int, n_trainable: int, title: str = "") -> Plot:
    """Draw what transfer learning does with the layers of a network: copied, frozen, fine-tuned, replaced.

    Args:
        backbone: a pretrained timm model.
        classes: number of classes of the target task.
        n_trainable: number of layers that are trained on it, counted from the head; at least 1.
        title: title of the plot; by default, the number of trainable layers.

    Returns:
        The figure: two rows of layers from left to right, with an arrow for each layer that is copied.

    Raises:
        ValueError: the network has fewer layers, or none is trained.
    """
    names = [layer.name for layer in layers_of(backbone)]
    if not 1 <= n_trainable <= len(names):
        raise ValueError(f"n_trainable must be from 1 to {len(names)}, the number of layers, not {n_trainable}")
    last, source = len(names) - 1, int(backbone.num_classes)  # type: ignore[arg-type]
    first_trainable = len(names) - n_trainable
    heading = title or f"The last {n_trainable} of {len(names)} layers are trained on the target task"
    with mpl.rc_context(STYLE):
        figure = Plot(9.6, 2.9)
        ax = figure.subplots()
        for column in range(len(names)):
            head, state = column == last, 2 if column >= first_trainable else 0
            for y, look, outputs in ((1.0, {"facecolor": GREEN + "40"}, source), (0.0, LOOKS[state], classes)):
                ax.add_patch(Rectangle((column + 0.06, y), 0.88, 0.42, **{"edgecolor": INK, **look}))
                text = f"head\n{outputs}" if head else str(column)
                ax.text(column + 0.5, y + 0.21, text, ha="center", va="center", fontsize=10)
            if not head:
                ax.add_patch(
                    FancyArrowPatch(
                        (column + 0.5, 0.96), (column + 0.5, 0.46), arrowstyle="-|>", mutation_scale=10, color=INK
                    )
                )
        ax.text(last + 0.5, 0.71, "new", ha="center", va="center", fontsize=10)
        for y, text in ((1.21, "source\ntask"), (0.21, "target\ntask")):
            ax.text(-0.15, y, text, ha="right", va="center", fontsize=10)
        ax.set(xlim=(-1.1, len(names)), ylim=(-0.05, 1.5))
        ax.axis("off")
        ax.set_title(titled(heading))
        handles = [
            Patch(facecolor=GREEN + "40", edgecolor=INK, label="pretrained"),
            Line2D([], [], color=INK, marker=r"$\downarrow$", linestyle="", label="weights are copied"),
            Patch(**{"edgecolor": INK, **LOOKS[0]}, label="frozen"),
            Patch(**{"edgecolor": INK, **LOOKS[2]}, label="trainable"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.alt_text = sentence(
        heading,
        f"Layers 0 to {last - 1} are copied from the source task. Layer {last}, the head, is new: {classes} outputs in "
        f"place of {source}. "
        + (f"Layers 0 to {first_trainable - 1} are frozen, " if first_trainable else "No layer is frozen, ")
        + f"layers {first_trainable} to {last} trainable.",
    )
    return figure
