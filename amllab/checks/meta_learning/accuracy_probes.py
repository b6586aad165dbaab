"""The probes of exercise 4: trainings under a budget, with the functions of the submission."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.checks.meta_learning.maml_returned import as_used, by_name
from amllab.checks.meta_learning.prototype_accuracy import EPISODE, new_encoder
from amllab.checks.meta_learning.sinusoid_accuracy import ManyNetworks, errors, sinusoids
from amllab.kit.probing import Raised, State, raised, state_of
from amllab.numerics import same_numbers
from amllab.protocol.schema import IntVector
from amllab.protocol.submission import Functions, capture_error
from amllab.views import normalise

MOST = 1000  # entries of an episode that are looked at


class FittedEncoder(TypedDict):
    """An encoder trained under a budget.

    Attributes:
        state: State of the encoder at the end.
        images: Number of images that the training showed to the encoder.
    """

    state: State
    images: int


class FittedNetwork(TypedDict):
    """A network that was trained to adapt.

    Attributes:
        state: Weights and biases of its layers.
    """

    state: State


class OneEpisode(TypedDict):
    """One episode, as int64 vectors."""

    support_index: IntVector
    support_labels: IntVector
    query_index: IntVector
    query_labels: IntVector


def vectors(episode: Iterable[Any]) -> list[Tensor]:
    """Return the parts of an episode as int64 vectors; another form of them loses points in exercise 1."""
    return [torch.as_tensor(part, device="cpu").detach().flatten()[:MOST].long() for part in episode]


def some_episodes(
    functions: Functions, *, labels: Tensor, n_way: int, k_shot: int, n_query: int, seed: int, draws: int
) -> list[OneEpisode] | Raised:
    """Call ``sample_episode`` some times with one generator, and return what can be read as vectors of numbers."""
    generator = torch.Generator().manual_seed(seed)

    def call() -> OneEpisode:
        support, support_labels, query, query_labels = vectors(
            functions.sample_episode(labels, n_way, k_shot, n_query, generator)
        )
        return {
            "support_index": support,
            "support_labels": support_labels,
            "query_index": query,
            "query_labels": query_labels,
        }

    got = capture_error(lambda: [call() for _ in range(draws)])
    answer: list[OneEpisode] | Raised = raised(got) if "error" in got else got["value"]
    return answer


def fit_encoder(
    functions: Functions,
    *,
    encoder: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    steps: int,
    n_way: int,
    k_shot: int,
    n_query: int,
    learning_rate: float,
    seed: int,
    episodes: list[dict[str, Tensor]],
) -> FittedEncoder | Raised:
    """Train an encoder with ``prototypical_loss``.

    Args:
        functions: Functions of the notebook.
        encoder: Weights of the encoder before the training.
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``.
        steps: Number of steps of the optimizer, each with one episode.
        n_way: Number of classes of an episode.
        k_shot: Number of support images of a class.
        n_query: Number of query images of a class.
        learning_rate: Learning rate at the beginning; it falls to 0 along a cosine.
        seed: Seed of the episodes.
        episodes: Episodes to use in place of those of ``sample_episode``; empty for none.
    """
    model = new_encoder()
    model.load_state_dict(encoder)
    generator, shown = torch.Generator().manual_seed(seed), 0
    ready = normalise(images)

    def train() -> None:
        nonlocal shown
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            if episodes:
                support, support_labels, query, query_labels = (episodes[step][name] for name in EPISODE)
            else:
                support, support_labels, query, query_labels = vectors(
                    functions.sample_episode(labels, n_way, k_shot, n_query, generator)
                )
            shown += len(support) + len(query)
            embedded = model(ready[torch.cat([support, query])])
            loss, _ = functions.prototypical_loss(
                embedded[: len(support)], support_labels, embedded[len(support) :], query_labels
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    with same_numbers():
        got = capture_error(train)
    return raised(got) if "error" in got else {"state": state_of(model), "images": shown}


def fit_adapting(
    functions: Functions,
    *,
    state: dict[str, Tensor],
    steps: int,
    tasks: int,
    shots: int,
    queries: int,
    outer_rate: float,
    inner_rate: float,
    seed: int,
) -> FittedNetwork | Raised:
    """Train a network on sinusoids through ``maml_adapt``, which is called once in a step for all tasks of the step.

    Args:
        functions: Functions of the notebook.
        state: Weights of the network before the training.
        steps: Number of steps of the outer optimizer.
        tasks: Number of tasks of a step.
        shots: Number of points of a task to adapt to.
        queries: Number of other points of it.
        outer_rate: Learning rate of the outer optimizer at the beginning; it falls to 0 along a cosine.
        inner_rate: Learning rate of the one step of ``maml_adapt``.
        seed: Seed of the tasks.
    """
    model, generator = ManyNetworks(state, tasks), torch.Generator().manual_seed(seed)
    own: dict[str, Tensor] = dict(model.named_parameters())

    def train() -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=outer_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            with torch.enable_grad():
                inputs, targets = sinusoids(tasks, shots + queries, generator)
                returned: Any = functions.maml_adapt(
                    model,
                    inputs[:, :shots],
                    targets[:, :shots],
                    steps=1,
                    lr=inner_rate,
                    loss_fn=errors,
                    first_order=False,
                )
                # another form of what is returned loses points in exercise 3, and so does leaving gradients
                # turned off
                adapted = as_used(by_name(returned, own), own)
                optimizer.zero_grad()
                predictions = torch.func.functional_call(model, adapted, (inputs[:, shots:],))
                errors(predictions, targets[:, shots:]).backward()
                # all copies take the same step, so that they stay the same network
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.grad = parameter.grad.mean(0, keepdim=True).expand_as(parameter).contiguous()
                optimizer.step()
                schedule.step()

    with same_numbers():
        got = capture_error(train)
    return raised(got) if "error" in got else {"state": model.state()}
