"""The steps of optimizers: which parameters each of them changes, and by which gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from amllab.protocol.schema import FloatMatrix, IntMatrix

MOST = 100  # steps that are recorded, so that an answer stays small


class Steps(TypedDict):
    """The first ``MOST`` steps of any optimizer, in their order.

    Attributes:
        gradients: ``(steps, numbers)``, the gradients of all parameters right after each step, one after the other; 0
            where there is none.
        owned: ``(steps, parameters)``, 1 where the optimizer of the step has the parameter, else 0.
    """

    gradients: FloatMatrix
    owned: IntMatrix


@contextmanager
def recorded_steps(parameters: Sequence[nn.Parameter]) -> Iterator[Steps]:
    """Yield what the steps of all optimizers within the context do to some parameters; it is complete at its end.

    A step that is taken within another one, by an optimizer that is wrapped or by the class that was extended, is part
    of that other one.
    """
    running = 0
    gradients: list[torch.Tensor] = []
    owned: list[list[int]] = []

    def begin(*_: object) -> None:
        nonlocal running
        running += 1

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal running
        running -= 1
        if len(owned) < MOST and not running:
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            owned.append([int(id(parameter) in own) for parameter in parameters])
            gradients.append(flat_gradients(parameters))

    steps: Steps = {
        "gradients": torch.zeros(0, sum(parameter.numel() for parameter in parameters)),
        "owned": torch.zeros(0, len(parameters), dtype=torch.int64),
    }
    handles = register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(note)
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()
        if owned:
            steps["gradients"], steps["owned"] = torch.stack(gradients), torch.tensor(owned)


def flat_gradients(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the gradients of parameters one after the other, float32; 0 where there is none."""
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten().float().cpu().clone()
            for p in parameters
        ]
    )
