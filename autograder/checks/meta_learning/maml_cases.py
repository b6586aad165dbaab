"""Networks and tasks on which the hidden checks of exercise 3 compare adaptations: the same for all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from amllab.checks.meta_learning.maml_nets import shapes_of
from amllab.checks.meta_learning.maml_steps import flat
from amllab.checks.meta_learning.maml_tasks import Task, normal
from amllab.kit.expectations import TOLERANCE
from amllab.seeds import derive
from autograder.checks.meta_learning.maml_mistakes import GRAPHS, LATER, descent, right_slopes, wrong_adaptations

APART = 100 * TOLERANCE  # least difference of a wrong adaptation in one of the tasks, relative to what the steps change
SMALL = 0.004  # least change of a parameter, relative to the largest one


def weights_near_usual(rng: random.Random, net: str) -> dict[str, Tensor]:
    """Return random parameters of about the size that PyTorch gives them."""
    found = {}
    for name, shape in shapes_of(net).items():
        drawn = normal(rng, *shape)
        if len(shape) >= 2:
            found[name] = 1.5 * drawn / drawn[0].numel() ** 0.5
        else:
            found[name] = 0.3 * drawn + (0 if name.endswith(("bias", "offset")) else 1)
    return found


def _inputs(rng: random.Random, net: str, n: int) -> Tensor:
    shape = {"classifier": (3,), "regression": (1,), "images": (1, 4, 4), "branched": (3,)}[net]
    return normal(rng, n, *shape)


def _targets(rng: random.Random, loss: str, n: int) -> Tensor:
    if loss == "F.cross_entropy":
        return torch.tensor(rng.sample([*range(3)] * n, n))
    drawn = normal(rng, n, 2)
    # far from the predictions, for gradients that any clipping would change
    return 2 * drawn.abs() if loss == "F.poisson_nll_loss" else 20 * drawn


def _task(rng: random.Random, net: str, loss: str, lr: float, steps: int) -> Task:
    state, n = weights_near_usual(rng, net), rng.randint(6, 9)
    query = {"inputs": _inputs(rng, net, n + 1), "targets": _targets(rng, loss, n + 1)}
    arguments = {"steps": steps, "lr": round(lr * rng.uniform(0.8, 1.2), 3)}
    inputs, targets = _inputs(rng, net, n), _targets(rng, loss, n)
    return Task(net, state, inputs, targets, query, loss, arguments, rng.getrandbits(31))


_KINDS = (
    ("classifier", "F.cross_entropy", 0.7),
    ("regression", "F.poisson_nll_loss", 0.15),
    ("images", "F.cross_entropy", 0.5),
    ("branched", "F.mse_loss", 0.01),
)


@lru_cache(maxsize=4)
def one_step(run_seed: int) -> tuple[Task, ...]:
    """Return tasks for one step; together they tell the known mistakes in a step from the contract's one."""
    rng = random.Random(derive(run_seed, "one step of maml_adapt"))
    while True:
        tasks = tuple(next(_good(rng, *kind, steps=1)) for kind in _KINDS)
        if _told_apart(tasks, but=LATER):
            return tasks


@lru_cache(maxsize=4)
def several_steps(run_seed: int) -> tuple[Task, ...]:
    """Return tasks for several steps; together they tell all known mistakes from the contract's adaptation."""
    rng = random.Random(derive(run_seed, "several steps of maml_adapt"))
    while True:
        steps = rng.sample([2, 3, 4, 6], len(_KINDS))
        tasks = tuple(next(_good(rng, *kind, steps=n)) for kind, n in zip(_KINDS, steps, strict=True))
        if _told_apart(tasks):
            return tasks


def classification(rng: random.Random) -> Task:
    """Return a task for a call that passes nothing but model, inputs and targets."""
    net, loss, lr = _KINDS[0]
    return replace(next(_good(rng, net, loss, lr, steps=1)), loss=None, arguments={})


def _good(rng: random.Random, net: str, loss: str, lr: float, steps: int) -> Iterator[Task]:
    """Yield tasks whose steps change every parameter, and where a gradient that misses a step is another one."""
    while True:
        task = _task(rng, net, loss, lr, steps)
        changes = {name: tensor - task.state[name] for name, tensor in descent(task).items()}
        largest = [float(tensor.abs().max()) for tensor in changes.values()]
        if not (0.05 < max(largest) < 2 and min(largest) > SMALL * max(largest)):
            continue
        right = right_slopes(task)
        names = [name for name in GRAPHS if steps > 1 or not name.endswith("step alone")]
        if not 0.1 < float(right.abs().max()) < 2000:
            continue
        if all(_differ(GRAPHS[name](task), right) for name in names):
            yield task


def _told_apart(tasks: tuple[Task, ...], but: frozenset[str] = frozenset()) -> bool:
    told: set[str] = set()
    names: set[str] = set()
    for task in tasks:
        start = flat(task.state, task.state)
        right = flat(descent(task), task.state) - start
        found = {name: flat(state, task.state) - start for name, state in wrong_adaptations(task).items()}
        names |= found.keys()
        told |= {name for name, changes in found.items() if _differ(changes, right)}
    return names - but <= told


def _differ(found: Tensor, right: Tensor) -> bool:
    # what is no number differs from any number
    return not float((found - right).abs().max()) <= APART * float(right.abs().max())
