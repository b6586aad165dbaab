"""The plots of self-supervised learning, read back from the figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

from amllab import plots
from amllab.plots.figure import GREEN
from tests.helpers.plots import agg, assert_complete, curve, legend, noise  # noqa: F401  (agg applies to all tests)

RUN = {"loss": [4.5, 4.0], "knn": [0.3, 0.4, 0.5]}

ALL: dict[str, Callable[[], plots.Plot]] = {
    "views": lambda: plots.views({"image": noise(9, 3, 8, 8), "view": noise(9, 3, 8, 8)}, title="a title"),
    "similarities": lambda: plots.similarities({"an encoder": (noise(5), noise(20) - 0.5)}, title="a title"),
    "pretraining": lambda: plots.pretraining({"a": RUN, "b": RUN}, baseline=5.5, title="a title"),
    "label_efficiency": lambda: plots.label_efficiency(
        {"probe": {1: [0.2, 0.3], 10: [0.5, 0.4]}, "scratch": {1: [0.1]}}, title="a title"
    ),
    "ablation": lambda: plots.ablation({"a": (4.0, 0.5), "b": (-0.9, 0.3)}, baseline=0.3, title="a title"),
    "spectrum": lambda: plots.spectrum({"a": noise(9, 4)}, title="a title"),
    "neighbours": lambda: plots.neighbours(
        noise(2, 3, 8, 8), {"a": noise(2, 3, 3, 8, 8)}, {"a": torch.ones(2, 3) > 0}, title="a title"
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_plot_image_title_and_description(name: str) -> None:
    """Every plot has an image, a title with the note, and a description; matplotlib's settings stay."""
    assert_complete(ALL[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.views({}),
        lambda: plots.views({"image": noise(0, 3, 8, 8)}),
        lambda: plots.similarities({}),
        lambda: plots.similarities({"a": (noise(0), noise(3))}),
        lambda: plots.pretraining({}),
        lambda: plots.label_efficiency({}),
        lambda: plots.label_efficiency({"a": {1: []}}),
        lambda: plots.ablation({}),
        lambda: plots.spectrum({"a": noise(1, 4)}),
        lambda: plots.neighbours(noise(0, 3, 8, 8), {"a": noise(0, 3, 3, 8, 8)}, {"a": torch.ones(0, 3) > 0}),
        lambda: plots.neighbours(noise(2, 3, 8, 8), {"a": noise(2, 3, 3, 8, 8)}, {"a": torch.ones(2, 2) > 0}),
    ],
)
def test_plots_without_data(make: Callable[[], plots.Plot]) -> None:
    """A plot without data is an error that names the function."""
    with pytest.raises(ValueError, match=r"\w+\(\) needs"):
        make()


def test_views_show_the_same_images_in_each_row() -> None:
    """Each row shows its own version of the same images, in the same order."""
    first, second = (noise(5, 3, 8, 8) * 255).to(torch.uint8), (noise(5, 3, 8, 8) * 100).to(torch.uint8)
    figure = plots.views({"image": first, "view 1": second}, n=4)
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert len(shown) == 8
    for i, image in enumerate([*first[:4], *second[:4]]):
        assert shown[i] == pytest.approx(image.permute(1, 2, 0).numpy() / 255, abs=1e-6)
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["image", "view 1"]


def test_similarities_have_an_area_of_one_and_their_means() -> None:
    """Positive and negative pairs are comparable although there are many more negative ones."""
    positive, negative = torch.tensor([0.5, 0.9]), torch.linspace(-0.4, 0.4, 101)
    figure = plots.similarities({"before": (positive, negative), "after": (positive, positive)})
    before, after = figure.axes
    for outline in before.patches:
        xy: Any = outline.get_path().vertices  # type: ignore[attr-defined]
        x, y = xy[:, 0], xy[:, 1]
        area = abs(float(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))) / 2
        assert area == pytest.approx(1, rel=1e-3)
    assert [line.get_xdata()[0] for line in before.lines] == pytest.approx([0, 0.7], abs=1e-6)  # type: ignore[index]
    assert before.get_xlim() == after.get_xlim()
    assert "before: positive pairs 0.70 on average, negative pairs 0.00" in figure.alt_text


def test_pretraining_starts_before_the_first_epoch() -> None:
    """The first accuracy is that of the untrained encoder; the first loss is that of the first epoch."""
    figure = plots.pretraining({"a": RUN}, baseline=5.5)
    loss, accuracy = figure.axes
    assert curve(loss, 0) == [(1, 4.5), (2, 4.0)]
    assert curve(accuracy, 0) == [(0, 0.3), (1, 0.4), (2, 0.5)]
    assert legend(figure) == ["a", "guessing: 5.50"]
    assert len(plots.pretraining({"a": RUN}).axes[0].lines) == 1


def test_label_efficiency_means_and_deviations() -> None:
    """Each curve shows mean and standard deviation, sorted by the number of labels."""
    figure = plots.label_efficiency({"probe": {10: [0.5, 0.4], 1: [0.2, 0.3]}, "scratch": {5: [0.1]}})
    (ax,) = figure.axes
    probe, scratch = ax.containers
    (x, y), error = probe[0].get_data(), probe[2][0].get_segments()
    assert x == pytest.approx([1, 10])
    assert y == pytest.approx([0.25, 0.45])
    deviation = math.sqrt(2) * 0.05
    assert np.asarray(error)[:, :, 1] == pytest.approx(
        np.array([[0.25 - deviation, 0.25 + deviation], [0.45 - deviation, 0.45 + deviation]])
    )
    assert scratch[0].get_data()[1] == pytest.approx([0.1])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "5", "10"]
    assert "probe: 1 labels 25.0% ± 7.1, 10 labels 45.0% ± 7.1" in figure.alt_text


def test_ablation_is_sorted_by_loss() -> None:
    """Both plots list the runs from the lowest loss to the highest."""
    figure = plots.ablation({"high": (4.0, 0.5), "low": (-0.9, 0.3), "middle": (3.0, 0.4)}, baseline=0.35)
    loss, accuracy = figure.axes
    bars: list[Any] = [ax.patches for ax in (loss, accuracy)]
    assert [[bar.get_width() for bar in of] for of in bars] == [[-0.9, 3.0, 4.0], [0.3, 0.4, 0.5]]
    assert [tick.get_text() for tick in loss.get_yticklabels()] == ["low", "middle", "high"]
    assert loss.yaxis_inverted()
    assert legend(figure) == ["untrained encoder: 35.0%"]


def test_spectrum_of_collapsed_and_of_spread_features() -> None:
    """Equal features have no singular value above 0; features that use all directions alike have full rank."""
    spread = torch.cat([torch.eye(4), -torch.eye(4)])
    figure = plots.spectrum({"collapsed": torch.ones(6, 4), "all directions": 3 * spread})
    collapsed, even = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines)
    assert collapsed == pytest.approx(1e-5)  # the smallest that is shown
    assert even == pytest.approx(0.5)
    assert legend(figure)[1] == "all directions: effective rank 4.0 of 4, largest 0.50"
    assert "largest 0.00" in legend(figure)[0]


def test_neighbours_are_framed_by_their_class() -> None:
    """Neighbours of the right class have a green frame, others a dotted one."""
    same = torch.tensor([[True, False], [False, False]])
    figure = plots.neighbours(noise(2, 3, 8, 8), {"an encoder": noise(2, 2, 3, 8, 8)}, {"an encoder": same})
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 6
    framed = [ax.spines["left"] for ax in shown if ax.spines["left"].get_visible()]
    green = mpl.colors.to_rgba(GREEN)
    assert [spine.get_edgecolor() == green for spine in framed] == [True, False, False, False]
    assert [spine.get_linestyle() for spine in framed] == ["-", ":", ":", ":"]
    assert "an encoder: 1 of 4 neighbours have the class of their image" in figure.alt_text
