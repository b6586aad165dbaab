"""Probe of exercise 1: the contrastive loss of two views, and the gradients of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from amllab.kit.gradients import Evaluated, evaluate
from amllab.kit.probing import Raised, printed_by
from amllab.protocol.lab_probes import probes_of
from amllab.protocol.submission import Functions


def loss(
    functions: Functions, *, z1: Tensor, z2: Tensor, temperature: float | None = None, learning: bool = False
) -> Evaluated | Raised:
    """Call ``nt_xent_loss`` on two views.

    A number that is no tensor is observed as a value, too: its type says what was returned.

    Args:
        functions: Functions of the notebook.
        z1: First view, float ``(n, d)``.
        z2: Second view, float ``(n, d)``.
        temperature: Temperature; ``None`` leaves it out of the call.
        learning: Whether to compute the gradients of both views.
    """
    numbers: list[float] = []

    def call(**arguments: Any) -> Any:
        value = functions.nt_xent_loss(**arguments)
        numbers.extend([float(value)] if isinstance(value, float) else [])
        return value

    given = {} if temperature is None else {"temperature": temperature}
    got = evaluate(call, {"z1": z1, "z2": z2}, ["z1", "z2"] if learning else [], **given)
    if numbers and "error" not in got:
        got["value"] = {"value": torch.tensor(numbers[0])}
    return got


def printed(functions: Functions, *, probe: str, arguments: dict[str, Any]) -> str:
    """Return what the functions print when another probe of this lab puts its question."""
    asked = getattr(probes_of("self_supervised_learning"), probe)
    return printed_by(lambda: asked(functions, **arguments))
