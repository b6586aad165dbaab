"""Tasks for meta-learning, and the networks for them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from amllab import conv4, draw_species, episodes, image_tasks, sine_net, sinusoids
from tests.helpers.few_shot import sample_episode


def test_sinusoids_are_sinusoids() -> None:
    """Support and query points of a task lie on one sine, whose amplitude and phase are in the ranges of the paper."""
    tasks = sinusoids(500, 7, 9, torch.Generator().manual_seed(0))
    assert [tuple(part.shape) for part in tasks] == [(500, 7, 1)] * 2 + [(500, 9, 1)] * 2
    x, y = torch.cat([tasks.support, tasks.query], 1).double(), torch.cat([tasks.support_labels, tasks.query_labels], 1)
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5
    # y = a sin(x - p) = (a cos p) sin x - (a sin p) cos x is linear in two unknowns
    waves = torch.cat([x.sin(), -x.cos()], 2)
    solution = torch.linalg.lstsq(waves, y.double()).solution
    assert torch.allclose(waves @ solution, y.double(), atol=1e-4)
    amplitude, phase = solution.norm(dim=1), torch.atan2(solution[:, 1], solution[:, 0])
    assert 0.1 <= amplitude.min() < 0.3
    assert 4.8 < amplitude.max() <= 5.001
    assert -0.01 < phase.min() < 0.1
    assert math.pi - 0.1 < phase.max() < math.pi + 0.01


def test_generator_determines_the_sinusoids() -> None:
    """The same state gives the same tasks; the generator advances."""
    first, again = (torch.Generator().manual_seed(3) for _ in range(2))
    a, b, c = sinusoids(2, 3, 4, first), sinusoids(2, 3, 4, again), sinusoids(2, 3, 4, first)
    assert torch.equal(a.query_labels, b.query_labels)
    assert not torch.equal(a.query_labels, c.query_labels)


def test_networks() -> None:
    """Inputs and outputs have the sizes of the tasks; one batch leaves nothing behind for the next."""
    assert sine_net(8)(torch.zeros(3, 1)).shape == (3, 1)
    assert sum(p.numel() for p in sine_net().parameters()) == 80 + 1640 + 41
    for model in (conv4(5), conv4(2, channels=4)):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        images = torch.randn(6, 3, 32, 32)
        trained, evaluated = model.train()(images), model.eval()(images)
        assert trained.shape == (6, before["head.bias"].numel())
        assert torch.allclose(trained, evaluated)
        assert not list(model.buffers())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert conv4(5).get_submodule("conv0").out_channels == 16
    assert isinstance(conv4(5)[1], nn.BatchNorm2d)


def test_image_tasks_are_episodes() -> None:
    """A batch consists of the episodes that come one at a time with the same seed."""
    data = draw_species(6, 8, seed=0)
    batches = image_tasks(data.images, data.labels, sample_episode, tasks=2, n_way=3, k_shot=2, n_query=4, seed=5)
    single = episodes(data.images, data.labels, sample_episode, n_way=3, k_shot=2, n_query=4, seed=5)
    for _ in range(2):
        batch = next(batches)
        assert [tuple(part.shape) for part in batch] == [(2, 6, 3, 32, 32), (2, 6), (2, 12, 3, 32, 32), (2, 12)]
        for number in range(2):
            wanted = next(single)
            assert all(torch.equal(part[number], own) for part, own in zip(batch, wanted, strict=True))


@pytest.mark.parametrize("name", ["n_tasks", "shots", "queries"])
def test_sinusoids_below_one(name: str) -> None:
    """A number below 1 is refused by its name."""
    numbers = {"n_tasks": 2, "shots": 2, "queries": 2, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        sinusoids(**numbers, generator=torch.Generator())


def test_other_numbers_below_one() -> None:
    """Errors come with the call, not with the first task."""
    with pytest.raises(ValueError, match="tasks must be at least 1, not 0"):
        image_tasks(torch.zeros(4, 3, 8, 8), torch.arange(4), sample_episode, tasks=0)
    with pytest.raises(ValueError, match="a label for each image"):
        image_tasks(torch.zeros(3, 3, 8, 8), torch.arange(4), sample_episode)
    with pytest.raises(ValueError, match="n_way must be at least 1"):
        conv4(0)
    with pytest.raises(ValueError, match="width must be at least 1"):
        sine_net(0)
