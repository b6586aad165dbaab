"""The plots of meta-learning, read back from the figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from amllab import Episode, Interval, plots
from tests.helpers.plots import agg, assert_complete, curve, legend, noise  # noqa: F401  (agg applies to all tests)


def names(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


LOW, HIGH = Interval(0.3, 0.01), Interval(0.5, 0.02)
RUN: dict[str, list[float]] = {"step": [10, 20], "loss": [1.5, 1.0], "evaluation": [0.2, 0.4, 0.5]}
EPISODE = Episode(
    noise(4, 3, 8, 8), torch.tensor([1, 0, 1, 0]), noise(6, 3, 8, 8) / 2, torch.tensor([0, 0, 0, 1, 1, 0])
)
TASK = Episode(*noise(2, 3, 1), *noise(2, 9, 1))
FIT = {0: noise(9, 1), 5: TASK.query_labels}

ALL: dict[str, Callable[[], plots.Plot]] = {
    "episode": lambda: plots.episode(EPISODE, title="a title"),
    "intervals": lambda: plots.intervals({"a": (LOW, HIGH), "b": (HIGH, HIGH)}, chance=0.2, title="a title"),
    "meta_training": lambda: plots.meta_training({"a": RUN, "b": RUN}, chance=0.2, title="a title"),
    "class_numbers": lambda: plots.class_numbers({8: (LOW, LOW), 64: (LOW, HIGH)}, title="a title"),
    "adaptation": lambda: plots.adaptation({"a": {0: LOW, 5: HIGH}}, title="a title"),
    "sinusoid_fits": lambda: plots.sinusoid_fits(TASK, {"a": FIT}, title="a title"),
}


@pytest.mark.parametrize("name", ALL)
def test_plot_image_title_and_description(name: str) -> None:
    """Every plot has an image, a title with the note, and a description; matplotlib's settings stay."""
    assert_complete(ALL[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.episode(EPISODE._replace(query=noise(0, 3, 8, 8))),
        lambda: plots.episode(TASK),
        lambda: plots.intervals({}),
        lambda: plots.intervals({"a": {}}),
        lambda: plots.meta_training({}),
        lambda: plots.meta_training({"a": {"step": [1], "loss": [1.0]}}),
        lambda: plots.class_numbers({}),
        lambda: plots.adaptation({}),
        lambda: plots.adaptation({"a": {}}),
        lambda: plots.sinusoid_fits(TASK, {}),
        lambda: plots.sinusoid_fits(TASK, {"a": {}}),
        lambda: plots.sinusoid_fits(TASK, {"a": {0: noise(8, 1)}}),
    ],
)
def test_plots_without_data(make: Callable[[], plots.Plot]) -> None:
    """A plot without data is an error that names the function."""
    with pytest.raises(ValueError, match=r"\w+\(\) needs"):
        make()


LONG = [f"a method with a name that is rather long, number {i}" for i in range(5)]


@pytest.mark.parametrize(
    "make",
    [
        *ALL.values(),
        lambda: plots.meta_training(dict.fromkeys(LONG, RUN), chance=0.2),
        lambda: plots.adaptation({name: {0: LOW, 5: HIGH} for name in LONG}),
        lambda: plots.intervals({"a": dict.fromkeys(LONG, LOW)}, chance=0.2),
        lambda: plots.sinusoid_fits(TASK, {"a": dict.fromkeys([0, 1, 5, 10, 50, 100], noise(9, 1))}),
        lambda: plots.label_efficiency({name: {1: [0.5]} for name in LONG[:4]}),
        lambda: plots.similarities({"a": (noise(5), noise(5))}),
        lambda: plots.pretraining({name: {"loss": [1.0], "knn": [0.1, 0.2]} for name in LONG}, baseline=5.0),
    ],
)
def test_legends_are_whole(make: Callable[[], plots.Plot]) -> None:
    """Legends and titles lie within the figure, and no text of a legend covers another."""
    figure = make()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    for box in figure.legends:
        extent = box.get_window_extent(renderer)
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width
        assert extent.y0 >= 0
        places = [text.get_window_extent(renderer) for text in box.get_texts()]
        assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


def test_legends_use_the_width() -> None:
    """Short entries stand side by side, at most four in a row."""
    figure = plots.adaptation({name: {0: LOW} for name in "abcde"})
    FigureCanvasAgg(figure).draw()
    rows = {round(text.get_window_extent().y0) for text in figure.legends[0].get_texts()}
    assert len(rows) == 2


def test_episode_shows_images_by_class() -> None:
    """A row has the support images of its class on the left, then the query images, up to the given numbers."""
    figure = plots.episode(EPISODE, n_support=2, n_query=3, mean=(0, 0, 0), std=(1, 1, 1))
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
    wanted = [*EPISODE.support[[1, 3]], *EPISODE.query[[0, 1, 2]], *EPISODE.support[[0, 2]], *EPISODE.query[[3, 4]]]
    assert len(shown) == len(wanted)
    for found, image in zip(shown, wanted, strict=True):
        assert found == pytest.approx(image.permute(1, 2, 0).numpy(), abs=1e-6)
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["label 0", "label 1"]
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert said == ["support set", "query set"]
    assert "2 classes, a row each: 4 support images and 6 query images" in figure.alt_text


def test_intervals_of_one_and_of_several_kinds() -> None:
    """Bars have the lengths of the means, error bars those of the intervals, and numbers say both."""
    figure = plots.intervals({"first": (LOW, HIGH), "second": {"5-shot": LOW}}, chance=0.2)
    (ax,) = figure.axes
    assert names(ax) == ["first", "second"]
    assert ax.yaxis_inverted()
    bars: Any = ax.patches
    assert [bar.get_width() for bar in bars] == [0.3, 0.5, 0.3]
    heights = [bar.get_y() + bar.get_height() / 2 for bar in bars]
    assert heights == pytest.approx([-0.2, 0.2, 1.2])
    errors: Any = [
        segment
        for container in ax.containers
        if hasattr(container, "has_xerr")
        for segment in container[2][0].get_segments()
    ]
    ends = np.array([np.asarray(segment)[:, 0] for segment in errors])
    assert ends == pytest.approx(np.array([[0.29, 0.31], [0.48, 0.52], [0.29, 0.31]]))
    assert [text.get_text() for text in ax.texts] == ["30.0 ± 1.0 %", "50.0 ± 2.0 %", "30.0 ± 1.0 %"]
    assert legend(figure) == ["1-shot", "5-shot", "guessing: 20%"]
    assert (
        "first: 1-shot 30.0 ± 1.0 %, 5-shot 50.0 ± 2.0 %; second: 5-shot 30.0 ± 1.0 %. Guessing: 20%."
        in figure.alt_text
    )
    assert not plots.intervals({"only": LOW}).legends
    assert max(plots.intervals({"all": Interval(1.0, 0.0)}).axes[0].get_xticks()) == 1
    assert plots.intervals({"none": Interval(0.0, 0.0), "broken": Interval(math.nan, math.nan)}).axes


def test_meta_training_starts_before_the_first_step() -> None:
    """Losses stand at the end of their steps; evaluations start before the training."""
    figure = plots.meta_training({"a": RUN}, chance=0.2)
    loss, evaluation = figure.axes
    assert curve(loss, 0) == [(10, 1.5), (20, 1.0)]
    assert curve(evaluation, 0) == [(0, 0.2), (10, 0.4), (20, 0.5)]
    assert legend(figure) == ["a", "guessing: 20.0%"]
    assert loss.get_xlim() == evaluation.get_xlim()
    assert "a: loss 1.50 to 1.00, accuracy on validation classes 20.0% to 50.0%" in figure.alt_text
    errors = plots.meta_training({"a": {**RUN, "loss": [1.5, math.nan]}}, ylabel="error", percent=False)
    assert errors.axes[1].get_ylabel() == "error"
    assert "error 0.20 to 0.50" in errors.alt_text


def test_class_numbers() -> None:
    """A curve for each kind, sorted by the number of classes."""
    figure = plots.class_numbers({64: (LOW, HIGH), 8: (LOW, LOW)})
    (ax,) = figure.axes
    one, five = ax.containers
    assert one[0].get_data()[0] == pytest.approx([8, 64])
    assert five[0].get_data()[1] == pytest.approx([0.3, 0.5])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["8", "64"]
    assert legend(figure) == ["1-shot", "5-shot"]
    assert "5-shot: 8 classes 30.0 ± 1.0 %, 64 classes 50.0 ± 2.0 %" in figure.alt_text
    assert not plots.class_numbers({8: LOW}).legends


def test_adaptation() -> None:
    """Curves over steps with their intervals; numbers that are not finite leave gaps."""
    figure = plots.adaptation(
        {"MAML": {5: Interval(1.5, 0.2), 0: Interval(3.0, 0.5)}, "b": {0: Interval(math.inf, math.nan)}}
    )
    (ax,) = figure.axes
    first, second = ax.containers
    assert first[0].get_data() == (pytest.approx([0, 5]), pytest.approx([3.0, 1.5]))
    assert np.asarray(first[2][0].get_segments())[:, :, 1] == pytest.approx(np.array([[2.5, 3.5], [1.3, 1.7]]))
    assert np.isnan(np.asarray(second[0].get_data()[1], float)).all()
    assert list(ax.get_xticks()) == [0, 5]
    assert "MAML: 0 steps 3.00 ± 0.50, 5 steps 1.50 ± 0.20" in figure.alt_text
    share = plots.adaptation({"a": {0: LOW}}, ylabel="accuracy", percent=True)
    assert "accuracy by steps of adaptation. a: 0 steps 30.0 ± 1.0 %" in share.alt_text
    assert plots.adaptation({"a": {0: LOW}}, log=True).axes[0].get_yscale() == "log"


def test_sinusoid_fits() -> None:
    """Curves run from left to right through the query points; support points are dots; panels share their scale."""
    figure = plots.sinusoid_fits(TASK, {"one": FIT, "two": {0: 100 * noise(9, 1)}})
    one, two = figure.axes
    points = sorted(zip(TASK.query.flatten().tolist(), TASK.query_labels.flatten().tolist(), strict=True))
    assert np.array(curve(one, 0)) == pytest.approx(np.array(points))
    fitted = sorted(zip(TASK.query.flatten().tolist(), FIT[0].flatten().tolist(), strict=True))
    assert np.array(curve(one, 1)) == pytest.approx(np.array(fitted))
    assert curve(one, 2) == curve(one, 0)
    known = [*zip(TASK.support.flatten().tolist(), TASK.support_labels.flatten().tolist(), strict=True)]
    assert np.array(curve(one, 3)) == pytest.approx(np.array(known))
    assert one.get_ylim() == two.get_ylim()
    assert one.get_ylim()[1] < 2
    assert legend(figure) == ["the sinusoid", "support points", "before", "5 steps"]
    assert "one: 0 steps " in figure.alt_text
    assert "5 steps 0.00" in figure.alt_text
