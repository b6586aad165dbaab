"""Legends that fit into their figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from amllab.plots.figure import Plot

MOST_COLUMNS = 4


def place_legend(figure: Plot, handles: Sequence[Any] | None = None, most: int = MOST_COLUMNS) -> None:
    """Put a legend below a figure, in as many columns as its width allows.

    Args:
        figure: the figure.
        handles: what the legend lists; by default, all labelled curves and bars of the figure.
        most: largest number of columns.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    chosen: dict[str, Any] = {} if handles is None else {"handles": list(handles)}
    for columns in range(most, 0, -1):
        legend = figure.legend(loc="outside lower center", ncols=columns, frameon=False, **chosen)
        if columns == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()
