"""The content of the plots, read back from the figures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import timm
import torch
from matplotlib.lines import Line2D
from PIL import Image
from torch import nn

from amllab import layers_of, plots
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.plots.figure import INK

CLASSES = ("crocodile", "dinosaur", "lizard")
HISTORY: dict[str, Any] = {
    "train_loss": [1.5, 1.1, 0.8, 0.6],
    "train_acc": [0.3, 0.5, 0.7, 0.8],
    "val_loss": [1.4, 1.2, 1.0, 1.1],
    "val_acc": [0.35, 0.5, 0.6, 0.58],
    "best_epoch": 2,
}


@pytest.fixture(autouse=True, scope="module")
def agg() -> Iterator[None]:
    with mpl.rc_context({"backend": "Agg"}):
        yield


def net() -> nn.Module:
    return timm.create_model("net6", num_classes=3)


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def stars(figure: plots.Plot) -> list[list[tuple[float, float]]]:
    """Return the marked points of each axes."""
    return [[point for line in ax.lines if line.get_marker() == "*" for point in points(line)] for ax in figure.axes]


def titles(figure: plots.Plot) -> list[str]:
    return [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]


def legend(figure: plots.Plot) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


ALL: dict[str, Callable[[], plots.Plot]] = {
    "curves": lambda: plots.curves(HISTORY, title="a title"),
    "several curves": lambda: plots.curves({"a": HISTORY, "b": HISTORY}, title="a title"),
    "sweep": lambda: plots.sweep({0: [0.2, 0.3], 4: [0.6, 0.7]}, [0.5, 0.52], title="a title"),
    "confusion": lambda: plots.confusion([0, 1, 1], [0, 1, 2], CLASSES, title="a title"),
    "mistakes": lambda: plots.mistakes(
        torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), torch.eye(3)[:2].flip(1), CLASSES, title="a title"
    ),
    "images": lambda: plots.images(torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, 2]), CLASSES, title="a title"),
    "gallery": lambda: plots.gallery(torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, 1]), CLASSES, title="a title"),
    "frozen": lambda: plots.frozen(net(), title="a title"),
    "transfer": lambda: plots.transfer(net(), 5, 1, title="a title"),
    "drift": lambda: plots.drift({"norm1": [0.0, 0.1], "norm2": [0.0, 0.3]}, title="a title"),
}


@pytest.mark.parametrize("name", ALL)
def test_plot_image_title_and_description(name: str) -> None:
    """Every plot has an image, a title and a description."""
    before = dict(mpl.rcParams)
    figure = ALL[name]()
    data, metadata = figure._repr_mimebundle_()
    assert dict(mpl.rcParams) == before
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.width > metadata["image/png"]["width"] > 300
    assert metadata["image/png"]["alt"] == data["text/plain"] == figure.alt_text
    assert figure.alt_text.startswith("a title. ")
    assert "a title" in titles(figure)


@pytest.mark.parametrize("name", ALL)
def test_plot_suits_light_and_dark_themes(name: str) -> None:
    """A plot has no background of its own; its text is grey, unless it is on a coloured cell."""
    figure = ALL[name]()
    data, _ = figure._repr_mimebundle_()
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGBA")
    assert all(image.getpixel(corner)[3] == 0 for corner in ((0, 0), (image.width - 1, image.height - 1)))
    for ax in figure.axes:
        words = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert {mpl.colors.to_hex(text.get_color()) for text in words} == {INK}


def test_plot_is_displayed_with_description(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook shows the image, and below it the description for readers who cannot see it, as safe HTML."""
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata=None: shown.append(data))
    plots.curves({"<b>": HISTORY}, title="a title")._ipython_display_()
    image, words = shown
    assert image["image/png"]
    assert words["text/html"].startswith("<details")
    assert "a title. Loss and accuracy over epochs" in words["text/html"]
    assert "&lt;b&gt;: " in words["text/html"]


@pytest.mark.parametrize("name", ALL)
def test_note_in_title_and_description(name: str) -> None:
    """A note appears in every title and description."""
    before = ALL[name]()
    plots.note("quick run: few images")
    try:
        after = ALL[name]()
    finally:
        plots.note("")
    assert not any("quick run" in title for title in titles(before))
    assert any(title.endswith("\nquick run: few images") for title in titles(after))
    assert "quick run: few images" in after.alt_text
    assert ALL[name]().alt_text == before.alt_text


def test_plots_leave_no_pyplot_figures() -> None:
    """Plots leave no open figures in pyplot."""
    import matplotlib.pyplot as plt

    open_before = plt.get_fignums()
    for make in ALL.values():
        make()
    assert plt.get_fignums() == open_before


def test_curves_mark_best_epoch() -> None:
    """Curves mark the best epoch."""
    figure = plots.curves(HISTORY)
    assert stars(figure) == [[(2, 1.0)], [(2, 0.6)]]
    assert legend(figure) == ["training", "validation", "best epoch: 2"]
    assert "best epoch 2 with validation loss 1.000" in figure.alt_text


def test_curves_draw_given_values() -> None:
    """Curves draw the given values."""
    loss, accuracy = plots.curves(HISTORY).axes
    drawn = [[y for _, y in points(line)] for line in loss.lines if len(points(line)) == 4]
    assert drawn == [HISTORY["train_loss"], HISTORY["val_loss"]]
    assert accuracy.yaxis.get_major_formatter()(0.5) == "50%"


def test_curves_of_several_runs() -> None:
    """Curves of several runs differ in colour."""
    other = {**HISTORY, "best_epoch": 1}
    figure = plots.curves({"scratch": HISTORY, "transfer": other})
    assert stars(figure)[0] == [(2, 1.0), (1, 1.2)]
    assert legend(figure)[:2] == ["scratch", "transfer"]
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_curves_of_non_finite_losses(loss: float) -> None:
    """Curves tolerate losses that are NaN or infinite."""
    figure = plots.curves({**HISTORY, "val_loss": [1.0, loss, loss, loss], "best_epoch": 0})
    figure._repr_mimebundle_()
    assert stars(figure)[0] == [(0, 1.0)]


def test_curves_of_one_epoch() -> None:
    """A history of one epoch can be plotted; without a best epoch, none is marked."""
    one = {key: values[:1] for key, values in HISTORY.items() if key != "best_epoch"}
    plots.curves({**one, "best_epoch": 0})._repr_mimebundle_()
    assert stars(plots.curves(one)) == [[], []]  # without a best epoch, none is marked


def test_sweep_means_and_deviations() -> None:
    """A sweep shows means, standard deviations and single seeds."""
    results = {4: [0.6, 0.7, 0.62], 0: [0.2, 0.25, 0.3], 12: [0.68, 0.69, 0.66]}
    baseline = [0.5, 0.54]
    figure = plots.sweep(results, baseline)
    (ax,) = figure.axes
    (bars,) = ax.containers
    line, _, (spread,) = bars  # type: ignore[misc]
    assert points(line) == [(n, pytest.approx(np.mean(results[n]))) for n in (0, 4, 12)]
    half = [(top - bottom) / 2 for (_, bottom), (_, top) in spread.get_segments()]
    assert half == pytest.approx([np.std(results[n], ddof=1) for n in (0, 4, 12)])
    assert stars(figure) == [[(12, pytest.approx(np.mean(results[12])))]]
    (band,) = ax.patches
    low, high = np.mean(baseline) - np.std(baseline, ddof=1), np.mean(baseline) + np.std(baseline, ddof=1)
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))  # type: ignore[attr-defined]
    (seeds,) = [line for line in ax.lines if line.get_label() == "single seeds"]
    assert sorted(points(seeds)) == sorted((n, value) for n, values in results.items() for value in values)


def test_sweep_of_one_seed() -> None:
    """A sweep of one seed shows no standard deviation."""
    figure = plots.sweep({0: [0.2], 1: [0.5]})
    assert legend(figure) == ["highest: 50.0% at n_trainable = 1", "one seed"]


@pytest.mark.parametrize("number", [0, 7, -1])
def test_transfer_impossible_numbers(number: int) -> None:
    """A number of layers that the network does not have is refused."""
    with pytest.raises(ValueError, match=f"n_trainable must be from 1 to 6, the number of layers, not {number}"):
        plots.transfer(net(), 5, number)


@pytest.mark.parametrize("shifts", [{}, {"norm1": []}])
def test_drift_empty(shifts: dict[str, list[float]]) -> None:
    """A drift without shifts is refused."""
    with pytest.raises(ValueError, match="at least one shift for each layer"):
        plots.drift(shifts)


def test_sweep_empty() -> None:
    """A sweep without results is refused."""
    with pytest.raises(ValueError, match="at least one accuracy"):
        plots.sweep({})


def test_confusion_counts_and_row_percent() -> None:
    """Cells show counts and the percentage of the true class; the title has the accuracy."""
    labels, predictions = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 0])
    figure = plots.confusion(labels, predictions, CLASSES)
    ax = figure.axes[0]
    cells = [text.get_text() for text in ax.texts]
    assert cells[:2] == ["3\n75%", "1\n25%"]
    assert cells[3:6] == ["0\n0%", "1\n100%", "0\n0%"]
    assert np.asarray(ax.images[0].get_array())[2].tolist() == [1, 0, 0]
    assert ax.get_title() == "4 of 6 correct (66.7%)"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(CLASSES)
    assert "3 as crocodile, 1 as dinosaur" in figure.alt_text


def test_confusion_absent_and_unknown_class() -> None:
    """Absent classes have empty rows, and unknown labels are refused."""
    assert "0\n0%" in [text.get_text() for text in plots.confusion([0], [0], CLASSES).axes[0].texts]
    with pytest.raises(ValueError, match="from 0 to 2"):
        plots.confusion([0, 1], [0, 3], CLASSES)


def test_mistakes_sorted_by_confidence() -> None:
    """Mistakes are sorted by confidence."""
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.0, 0.2, 0.8], [0.3, 0.7, 0.0]])
    labels = torch.tensor([0, 1, 1, 2])
    figure = plots.mistakes(torch.zeros(4, 3, 8, 8), labels, probabilities, CLASSES, n=2)
    assert [ax.get_title() for ax in figure.axes] == ["dinosaur\n→ lizard 80%", "lizard\n→ dinosaur 70%"]
    assert figure.get_suptitle() == "3 mistakes in 4 images; the 2 most confident"


def test_mistakes_empty() -> None:
    """A model without mistakes gets an empty plot."""
    figure = plots.mistakes(torch.zeros(1, 3, 8, 8), torch.tensor([0]), torch.eye(3)[:1], CLASSES)
    assert figure.get_suptitle() == "0 mistakes in 1 images"
    figure._repr_mimebundle_()


def test_images_are_denormalised() -> None:
    """Normalised and uint8 images are shown in their original colours, with their class."""
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    for batch in ((pixels - mean) / std, (pixels * 255).to(torch.uint8)):
        figure = plots.images(batch, torch.tensor([2, 0]), CLASSES)
        shown = np.asarray(figure.axes[0].images[0].get_array())
        assert shown == pytest.approx(pixels[0].permute(1, 2, 0).numpy(), abs=1 / 255)
        assert [ax.get_title() for ax in figure.axes] == ["lizard", "crocodile"]
    assert len(plots.images(pixels, n=1).axes) == 1


def test_frozen_state_and_size_of_layers() -> None:
    """The plot shows the state and size of every layer."""
    model = net()
    layers = layers_of(model)
    for layer in layers[:2]:
        for parameter in layer.parameters():
            parameter.requires_grad_(False)
    for module in layers[0].modules():
        module.eval()
    next(layers[2].parameters()).requires_grad_(False)
    figure = plots.frozen(model)
    (ax,) = figure.axes
    patches: Any = ax.patches  # of each row its background, and its bar
    backgrounds, bars = patches[::2], patches[1::2]
    assert [bar.get_width() for bar in bars] == [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert [background.get_hatch() for background in backgrounds] == ["////", "////", "..", None, None, None]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [layer.name for layer in layers]
    diamonds = [line.get_markerfacecolor() for line in ax.lines]
    assert diamonds == ["none", *[plots.VERMILLION] * 4]
    assert ax.get_title().startswith("3 of 6 layers trainable")
    assert "stem frozen" in figure.alt_text
    assert len(legend(figure)) == 5
    assert ax.get_xscale() == "linear"


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_all_or_none(trainable: bool) -> None:
    """Models with all or no layers frozen can be plotted."""
    figure = plots.frozen(net().requires_grad_(trainable))
    assert figure.axes[0].get_title().startswith(f"{6 * trainable} of 6 layers trainable")


def test_gallery_has_a_row_for_each_class() -> None:
    """Each row of a gallery shows images of one class, in their order, up to the requested number."""
    batch = torch.arange(6, dtype=torch.uint8).mul(40).view(6, 1, 1, 1).expand(6, 3, 4, 4)
    figure = plots.gallery(batch, torch.tensor([2, 0, 2, 2, 0, 2]), CLASSES, n=3)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["crocodile", "lizard"]
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (9, 14, 3)
    brightness = (shown[1::5, 1::5, 0] * 255 / 40).round().tolist()
    white = 255 / 40
    assert brightness == [[1, 4, round(white)], [0, 2, 3]]
    assert figure.alt_text == "Images, a row for each class: 2 of crocodile, 3 of lizard."


def test_gallery_without_names_or_images() -> None:
    """A gallery names its rows by their labels if there are no names, and refuses an empty batch."""
    figure = plots.gallery(torch.zeros(2, 3, 4, 4), torch.tensor([7, 3]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["3", "7"]
    with pytest.raises(ValueError, match="at least one image"):
        plots.gallery(torch.zeros(0, 3, 4, 4), torch.zeros(0).long())
