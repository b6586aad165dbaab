"""The figure that all plots are made of, its colours and its style."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# of text and lines: plots have no background, and this grey has a contrast of 4.6 to white and of 4.1 to the dark theme
# of JupyterLab (#111111)
INK = "#757575"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
FAINT = "#80808050"  # of a grid: half transparent, for any background
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "figure.titlesize": 13,
    "hatch.linewidth": 0.8,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
PIXELS_PER_INCH = 144  # of the saved image
SHOWN_PER_INCH = 96  # of the same image on a page: sharp on high-resolution screens
DESCRIPTION = '<details style="color:#757575"><summary>Description</summary>{}</details>'


_noted = ""


def note(text: str) -> None:
    """Add a text to the titles of all plots from now on, for example that results are from a quick run.

    Args:
        text: a few words; an empty text removes the note.
    """
    global _noted
    _noted = text


def titled(title: str) -> str:
    """Return a title with the note of :func:`note` below it."""
    return "\n".join(filter(None, (title, _noted)))


class Plot(Figure):
    """A matplotlib figure without background, for light and dark themes, with a description in words.

    A notebook shows the image, and below it the description, which opens with a click: JupyterLab gives images no
    alternative text.

    Attributes:
        alt_text: the description; notebooks also store it with the image (``metadata["image/png"]["alt"]``) and as its
            plain text.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="none")
        self.alt_text = ""

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        data, metadata = self._repr_mimebundle_()
        publish_display_data(data, metadata)
        if self.alt_text:
            publish_display_data({"text/html": DESCRIPTION.format(escape(self.alt_text)), "text/plain": ""})

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
        image = b64encode(buffer.getvalue()).decode()
        shown = {"alt": self.alt_text, "width": round(self.get_figwidth() * SHOWN_PER_INCH)}
        return {"image/png": image, "text/plain": self.alt_text}, {"image/png": shown}


def decorate(ax: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Set title and labels of axes, and give them the style that all plots share."""
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.grid(True, color=FAINT, linewidth=0.8)
    ax.tick_params(labelsize=10)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def sentence(title: str, text: str) -> str:
    """Return the alternative text of a plot: its title, the note of :func:`note`, and a description."""
    return ". ".join(filter(None, (title, _noted, text)))


def deviation_of(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def spread_words(values: Sequence[float]) -> str:
    """Return the mean of shares in percent, with the standard deviation if there are several."""
    return f"{np.mean(values):.1%}" + (f" ± {100 * deviation_of(values):.1f}" if len(values) > 1 else "")
