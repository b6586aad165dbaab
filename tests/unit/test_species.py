"""Drawn species: determined by their seed, however many are drawn; species differ more than individuals do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amllab import draw_species
from amllab.species import CHUNK, MOTTLED, PLAIN, SPOTS, STRIPES, _drawn, builder_of, sample_traits
from amllab.synthetic_images import DIFFICULTY


def drawn_without_cache(*arguments, **options):
    """Return what a new process would draw."""
    _drawn.cache_clear()
    return draw_species(*arguments, **options)


def test_format():
    """Images, labels and names have the documented shapes, types and order."""
    data = draw_species(3, 5, seed=1)
    assert data.images.shape == (15, 3, 32, 32)
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert data.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert data.classes == ("species 0", "species 1", "species 2")
    assert data.source == "drawn species"


def test_same_seed_same_pixels():
    first = drawn_without_cache(3, 7, seed=5).images
    assert torch.equal(first, drawn_without_cache(3, 7, seed=5).images)
    assert not (first == drawn_without_cache(3, 7, seed=6).images).flatten(1).all(1).any()


@pytest.mark.parametrize("per_species", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_first_images_stay_the_same(per_species):
    """The first species and the first individuals do not depend on how many are drawn."""
    whole = drawn_without_cache(4, 2 * CHUNK + 3, seed=2).images.unflatten(0, (4, -1))
    fewer = drawn_without_cache(3, per_species, seed=2).images.unflatten(0, (3, -1))
    assert torch.equal(fewer, whole[:3, :per_species])


def test_independent_of_global_generators():
    """Drawing neither depends on global generators nor changes their state."""
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.random.get_rng_state()
    first = drawn_without_cache(2, 3, seed=5).images
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(first, drawn_without_cache(2, 3, seed=5).images)


def test_changed_images_are_not_drawn_again():
    """A caller who changes images does not change those of the next call."""
    first = draw_species(2, 2, seed=3)
    before = first.images.clone()
    first.images.zero_()
    assert torch.equal(draw_species(2, 2, seed=3).images, before)


def test_other_individuals_of_the_same_species():
    """Other individuals are other images of the same species."""
    train = draw_species(6, 60, seed=6)
    test = draw_species(6, 30, seed=6, individuals=1)
    others = draw_species(6, 30, seed=106)
    assert not (train.images.unflatten(0, (6, -1))[:, :30] == test.images.unflatten(0, (6, -1))).flatten(2).all(2).any()
    assert recognised(train, test) > 0.5
    assert recognised(train, others) < 0.35


def recognised(train, test):
    """Return the share of images whose species is that of most of the 9 images with the nearest colours."""
    nearest = torch.cdist(histograms(test.images), histograms(train.images)).topk(9, largest=False).indices
    return (train.labels[nearest].mode(1).values == test.labels).double().mean().item()


def histograms(images):
    """Return how often each of 27 colours occurs in the middle of each image."""
    middle = images[:, :, 8:24, 8:24].long() * 3 // 256
    code = (middle[:, 0] * 9 + middle[:, 1] * 3 + middle[:, 2]).flatten(1)
    return torch.nn.functional.one_hot(code, 27).double().mean(1).sqrt()


@pytest.mark.parametrize("size", [8, 33, 64])
def test_any_size(size):
    assert draw_species(2, 2, seed=0, size=size).images.shape == (4, 3, size, size)


@pytest.mark.parametrize(("n_species", "per_species"), [(0, 3), (3, 0)])
def test_no_images(n_species, per_species):
    data = draw_species(n_species, per_species, seed=0)
    assert len(data) == len(data.images) == 0
    assert len(data.classes) == n_species


@pytest.mark.parametrize(("n_species", "per_species", "size"), [(-1, 2, 32), (2, -1, 32), (2, 2, 7)])
def test_impossible_requests(n_species, per_species, size):
    with pytest.raises(ValueError, match=r"draw_species\(\) needs"):
        draw_species(n_species, per_species, seed=0, size=size)


def test_difficulty_changes_images():
    """The same seed with another difficulty gives other images."""
    easy, hard = draw_species(2, 3, seed=1), draw_species(2, 3, seed=1, difficulty=DIFFICULTY)
    assert not torch.equal(easy.images, hard.images)


def test_images_not_empty_and_unique():
    images = draw_species(20, 10, seed=8).images.flatten(1)
    assert images.float().std(1).min() > 3
    assert len(images.unique(dim=0)) == 200


def test_traits_vary():
    """Every trait takes several values, and every kind of coat occurs."""
    rng = np.random.default_rng(0)
    traits = [sample_traits(rng) for _ in range(60)]
    for name in traits[0].__dataclass_fields__:
        assert len({getattr(one, name) for one in traits}) > 1, name
    assert {one.pattern for one in traits} == {STRIPES, SPOTS, MOTTLED, PLAIN}


def test_shapes_are_finite():
    """Every species has a body with finite coordinates and radii that are not negative."""
    rng = np.random.default_rng(1)
    for _ in range(60):
        parts, above = builder_of(sample_traits(rng))(rng, 3)
        assert parts.dtype == np.float32
        assert parts.shape[0] == len(above) == 3
        assert np.isfinite(parts).all()
        assert (parts[..., 4:6] >= 0).all()
