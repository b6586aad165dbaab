"""The plots of distillation, read back from the figures."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from torch import Tensor

from amllab import plots
from tests.helpers.plots import agg, assert_complete, legend, noise  # noqa: F401  (agg applies to all tests)


def bars(ax: Axes) -> list[float]:
    return [round(float(patch.get_width()), 6) for patch in ax.patches]  # type: ignore[attr-defined]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def drawn(figure: plots.Plot) -> Iterator[Text]:
    """Yield the texts that a figure shows; its axes also have labels of ticks outside of their limits."""
    yield from figure.texts
    for box in figure.legends:
        yield from box.get_texts()
    for ax in filter(lambda ax: ax.get_visible(), figure.axes):
        yield from (text for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts) if text.get_text())
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = (tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)
            yield from (label for label in labels if label.get_visible() and label.get_text())


CLASSES = ("ant", "bee", "cow")
ANSWERS = {1: torch.tensor([0.7, 0.2, 0.1]), 10: torch.tensor([0.4, 0.35, 0.25])}
RUN = (8 * noise(100, 3), torch.arange(100) % 3)
FIGURES = {"accuracy": 0.5, "ece": 0.04}
WIDE = {"accuracy": 1.0, "ece": 0.999}
LONG = [f"a student with a name that is rather long, number {i}" for i in range(5)]
PICTURE = (255 * noise(3, 8, 8)).to(torch.uint8)


def zero(logits: Tensor, labels: Tensor) -> float:
    return 0.0


ALL: dict[str, Callable[[], plots.Plot]] = {
    "soft_labels": lambda: plots.soft_labels(PICTURE, ANSWERS, CLASSES, label=1, title="a title"),
    "reliability": lambda: plots.reliability({"a": RUN, "b": RUN}, zero, title="a title"),
    "students": lambda: plots.students({"a": FIGURES, "b": FIGURES}, FIGURES, title="a title"),
    "patience": lambda: plots.patience({"a": {300: 0.4, 900: 0.5}, "b": {300: 0.3}}, teacher=0.9, title="a title"),
}


@pytest.mark.parametrize("name", ALL)
def test_image_title_and_description(name: str) -> None:
    """Every plot has an image, a title with the note, and a description; matplotlib's settings stay."""
    assert_complete(ALL[name])


@pytest.mark.parametrize(
    "make",
    [
        *ALL.values(),
        lambda: plots.soft_labels(
            PICTURE, dict.fromkeys((1, 2, 4, 10), noise(10)), [f"automobile {i}" for i in range(10)]
        ),
        lambda: plots.soft_labels(PICTURE, {1: torch.tensor([1.0, 0.0, 0.0])}, CLASSES),
        *(lambda n=n: plots.reliability(dict.fromkeys(LONG[:n], RUN), zero, title="a title") for n in range(1, 6)),
        lambda: plots.students(dict.fromkeys(LONG, WIDE), {"accuracy": 1.0, "ece": 0.0}),
        lambda: plots.patience({name: {1: 0.1, 10: 0.2} for name in LONG}, teacher=1.0),
    ],
)
def test_texts_are_whole(make: Callable[[], plots.Plot]) -> None:
    """All texts lie within the figure, and none covers another."""
    figure = make()
    figure.savefig(io.BytesIO(), dpi=figure.dpi)  # lays it out as for the image
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    places = []
    for text in drawn(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text
        places.append((text, box.shrunk(0.9, 0.8)))
    assert len(places) > 5
    assert [(a, b) for (a, at), (b, other) in itertools.combinations(places, 2) if at.overlaps(other)] == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: plots.soft_labels(PICTURE, {}, CLASSES), r"soft_labels\(\) needs"),
        (lambda: plots.soft_labels(PICTURE, {1: torch.ones(4)}, CLASSES), r"soft_labels\(\) needs .*\(3,\)"),
        (lambda: plots.soft_labels(noise(1, 3, 8, 8), ANSWERS, CLASSES), r"shows one image .*\(1, 3, 8, 8\)"),
        (lambda: plots.reliability({}), r"reliability\(\) needs"),
        (lambda: plots.reliability({"a": (noise(0, 3), noise(0).long())}), r"reliability\(\) needs"),
        (lambda: plots.reliability({"a": (noise(4, 3), torch.arange(3))}), r"reliability\(\) needs"),
        (lambda: plots.reliability({"a": RUN}, groups=0), "groups must be at least 1"),
        (lambda: plots.students({}), r"students\(\) needs"),
        (lambda: plots.students({"a": {"accuracy": 0.5}}), r"students\(\) needs"),
        (lambda: plots.students({"a": FIGURES}, {"ece": 0.1}), r"students\(\) needs"),
        (lambda: plots.patience({}), r"patience\(\) needs"),
        (lambda: plots.patience({"a": {}, "b": {1: 0.5}}), r"patience\(\) needs"),
        (lambda: plots.patience({"a": {0: 0.5}}), r"patience\(\) needs"),
    ],
)
def test_plots_without_data(make: Callable[[], plots.Plot], words: str) -> None:
    """Missing or bad data is an error that names the function or the argument."""
    with pytest.raises(ValueError, match=words):
        make()


def test_soft_labels() -> None:
    """There is a panel for each temperature, with a bar for each class; the true class is marked."""
    figure = plots.soft_labels(PICTURE, ANSWERS, CLASSES, label=1)
    image, first, second = figure.axes
    assert np.asarray(image.images[0].get_array()).shape == (8, 8, 3)
    assert [ax.get_title() for ax in (first, second)] == ["T = 1", "T = 10"]
    assert bars(first) == [0.7, 0.2, 0.1]
    assert texts(second) == ["40.0%", "35.0%", "25.0%"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["ant", "bee (true)", "cow"]
    colours = [patch.get_facecolor() for patch in first.patches]
    assert colours[0] == colours[2] != colours[1]
    assert "T = 10: ant 40.0%, bee (true) 35.0%, cow 25.0%" in figure.alt_text


def test_reliability() -> None:
    """Points are means of groups with equally many images, sorted by the probability of the chosen class."""
    sure = torch.linspace(0.55, 0.95, 8).repeat_interleave(5)
    right = torch.arange(40) % 5 < 3
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    logits = torch.stack([sure, 1 - sure], 1).log()[order]
    labels = torch.where(right, 0, 1)[order]
    asked = []

    def ece(logits: Tensor, labels: Tensor) -> Tensor:
        asked.append((logits, labels))
        return torch.tensor(0.25)

    figure = plots.reliability({"net": (logits, labels)}, ece, groups=4)
    (ax,) = figure.axes
    points = np.asarray(ax.lines[1].get_xydata())
    expected = [float(part.mean()) for part in sure.tensor_split(4)]
    assert points[:, 0].tolist() == pytest.approx(expected)
    assert points[:, 1].tolist() == pytest.approx([0.6] * 4)
    assert np.asarray(ax.lines[0].get_xydata()).tolist() == [[0, 0], [1, 1]]
    assert ax.get_title() == "net\ncalibration error 0.250"
    assert asked[0][0] is logits
    assert asked[0][1] is labels
    assert "net, calibration error 0.250: 58% sure and 60% right" in figure.alt_text


def test_reliability_of_few_images_and_of_many_models() -> None:
    """There are at most as many points as images; panels are arranged in rows, and each column has its own scale."""
    few = (noise(3, 4), torch.arange(3))
    figure = plots.reliability(dict.fromkeys("abcd", few))
    assert [ax.get_visible() for ax in figure.axes] == [True] * 4 + [False] * 2
    assert len(np.asarray(figure.axes[0].lines[1].get_xydata())) == 3
    assert [ax.get_title() for ax in figure.axes[:4]] == list("abcd")
    labelled = [bool(ax.get_xlabel()) for ax in figure.axes[:4]]
    assert labelled == [False, True, True, True]


def test_students() -> None:
    """Both panels have the students in their order, and a line for the teacher."""
    results = {"few labels": {"accuracy": 0.3, "ece": 0.4}, "teacher's answers": {"accuracy": 0.6, "ece": 0.05}}
    figure = plots.students(results, {"accuracy": 0.9, "ece": 0.02})
    left, right = figure.axes
    assert bars(left) == [0.3, 0.6]
    assert bars(right) == [0.4, 0.05]
    assert texts(left) == ["30.0%", "60.0%"]
    assert texts(right) == ["0.400", "0.050"]
    assert [tick.get_text() for tick in left.get_yticklabels()] == list(results)
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first on top
    assert [float(ax.lines[0].get_xdata()[0]) for ax in (left, right)] == [0.9, 0.02]  # type: ignore[index, arg-type]
    assert legend(figure) == ["teacher: accuracy 90.0%, calibration error 0.020"]
    assert "teacher's answers: accuracy 60.0%, calibration error 0.050" in figure.alt_text


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_students_without_a_number(value: float) -> None:
    """Zeros and values that are no numbers leave a plot that can be drawn, and are shown as they are."""
    figure = plots.students({"a": {"accuracy": value, "ece": value}})
    FigureCanvasAgg(figure).draw()
    assert texts(figure.axes[1]) == [f"{value:.3f}"]
    assert not figure.legends


def test_patience() -> None:
    """Each curve is in the order of its steps, on a logarithmic scale that names all numbers of steps."""
    figure = plots.patience({"labels": {900: 0.6, 300: 0.5}, "teacher's answers": {2700: 0.8}}, teacher=0.9)
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    assert np.asarray(ax.lines[0].get_xydata()).tolist() == [[300, 0.5], [900, 0.6]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["300", "900", "2,700"]
    assert legend(figure) == ["labels", "teacher's answers", "teacher: 90.0%"]
    assert "labels: 300 steps 50.0%, 900 steps 60.0%" in figure.alt_text
    assert figure.alt_text.endswith("Teacher: 90.0%.")
