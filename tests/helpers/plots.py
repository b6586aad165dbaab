"""Read figures of :mod:`amllab.plots` back, and what holds for all of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from amllab import plots


@pytest.fixture(autouse=True, scope="module")
def agg() -> Iterator[None]:
    with mpl.rc_context({"backend": "Agg"}):
        yield


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def legend(figure: plots.Plot) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def curve(ax: Axes, line: int) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(ax.lines[line].get_xydata())]


def assert_complete(make: Callable[[], plots.Plot]) -> None:
    """A plot with the title "a title" has an image, the title with the note, and a description; settings stay."""
    before = dict(mpl.rcParams)
    plots.note("quick run")
    try:
        figure = make()
        data, metadata = figure._repr_mimebundle_()
    finally:
        plots.note("")
    assert dict(mpl.rcParams) == before
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width > metadata["image/png"]["width"] > 300
    assert metadata["image/png"]["alt"] == data["text/plain"] == figure.alt_text
    assert figure.alt_text.startswith("a title. quick run. ")
    assert "a title\nquick run" in [figure.get_suptitle().rstrip(), *(ax.get_title() for ax in figure.axes)]
