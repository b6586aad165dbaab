"""Tasks to adapt a network to, and the slope of the query loss after an adaptation, measured without any gradient.

The gradient of the query loss says how this loss changes if the weights of the model change. So does a measurement: the
model is adapted from weights that differ a little, and the losses are compared. Both are those of the same submission,
so that a wrong adaptation with right gradients passes, and loses its points where adapted weights are checked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from amllab.checks.meta_learning.maml_nets import shapes_of
from amllab.kit.expectations import TOLERANCE, Call, close, returns
from amllab.protocol.submission import Submission

STEP = 1e-5  # length of a small change of the weights
STILL = 1e-9  # a change of the weights that is none, relative to the largest weight

# network -> lines that make it, and data for it, in a student's notebook
_LINES = {
    "regression": (
        "model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2))\nx, y = torch.randn(6, 1), torch.randn(6, 2)"
    ),
    "classifier": (
        "model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))\n"
        "x, y = torch.randn(6, 3), torch.arange(6) % 3"
    ),
    "images": (
        "model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(48, 3))\n"
        "x, y = torch.randn(6, 1, 4, 4), torch.arange(6) % 3"
    ),
    "branched": (
        "model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 2))\n"
        "x, y = torch.randn(6, 3), torch.rand(6, 2)"
    ),
}


@dataclass(frozen=True)
class Task:
    """A network, its weights, and a task.

    Attributes:
        net: Name of the network.
        state: Its parameters, float64.
        inputs: Support inputs.
        targets: Their targets.
        query: ``inputs`` and ``targets`` of the query set; empty for none.
        loss: Name of the loss; ``None`` leaves it out of the call.
        arguments: Further arguments of the call.
        seed: Seed of the global random numbers.
        lines: Lines that make model, ``x`` and ``y`` in a student's notebook; empty for random ones.
    """

    net: str
    state: dict[str, Tensor]
    inputs: Tensor
    targets: Tensor
    query: dict[str, Tensor] = field(default_factory=dict)
    loss: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    lines: str = ""

    def given(self, **arguments: Any) -> Task:
        """Return the task with other arguments of the call in addition."""
        return replace(self, arguments={**self.arguments, **arguments})

    def question(self) -> dict[str, Any]:
        """Return the arguments of the probe ``adapt``."""
        return {"state": self.state, "query": self.query, **self.shared()}

    def shared(self) -> dict[str, Any]:
        """Return the arguments that all probes of this exercise have."""
        return {name: value for name, value in vars(self).items() if name not in ("state", "query", "lines")}

    def call(self, after: str = "") -> Call:
        """Return the call as a student reads it; ``after``: lines that follow it."""
        words = [f"{name}={_number(value)}" for name, value in self.arguments.items()]
        words += [] if self.loss is None else [f"loss_fn={self.loss}"]
        text = f"maml_adapt({', '.join(('model', 'x', 'y', *words))})"
        lines = self.lines or _LINES[self.net.partition(",")[0]]
        return Call(f"adapted = {text}\n{after}" if after else text, lines)

    def printed(self) -> str:
        """Return the lines that print what the call returns."""
        return self.call("print(adapted)").lines

    def differentiated(self) -> str:
        """Return the lines that reproduce the gradients of a loss after the call."""
        loss = f"loss = {self.loss or 'F.cross_entropy'}(torch.func.functional_call(model, adapted, (x,)), y)"
        return self.call(f"{loss}\ntorch.autograd.grad(loss, list(model.parameters()), allow_unused=True)").lines


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def normal(rng: random.Random, *shape: int) -> Tensor:
    """Return random numbers, float64, with mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def weights(rng: random.Random, net: str) -> dict[str, Tensor]:
    """Return random parameters of a network."""
    return {name: normal(rng, *shape) for name, shape in shapes_of(net).items()}


def regression(rng: random.Random, **arguments: Any) -> Task:
    """Return a task with two numbers to predict from one, and a query set."""
    data = {"inputs": normal(rng, 5, 1), "targets": 2 * normal(rng, 5, 2)}
    inputs, targets = normal(rng, 6, 1), 2 * normal(rng, 6, 2)
    state = weights(rng, "regression")
    return Task("regression", state, inputs, targets, data, "F.mse_loss", arguments, rng.getrandbits(31))


def still(state: Mapping[str, Tensor], adapted: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the parameters that an adaptation left where they were."""
    largest = max(float(tensor.abs().max()) for tensor in state.values())
    return [name for name in state if float((adapted[name] - state[name]).abs().max()) < STILL * largest]


def usable(got: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    """Return whether an answer has adapted parameters, and some of them differ from those of the model."""
    return bool(got["adapted"]) and len(still(state, got["adapted"])) < len(state)


def directions(task: Task) -> dict[str, Tensor]:
    """Return a direction for each parameter of the network, of length 1, always the same for the same task."""
    rng = random.Random(task.seed)
    return {name: (change := normal(rng, *tensor.shape)) / change.norm() for name, tensor in task.state.items()}


def measured_slopes(submission: Submission, task: Task) -> Tensor:
    """Return how the query loss after an adaptation changes along :func:`directions`.

    The slope is the difference of the losses after adaptations from both sides, divided by the length between them. It
    is measured with two lengths. If the results differ, as in a kink of a wrong adaptation, it is NaN.

    Raises:
        CheckFailure: A call raised an error.
    """
    places = [
        {**task.state, name: task.state[name] + side * length * change}
        for length in (STEP, STEP / 10)
        for name, change in directions(task).items()
        for side in (1, -1)
    ]
    got = submission.ask("query_losses", states=places, query=task.query, **task.shared())
    losses = returns(got, task.call())["losses"]["value"].view(2, -1, 2)
    differences = losses[:, :, 0] - losses[:, :, 1]
    long, short = differences[0] / (2 * STEP), differences[1] / (2 * STEP / 10)
    smooth = (long - short).abs() < TOLERANCE / 2 * long.abs().max()
    return torch.where(smooth, short, torch.nan)


def same_slopes(measured: Tensor, seen: Tensor) -> bool:
    """Return whether slopes are those that were measured, where there are any."""
    smooth = ~measured.isnan()
    return close(measured[smooth], seen[smooth])


def slopes_of(gradients: Mapping[str, Tensor], task: Task) -> Tensor:
    """Return the slopes along :func:`directions` that gradients say; parameters without one have a slope of 0."""
    zero = torch.zeros((), dtype=torch.float64)
    found = [
        (gradients[name] * change).sum() if name in gradients else zero for name, change in directions(task).items()
    ]
    return torch.stack(found)


def constant_steps(got: Mapping[str, Any], task: Task) -> bool:
    """Return whether the model got the gradients of the adapted parameters, as if the steps were constants."""
    return close(slopes_of(got["constants"], task), slopes_of(got["gradients"], task))
