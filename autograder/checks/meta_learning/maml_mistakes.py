"""Adaptations, right and wrong, by which the hidden checks recognise what a submission computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from amllab.checks.meta_learning.maml_nets import LOSSES, new_net
from amllab.checks.meta_learning.maml_steps import flat
from amllab.checks.meta_learning.maml_tasks import Task, slopes_of
from amllab.kit.expectations import close

State = dict[str, Tensor]
Loss = Callable[..., Tensor]

NEAR = 1e-3  # largest difference from the results of a wrong adaptation, relative to what the steps change

# the head of each network of the hidden checks
_HEADS = {"classifier": "4", "regression": "2", "images": "7", "branched": "head"}


def gradient_of(task: Task, at: State, rows: slice = slice(None), loss: Loss | None = None) -> State:
    """Return the gradient of the loss of some examples of a task for the parameters of the network."""
    net, loss = new_net(task.net, task.state), loss or LOSSES[task.loss or "F.cross_entropy"]
    given = {name: tensor.detach().clone().requires_grad_() for name, tensor in at.items()}
    with torch.enable_grad():
        value = loss(functional_call(net, given, (task.inputs[rows],)), task.targets[rows])
    found = torch.autograd.grad(value, list(given.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(given, found, strict=True))


def _norm(state: State) -> Tensor:
    length: Tensor = flat(state, state).norm()
    return length


def _plus(one: State, other: State, factor: float | Tensor) -> State:
    return {name: one[name] + factor * other[name] for name in one}


def descent(
    task: Task,
    *,
    steps: Callable[[int], int] = lambda steps: steps,
    rate: Callable[[float, int, int], float] = lambda lr, i, steps: lr,
    change: Callable[[State], State] = lambda gradient: gradient,
    loss: Loss | None = None,
    keeps: float = 0.0,
    at_the_start: bool = False,
    from_the_start: bool = False,
    mean: bool = False,
    moving: Callable[[str, str], bool] = lambda net, name: True,
    rows: Callable[[int], Sequence[slice]] = lambda n: [slice(None)],
) -> State:
    """Return the parameters after gradient descent; the defaults follow the contract.

    Args:
        task: The task.
        steps: Function of ``steps``: how many are taken.
        rate: Function of ``lr``, number of the step, and ``steps``: the learning rate of the step.
        change: Function of the gradient: the change, up to the learning rate.
        loss: Another loss; ``None`` for that of the task.
        keeps: Share of the step before that each step adds.
        at_the_start: Whether all steps use the gradient at the parameters of the model.
        from_the_start: Whether each step starts there.
        mean: Whether the result is the mean over the steps.
        moving: Function of network and parameter: whether the parameter is adapted.
        rows: Function of the number of examples: those of each part of a step.
    """
    wanted, lr = task.arguments["steps"], task.arguments["lr"]
    at, velocity, path = task.state, {name: torch.zeros_like(t) for name, t in task.state.items()}, []
    for i in range(steps(wanted)):
        for part in rows(len(task.inputs)):
            gradient = change(gradient_of(task, task.state if at_the_start else at, part, loss))
            velocity = _plus(gradient, velocity, keeps)
            moved = _plus(task.state if from_the_start else at, velocity, -rate(lr, i, wanted))
            at = {name: moved[name] if moving(task.net, name) else task.state[name] for name in at}
        path.append(at)
    return {name: torch.stack([at[name] for at in path]).mean(0) for name in at} if mean else at


def _adam(task: Task) -> State:
    at = {name: tensor.detach().clone().requires_grad_() for name, tensor in task.state.items()}
    optimizer = torch.optim.Adam(list(at.values()), lr=task.arguments["lr"])
    for _ in range(task.arguments["steps"]):
        for name, gradient in gradient_of(task, at).items():
            at[name].grad = gradient
        optimizer.step()
    return {name: tensor.detach() for name, tensor in at.items()}


def _of_head(net: str, name: str) -> bool:
    return name.split(".")[0] == _HEADS[net]


def _clipped(gradient: State, longest: float = 1.0) -> State:
    share = torch.clamp(longest / _norm(gradient), max=1.0)
    return {name: share * tensor for name, tensor in gradient.items()}


# symptom -> what an adaptation with this mistake does otherwise
_MISTAKES: dict[str, dict[str, Any]] = {
    "ascent": {"rate": lambda lr, i, steps: -lr},
    "nothing moves": {"rate": lambda lr, i, steps: 0.0},
    "lr ignored": {"rate": lambda lr, i, steps: 0.01},
    "lr is 1": {"rate": lambda lr, i, steps: 1.0},
    "lr squared": {"rate": lambda lr, i, steps: lr**2},
    "half the step": {"rate": lambda lr, i, steps: lr / 2},
    "twice the step": {"rate": lambda lr, i, steps: 2 * lr},
    "shared lr": {"rate": lambda lr, i, steps: lr / steps},
    "falling lr": {"rate": lambda lr, i, steps: lr / (i + 1)},
    "one step": {"steps": lambda steps: 1},
    "one too many": {"steps": lambda steps: steps + 1},
    "one too few": {"steps": lambda steps: steps - 1},
    "five steps at most": {"steps": lambda steps: min(steps, 5)},
    "gradient at the start": {"at_the_start": True},
    "from the start": {"from_the_start": True},
    "momentum": {"keeps": 0.9},
    "sum of gradients": {"keeps": 1.0},
    "mean of the steps": {"mean": True},
    "signs": {"change": lambda gradient: {name: tensor.sign() for name, tensor in gradient.items()}},
    "length 1": {"change": lambda gradient: {name: tensor / _norm(gradient) for name, tensor in gradient.items()}},
    "clipped": {"change": _clipped},
    "clipped at 10": {"change": lambda gradient: _clipped(gradient, 10)},
    "elements clipped at 10": {"change": lambda gradient: {name: t.clamp(-10, 10) for name, t in gradient.items()}},
    "first example": {"rows": lambda n: [slice(1)]},
    "last example left out": {"rows": lambda n: [slice(n - 1)]},
    "one example a step": {"rows": lambda n: [slice(i, i + 1) for i in range(n)]},
    "head alone": {"moving": _of_head},
    "all but the head": {"moving": lambda net, name: not _of_head(net, name)},
    "biases stay": {"moving": lambda net, name: not name.endswith("bias")},
    "biases alone": {"moving": lambda net, name: name.endswith("bias")},
    "cross-entropy always": {"loss": F.cross_entropy},
    "squared error always": {"loss": F.mse_loss},
    "arguments swapped": {},  # see below: the loss depends on the task
}

# those that do not change the first step
LATER = frozenset({
    "one step", "five steps at most", "shared lr", "falling lr", "gradient at the start", "from the start", "momentum", "sum of gradients",
    "mean of the steps",
})  # fmt: skip

# in addition to those of the public checks
SAYS = {
    "clipped at 10": "this is where a gradient leads whose length is limited to 10",
    "elements clipped at 10": "this is where a gradient leads whose elements are limited to 10",
    "five steps at most": "this is where five steps lead",
    "last example left out": "this is where the gradient without the last example leads",
    "one example a step": "this is where one step for each example leads: a step uses the mean loss of all of them",
    "head alone": "only the head was adapted: every parameter of the model is asked for",
    "all but the head": "the head stays as it was: every parameter of the model is asked for",
    "biases stay": "biases stay as they were: every parameter of the model is asked for",
    "biases alone": "only biases were adapted: every parameter of the model is asked for",
    "cross-entropy always": "this is where the cross-entropy leads, whatever `loss_fn` is",
    "squared error always": "this is where the squared error leads, whatever `loss_fn` is",
    "arguments swapped": "this is where `loss_fn(targets, predictions)` leads: predictions come first",
    "Adam": "this is where Adam leads: plain gradient descent is asked for",
    "last step alone": "the gradient passes through the last step alone: the others count as constants",
    "first step alone": "the gradient passes through the first step alone: the others count as constants",
    "parameters detached": "this is the gradient if the parameters that a step starts from are constants there",
}


def wrong_adaptations(task: Task) -> dict[str, State]:
    """Return where the known mistakes lead on a task; those that end in an error there are left out."""
    found = {"Adam": _adam(task)}
    for name, changed in _MISTAKES.items():
        if name == "arguments swapped":
            own = LOSSES[task.loss or "F.cross_entropy"]
            changed = {"loss": lambda one, other, own=own: own(other, one)}
        # class numbers in place of logits raise an error, or warn about another shape
        with suppress(RuntimeError, ValueError, IndexError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = descent(task, **changed)
    return found


def recognised(task: Task, adapted: State) -> set[str]:
    """Return the mistakes that lead to these parameters."""
    wanted = {name: flat(state, task.state) for name, state in wrong_adaptations(task).items()}
    start, seen = flat(task.state, task.state), flat(adapted, task.state)
    return {name for name, state in wanted.items() if close(state - start, seen - start, NEAR)}


def _through(task: Task, graph: Callable[[int, int], bool], *, detached: bool = False) -> Tensor:
    """Return the slopes of the query loss by a gradient that passes through some of the steps.

    Args:
        task: The task.
        graph: Function of the number of a step and of the number of all steps: whether it passes through the step.
        detached: Whether the parameters that a step starts from are constants, but for the gradient there.
    """
    net, loss, steps = new_net(task.net, task.state), LOSSES[task.loss or "F.cross_entropy"], task.arguments["steps"]
    model = {name: tensor.clone().requires_grad_() for name, tensor in task.state.items()}
    at = dict(model)
    with torch.enable_grad():
        for i in range(steps):
            value = loss(functional_call(net, at, (task.inputs,)), task.targets)
            found = torch.autograd.grad(value, list(at.values()), create_graph=graph(i, steps))
            parts = zip(at.items(), found, strict=True)
            at = {name: (p.detach() if detached else p) - task.arguments["lr"] * g for (name, p), g in parts}
        value = loss(functional_call(net, at, (task.query["inputs"],)), task.query["targets"])
        found = torch.autograd.grad(value, list(model.values()), allow_unused=True, materialize_grads=True)
    return slopes_of(dict(zip(model, found, strict=True)), task)


# symptom -> slopes by a gradient with this mistake
GRAPHS: dict[str, Callable[[Task], Tensor]] = {
    "last step alone": lambda task: _through(task, lambda i, steps: i == steps - 1),
    "first step alone": lambda task: _through(task, lambda i, steps: i == 0),
    "parameters detached": lambda task: _through(task, lambda i, steps: True, detached=True),
    "every step a constant": lambda task: _through(task, lambda i, steps: False),
}


def right_slopes(task: Task) -> Tensor:
    """Return the slopes of the query loss after the adaptation of the contract, by its gradient."""
    return _through(task, lambda i, steps: True)
