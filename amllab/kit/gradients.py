"""Call a function of the submission on tensors, and observe its value, its gradients and what it did to its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.kit.probing import Raised, State, raised, type_name
from amllab.protocol.submission import capture_error


class Evaluated(TypedDict):
    """What a function returned for some tensors.

    Attributes:
        type: Type of what it returned, such as ``"Tensor"``.
        value: The returned tensor, under the name ``"value"``; empty if it returned something else.
        gradients: Name of an input -> gradient of the sum of the value; inputs that no gradient reaches are missing.
        changed: Names of the inputs that were changed in place.
    """

    type: str
    value: State
    gradients: State
    changed: list[str]


def evaluate(
    function: Callable[..., Any], tensors: Mapping[str, Tensor], learning: Sequence[str] = (), **arguments: Any
) -> Evaluated | Raised:
    """Call a function with tensors by name, and compute the gradients of the sum of its value.

    A probe returns this as its answer. The inputs are copies, so that nothing that a submission keeps or changes
    reaches another question.

    Args:
        function: Function of the submission.
        tensors: Inputs by the names of its parameters.
        learning: Names of the floating-point inputs whose gradients are computed.
        arguments: Further arguments, which are not tensors.

    Returns:
        The observations, or the error that the call or its backward pass raised.
    """
    inputs = {name: tensor.detach().clone().requires_grad_(name in learning) for name, tensor in tensors.items()}
    # no leaves, which must not be changed in place, but tensors as a network computes them
    given = {name: tensor.clone() for name, tensor in inputs.items()}

    def call() -> Any:
        with torch.enable_grad():
            value = function(**given, **arguments)
            if isinstance(value, Tensor) and value.requires_grad and learning:
                value.sum().backward()
        return value

    got = capture_error(call)
    if "error" in got:
        return raised(got)
    value = got["value"]
    return {
        "type": type_name(value),
        "value": {"value": value.detach().clone()} if isinstance(value, Tensor) else {},
        "gradients": {name: tensor.grad for name, tensor in inputs.items() if tensor.grad is not None},
        "changed": [name for name, tensor in given.items() if not torch.equal(tensor.detach(), tensors[name])],
    }
