"""Drawn images: determined by the seed, balanced, any number and size, classes not separable by colour."""

import numpy as np
import pytest
import torch

from amllab.animals import BUILDERS
from amllab.synthetic_images import CLASSES, _rasterise, draw, grid


@pytest.fixture(scope="module")
def drawn():
    return draw(300, seed=1)


def test_same_seed_same_images():
    first, second = draw(23, seed=5), draw(23, seed=5)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


def test_other_seed_other_images():
    first, second = draw(23, seed=5), draw(23, seed=6)
    assert not torch.equal(first.labels, second.labels)
    assert not (first.images == second.images).flatten(1).all(1).any()


def test_draw_independent_of_global_rng():
    """Drawing neither depends on the global generator nor changes its state."""
    torch.manual_seed(1)
    first = draw(10, seed=5)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first.images, draw(10, seed=5).images)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_format(drawn):
    """Images and labels have the documented shapes and types."""
    assert drawn.images.shape == (300, 3, 32, 32)
    assert drawn.images.dtype == torch.uint8
    assert drawn.labels.dtype == torch.int64
    assert drawn.classes == CLASSES
    assert "drawn" in drawn.source


@pytest.mark.parametrize("n", [0, 1, 4, 13])
def test_any_number_and_balanced(n):
    drawn = draw(n, seed=0)
    counts = torch.bincount(drawn.labels, minlength=5)
    assert len(drawn) == counts.sum() == n
    assert counts.max() - counts.min() <= 1


def test_labels_are_shuffled(drawn):
    assert torch.bincount(drawn.labels[:200], minlength=5).min() > 20


@pytest.mark.parametrize("size", [8, 33, 64])
def test_any_size(size):
    assert draw(5, seed=0, size=size).images.shape == (5, 3, size, size)


@pytest.mark.parametrize(("n", "size"), [(-1, 32), (5, 4)])
def test_impossible_requests(n, size):
    with pytest.raises(ValueError, match="draw"):
        draw(n, seed=0, size=size)


def test_images_not_empty_and_unique(drawn):
    """No image is empty, and no two are the same."""
    pixels = drawn.images.float().flatten(1)
    assert pixels.std(1).min() > 3
    assert len(drawn.images.flatten(1).unique(dim=0)) == len(drawn)


def nearest_centroid_accuracy(features, labels):
    """Return the accuracy of a nearest-centroid classifier, fitted on the first half and tested on the second."""
    half = len(labels) // 2
    features = (features - features.mean(0)) / features.std(0)
    centroids = torch.stack([features[:half][labels[:half] == label].mean(0) for label in range(5)])
    return (torch.cdist(features[half:], centroids).argmin(1) == labels[half:]).double().mean().item()


def test_colour_does_not_reveal_class():
    """The class cannot be predicted from colour."""
    drawn = draw(1000, seed=2)
    pixels = drawn.images.float().flatten(2)
    assert nearest_centroid_accuracy(pixels.mean(2), drawn.labels) < 0.28
    assert nearest_centroid_accuracy(torch.cat([pixels.mean(2), pixels.std(2)], 1), drawn.labels) < 0.32


@pytest.mark.parametrize("size", [8, 32, 200])
def test_rasterised_as_defined(size):
    """Drawing part by part gives bit for bit the same image as the formulas."""
    rng = np.random.default_rng(size)
    for builder in BUILDERS:
        parts, _ = builder(rng, 5)
        parts[:2, -1] = parts[:2, -2]  # two parts at the same distance
        parts[0, -1, 6] = 0.7
        for got, wanted in zip(_rasterise(parts, size), at_once(parts, size), strict=True):
            assert np.array_equal(got, wanted)


def at_once(parts, size):
    """Return what the rasteriser returns, from the distances of all pixels to all parts."""
    x, y = grid(size)
    ax, ay, bx, by, ra, rb, tone, cut = np.moveaxis(parts[..., None, None], 2, 0)
    dx, dy, ux, uy = bx - ax, by - ay, x - ax, y - ay
    length = dx * dx + dy * dy + 1e-9
    along = np.clip((ux * dx + uy * dy) / length, 0, 1)
    off = (ux - along * dx) ** 2 + (uy - along * dy) ** 2
    radius = ra + along * (rb - ra)
    below = (dx * uy - dy * ux) / np.sqrt(length) * -np.sign(dx)
    distance = np.sqrt(off) - radius
    distance = np.where(cut > 0, np.maximum(distance, below), distance)
    nearest = distance.min(1)
    brightness = np.where(distance <= nearest[:, None], tone, 0).max(1)
    height = np.sqrt(np.maximum((radius * radius - off).max(1), 0))
    return np.clip(0.5 - nearest * size / 2, 0, 1), height, brightness
