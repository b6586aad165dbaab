"""Tasks for model-agnostic meta-learning, several at a time, and small networks for them.

C. Finn et al., *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks* (2017).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from amllab.few_shot import Augment, Episode, SampleEpisode, episodes

LARGEST_INPUT = 5.0
AMPLITUDES, PHASES = (0.1, 5.0), (0.0, math.pi)
BLOCKS, SIDE = 4, 32  # of conv4; each block halves the side of an image


def sinusoids(n_tasks: int, shots: int, queries: int, generator: torch.Generator) -> Episode:
    """Draw regression tasks: each is a sine of its own amplitude and phase, known at a few points (Finn et al., 5.1).

    Amplitudes are uniform in [0.1, 5], phases in [0, π], inputs in [-5, 5]. There is no noise.

    Args:
        n_tasks: number of tasks.
        shots: number of support points of a task.
        queries: number of query points of a task.
        generator: source of all randomness, on the CPU.

    Returns:
        Inputs and targets, float32 ``(n_tasks, points, 1)``.

    Raises:
        ValueError: a number is below 1.
    """
    _at_least_one(n_tasks=n_tasks, shots=shots, queries=queries)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    amplitude, phase = uniform(*AMPLITUDES, n_tasks, 1, 1), uniform(*PHASES, n_tasks, 1, 1)
    x = uniform(-LARGEST_INPUT, LARGEST_INPUT, n_tasks, shots + queries, 1)
    y = amplitude * torch.sin(x - phase)
    return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:])


def sine_net(width: int = 40) -> nn.Sequential:
    """Return the network of Finn et al. for sinusoids: 1 input, 1 output, two hidden layers of ``width`` units."""
    _at_least_one(width=width)
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


def conv4(n_way: int, channels: int = 16) -> nn.Sequential:
    """Return a network of four convolutions for images of 32x32 pixels, as few-shot learning often uses it.

    Its BatchNorm layers have no running statistics. They use those of the batch, in train and in eval mode: a model
    consists of its parameters alone.

    Args:
        n_way: number of outputs.
        channels: number of channels of each convolution.

    Returns:
        A network from images ``(n, 3, 32, 32)`` to logits ``(n, n_way)``.

    Raises:
        ValueError: a number is below 1.
    """
    _at_least_one(n_way=n_way, channels=channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(BLOCKS):
        layers[f"conv{number}"] = nn.Conv2d(channels if number else 3, channels, 3, padding=1)
        layers[f"norm{number}"] = nn.BatchNorm2d(channels, track_running_stats=False)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels * (SIDE // 2**BLOCKS) ** 2, n_way)
    return nn.Sequential(layers)


def image_tasks(
    images: Tensor,
    labels: Tensor,
    sample_episode: SampleEpisode,
    *,
    tasks: int = 4,
    n_way: int = 5,
    k_shot: int = 5,
    n_query: int = 10,
    seed: int = 0,
    augment: Augment | None = None,
) -> Iterator[Episode]:
    """Yield several episodes at a time, without end; the same seed yields the same ones.

    Args:
        images: ``(n, 3, h, w)`` in uint8, or inputs of any other type and shape ``(n, ...)``.
        labels: their classes, int64 ``(n,)``.
        sample_episode: returns indices and new labels of a support set, then of a query set.
        tasks: number of episodes at a time.
        n_way: number of classes of an episode.
        k_shot: number of support images of each class.
        n_query: number of query images of each class.
        seed: seed of the episodes.
        augment: see :func:`amllab.episodes`.

    Returns:
        An iterator over episodes whose tensors have a leading dimension of tasks.

    Raises:
        ValueError: ``tasks`` is below 1, or as in :func:`amllab.episodes`.
    """
    _at_least_one(tasks=tasks)
    single = episodes(
        images, labels, sample_episode, n_way=n_way, k_shot=k_shot, n_query=n_query, seed=seed, augment=augment
    )
    return (Episode(*map(torch.stack, zip(*batch, strict=True))) for batch in _batches(single, tasks))


def _batches(single: Iterator[Episode], size: int) -> Iterator[list[Episode]]:
    while True:
        yield [next(single) for _ in range(size)]


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
