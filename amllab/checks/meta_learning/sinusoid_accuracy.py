"""The second part of the accuracy check: a network learns to adapt to a sinusoid in one step.

The tasks are those of Finn et al., *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks* (2017), section
5.1: sinusoids with amplitudes from 0.1 to 5 and phases from 0 to pi, here spread evenly, as are the points of each
sinusoid, so that results vary little from run to run. The network starts from weights that are always the same.

The outer loop is the library's, and the submission's ``maml_adapt`` works in it. It is called once for many tasks: each
parameter of the network has a copy for each task, and the loss is the sum over the tasks, so that the gradient of a
copy is that of its own task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amllab.kit.accuracy import expect_trained
from amllab.numerics import same_numbers
from amllab.protocol.submission import Submission
from amllab.seeds import derive

State = dict[str, Tensor]

SIZES = ((1, 40), (40, 40), (40, 1))  # inputs and outputs of the layers
AMPLITUDES, PHASES, INPUTS = (0.1, 5.0), (0.0, math.pi), 5.0


class ManyNetworks(nn.Module):
    """The same network once for each task: inputs ``(tasks, n, 1)`` to predictions ``(tasks, n, 1)``.

    Args:
        state: Weights ``(inputs, outputs)`` and biases ``(1, outputs)`` of each layer.
        tasks: Number of tasks.
    """

    def __init__(self, state: State, tasks: int) -> None:
        super().__init__()
        for name, value in state.items():
            self.register_parameter(name, nn.Parameter(value.expand(tasks, *value.shape).clone()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the predictions of each network for the inputs of its task."""
        for i in range(len(SIZES)):
            inputs = torch.baddbmm(getattr(self, f"bias{i}"), inputs, getattr(self, f"weight{i}"))
            inputs = torch.relu(inputs) if i + 1 < len(SIZES) else inputs
        return inputs

    def state(self) -> State:
        """Return the weights of the first network."""
        return {name: value[0].detach().clone() for name, value in self.named_parameters()}


def start(seed: int) -> State:
    """Return the weights of the network before the training."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for i, (n, m) in enumerate(SIZES):
        for name, shape in ((f"weight{i}", (n, m)), (f"bias{i}", (1, m))):
            state[name] = (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(n)
    return state


def errors(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over the tasks of the mean squared errors, for tensors ``(tasks, n, 1)``."""
    return (predictions - targets).square().mean((1, 2)).sum()


def sinusoids(tasks: int, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of sinusoids, both ``(tasks, points, 1)``, with all numbers spread evenly."""

    def spread(low: float, high: float, *shape: int) -> Tensor:
        """Return numbers that are spread evenly along the last dimension, each row in a random order."""
        order = torch.rand(shape, generator=generator).argsort(-1)
        return low + (high - low) * (order + torch.rand(shape, generator=generator)) / shape[-1]

    amplitude, phase = (spread(*limits, tasks)[:, None, None] for limits in (AMPLITUDES, PHASES))
    inputs = spread(-INPUTS, INPUTS, tasks, points)[..., None]
    return inputs, amplitude * torch.sin(inputs - phase)


@dataclass(frozen=True)
class Adapting:
    """A training: the answer of the probe ``fit_adapting``, the budget, and the seed of the tasks to measure on."""

    fitted: dict[str, Any]
    budget: dict[str, Any]
    seed: int


def fit(submission: Submission, budget: dict[str, Any], seed: int) -> Adapting:
    """Train the network; fail the check if that raises an error, or if the network is another one afterwards."""
    state = start(budget["network_seed"])
    names = ("steps", "tasks", "shots", "queries", "outer_rate", "inner_rate")
    fitted = submission.ask(
        "fit_adapting",
        state=state,
        **{name: budget[name] for name in names},
        seed=derive(seed, "accuracy", "sinusoids"),
    )
    expect_trained(
        fitted,
        state,
        what="network",
        how=f"`maml_adapt(..., steps=1, lr={budget['inner_rate']:g})`, {budget['steps']} steps",
        why="this is what differentiating through the adaptation is for",
    )
    return Adapting(fitted, budget, derive(seed, "accuracy", "test"))


def error(trained: Adapting) -> float:
    """Return the mean squared error on new sinusoids after one step, or NaN if a weight is not finite."""
    state, budget = trained.fitted["state"], trained.budget
    if not all(value.isfinite().all() for value in state.values()):
        return math.nan
    return error_after_a_step(state, budget, trained.seed)


def error_after_a_step(state: State, budget: dict[str, Any], seed: int) -> float:
    """Return the mean squared error of a network on sinusoids, each after one step on other points of it."""
    tasks, generator = budget["test_tasks"], torch.Generator().manual_seed(seed)
    inputs, targets = sinusoids(tasks, budget["shots"] + 100, generator)
    networks, known = ManyNetworks(state, tasks), budget["shots"]
    step = torch.optim.SGD(networks.parameters(), lr=budget["inner_rate"])
    with same_numbers(), torch.enable_grad():
        errors(networks(inputs[:, :known]), targets[:, :known]).backward()
        step.step()
        with torch.no_grad():
            return float(errors(networks(inputs[:, known:]), targets[:, known:]) / tasks)
