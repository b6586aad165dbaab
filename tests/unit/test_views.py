"""Random views: seeded, one for every image, each kind of change by itself, with the statistics of torchvision's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from amllab import draw_species
from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.views import LUMA, RATIO, RandomViews, normalise
from bench.views import one_by_one, statistics

OFF = {"crop": None, "shift": 0, "flip": 0.0, "colour": 0.0, "grey": 0.0}


@pytest.fixture(scope="module")
def images():
    return draw_species(10, 60, seed=3).images


def seeded(seed=0, **options):
    return RandomViews(torch.Generator().manual_seed(seed), **options)


def denormalised(views):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    return views * std + mean


def test_format(images):
    """Views are normalised floats in channels-last format, of the same size as the images."""
    views = seeded()(images[:7])
    assert views.shape == (7, 3, 32, 32)
    assert views.dtype == torch.float32
    assert views.is_contiguous(memory_format=torch.channels_last)
    assert (denormalised(views) > -1e-6).all()
    assert (denormalised(views) < 1 + 1e-6).all()
    assert seeded()(torch.zeros(2, 3, 40, 24)).shape == (2, 3, 40, 24)
    assert seeded()(images[:0]).shape == (0, 3, 32, 32)


def test_shifts(images):
    """Images are moved by whole pixels, each by its own; all shifts up to the largest occur equally often."""
    same = images[:1].repeat(500, 1, 1, 1)
    views, plain = seeded(**{**OFF, "shift": 2})(same), normalise(images[:1])[0]
    counts = torch.zeros(5, 5)
    for down, right in itertools.product(range(5), range(5)):
        moved = plain.roll((down - 2, right - 2), (1, 2))
        hits = (views - moved)[:, :, 2:-2, 2:-2].abs().flatten(1).amax(1) < 1e-3
        counts[down, right] = hits.sum()
    assert counts.sum() == 500
    assert counts.min() > 5
    assert counts.max() < 45


def test_generator_determines_views(images):
    """The generator determines all views; images and the global generator stay as they are."""
    before, original = torch.random.get_rng_state(), images.clone()
    views = seeded()
    first, second = views(images), views(images)
    assert torch.equal(first, seeded()(images))
    assert not (first == second).flatten(1).all(1).any()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(images, original)


def test_global_generator_determines_views(images):
    """Without a generator of their own, views follow from PyTorch's global one."""
    torch.manual_seed(4)
    first = RandomViews()(images[:5])
    torch.manual_seed(4)
    assert torch.equal(first, RandomViews()(images[:5]))


@pytest.mark.parametrize("on", [{"crop": (0.3, 1.0)}, {"colour": 1.0}])
def test_every_image_has_its_own_view(images, on):
    views = seeded(**{**OFF, **on})(images[:1].repeat(50, 1, 1, 1))
    assert len(views.flatten(1).unique(dim=0)) >= 35  # a fifth has no distortion of colours


def test_switched_off(images):
    """Without any change, views are the normalised images; with flips alone, half of them are mirrored."""
    assert torch.allclose(seeded(**OFF)(images), normalise(images), atol=1e-5)
    assert torch.allclose(seeded(**{**OFF, "flip": 1.0})(images), normalise(images.flip(3)), atol=1e-4)
    views = seeded(**{**OFF, "flip": 0.5})(images)
    same, mirrored = ((views - normalise(wanted)).abs().amax((1, 2, 3)) < 1e-4 for wanted in (images, images.flip(3)))
    assert (same ^ mirrored).all()
    assert 0.4 < same.float().mean() < 0.6


def test_floats_as_bytes(images):
    """Floats in [0, 1] give the same views as bytes."""
    assert torch.allclose(seeded()(images), seeded()(images / 255), atol=1e-5)


def test_crops_are_those_of_torchvision():
    """Areas and ratios of crops have the distribution of torchvision's, and every place is possible."""
    ramp = torch.linspace(0, 1, 64).expand(64, 64)
    places = torch.stack([ramp, ramp.T, ramp]).expand(3000, 3, 64, 64)
    x, y, _ = denormalised(seeded(**{**OFF, "crop": (0.2, 0.9)})(places)).unbind(1)
    wide, high = (v.flatten(1).amax(1) - v.flatten(1).amin(1) for v in (x, y))
    torch.manual_seed(0)
    scale, ratio = [0.2, 0.9], [1 / RATIO, RATIO]
    boxes = torch.tensor([RandomResizedCrop.get_params(ramp[None], scale, ratio) for _ in range(3000)])
    wanted = boxes[:, 2:].float() / 64
    for got, want in ((wide * high, wanted.prod(1)), ((wide / high).log(), (wanted[:, 1] / wanted[:, 0]).log())):
        assert got.mean() == pytest.approx(float(want.mean()), abs=0.02)
        assert got.std() == pytest.approx(float(want.std()), abs=0.02)
    assert x.amin() < 0.02
    assert y.amax() > 0.98


def test_statistics_are_those_of_torchvision(images):
    """Colours and brightness vary as much as with torchvision's transforms."""
    torch.manual_seed(0)
    got, wanted = statistics(seeded()(images)), statistics(one_by_one()(images))
    for what, values in wanted.items():
        assert got[what] == pytest.approx(values, abs=0.05 if "grey" in what else 0.02), what


def test_grey(images):
    """Grey views have the brightness of the images; grey images stay grey when colours are distorted."""
    grey = denormalised(seeded(**{**OFF, "grey": 1.0})(images))
    brightness = torch.einsum("nchw,c->nhw", images / 255, torch.tensor(LUMA))
    assert torch.allclose(grey, brightness[:, None].expand_as(grey), atol=1e-5)
    distorted = denormalised(seeded(**{**OFF, "colour": 1.0})(grey.clamp(0, 1)))
    assert (distorted.amax(1) - distorted.amin(1)).max() < 1e-4
    assert (distorted - grey).abs().mean() > 0.02


def test_strength_of_colours(images):
    """A stronger distortion changes more."""
    plain = normalise(images)
    changes = [float((seeded(**{**OFF, "colour": c})(images) - plain).abs().mean()) for c in (0.0, 0.5, 1.0, 2.0)]
    assert all(b > 1.3 * a for a, b in itertools.pairwise(changes))
    assert changes[0] < 1e-5 < changes[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0.0, 1.0)},
        {"crop": (0.8, 0.3)},
        {"crop": (0.5, 1.5)},
        {"shift": -1},
        {"flip": 1.2},
        {"grey": -0.1},
        {"colour": -1.0},
        {"colour": math.inf},
    ],
)
def test_impossible_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandomViews(**wrong)
