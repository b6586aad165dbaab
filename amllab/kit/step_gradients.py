"""Steps of optimizers and the backward passes before them: which gradients a step used, and whether it should have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from amllab.protocol.schema import FloatMatrix, IntMatrix

MOST = 24  # steps whose gradients are recorded


class StepGradients(TypedDict):
    """The steps of all optimizers, in their order, and the gradients of the first ``MOST`` of them.

    The gradients of all parameters come one after the other, ``(steps, numbers)``; 0 where there is none, or where the
    optimizer of the step does not have the parameter.

    Attributes:
        taken: Number of steps.
        sizes: Number of elements of each parameter.
        owned: ``(steps, parameters)``, 1 where the optimizer of the step has the parameter, else 0.
        used: The gradients right after the step.
        since: Sum of the gradients that backward passes have added since the last step that had the parameter.
        last: The gradients that the last backward pass has added.
        piled_up: How often a backward pass found a gradient of a time before the weights last moved.
        unused: Number of parameters in an optimizer with gradients at the end that no step has used.
    """

    taken: int
    sizes: list[int]
    owned: IntMatrix
    used: FloatMatrix
    since: FloatMatrix
    last: FloatMatrix
    piled_up: int
    unused: int


class _Parameter:
    """What happened to a parameter."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.since = self.last = torch.zeros_like(parameter)
        self.before: Tensor | None = None  # its value when a backward pass last reached it
        self.piled_up = 0
        self.owned = False

    def arrive(self, gradient: Tensor) -> None:
        """Note the gradient that a backward pass is about to add."""
        parameter, gradient = self.parameter.detach(), gradient.detach().clone()
        there = self.parameter.grad
        if self.before is not None and there is not None and bool(there.any()):
            self.piled_up += not torch.equal(self.before, parameter)
        self.before = parameter.clone()
        self.last, self.since = gradient, self.since + gradient


@contextmanager
def recorded_gradients(parameters: Sequence[nn.Parameter]) -> Iterator[StepGradients]:
    """Yield what the steps of all optimizers within the context do to some parameters; it is complete at its end.

    A step that is taken within another one, by an optimizer that is wrapped or by the class that was extended, is part
    of that other one.
    """
    running = 0
    notes = [_Parameter(parameter) for parameter in parameters]
    rows: dict[str, list[Tensor]] = {"owned": [], "used": [], "since": [], "last": []}
    steps: StepGradients = {
        "taken": 0,
        "sizes": [parameter.numel() for parameter in parameters],
        "owned": torch.zeros(0, len(parameters), dtype=torch.int64),
        "used": torch.zeros(0, 0),
        "since": torch.zeros(0, 0),
        "last": torch.zeros(0, 0),
        "piled_up": 0,
        "unused": 0,
    }

    def begin(*_: object) -> None:
        nonlocal running
        running += 1

    def end(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal running
        running -= 1
        if running:
            return
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        has = [id(note.parameter) in own for note in notes]
        steps["taken"] += 1
        if len(rows["owned"]) < MOST:
            rows["owned"].append(torch.tensor(has).long())
            nothing = [torch.zeros_like(note.parameter) for note in notes]
            for name, values in {
                "used": [
                    none if n.parameter.grad is None else n.parameter.grad
                    for n, none in zip(notes, nothing, strict=True)
                ],
                "since": [note.since for note in notes],
                "last": [note.last for note in notes],
            }.items():
                parts = [v if h else none for v, h, none in zip(values, has, nothing, strict=True)]
                rows[name].append(torch.cat([part.detach().flatten().float().cpu() for part in parts]))
        for note, is_own in zip(notes, has, strict=True):
            if is_own:
                note.since, note.owned = torch.zeros_like(note.since), True

    handles = [
        register_optimizer_step_pre_hook(begin),
        register_optimizer_step_post_hook(end),
        *(
            parameter.register_hook(partial(_Parameter.arrive, note))
            for parameter, note in zip(parameters, notes, strict=True)
        ),
    ]
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()
        for name, found in rows.items():
            if found:
                steps[name] = torch.stack(found)  # type: ignore[literal-required]
        steps["piled_up"] = sum(note.piled_up for note in notes)
        steps["unused"] = sum(note.owned and bool(note.since.any()) for note in notes)
