"""Handling of devices that a notebook requests and this machine lacks.

Grading runs on the CPU, even if the student's own machine has other devices.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
ADVICE = (
    'the grading machine has no such device: write `"cuda" if torch.cuda.is_available() else "cpu"`, or use the device of the '
    "model and of the batches that your function is given"
)
# PyTorch's messages about missing devices
_ABSENT = re.compile(
    r"not compiled with (?:CUDA|\w+) enabled|No (?:CUDA|HIP|XPU) GPUs|no NVIDIA driver|invalid device ordinal"
    r"|CUDA driver|torch\.cuda\.is_available\(\) is False|MPS backend|not linked with support for \w+ devices"
    r"|PyTorch is not linked|Cannot access accelerator device|(?:CUDA|XPU|HIP|MPS) (?:is )?not available",
    re.I,
)


def is_absent(message: str) -> bool:
    """Return whether the text of an exception says that this machine lacks a device."""
    return _ABSENT.search(message) is not None


def on_this_machine(call: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that it runs with a default device that this machine has.

    ``torch.set_default_device("cuda")`` in a cell stays in effect until the end of the notebook. If that device does
    not work here, the call runs with PyTorch's own default, and the setting is restored afterwards.
    """

    @functools.wraps(call)
    def called(*arguments: P.args, **named: P.kwargs) -> T:
        import torch

        try:
            before = torch.get_default_device()
            works = before.type == "cpu" or (before.type != "meta" and torch.zeros(1).tolist() == [0.0])
        except Exception:  # each backend raises its own type
            before, works = None, False
        if works:
            return call(*arguments, **named)
        torch.set_default_device(None)
        try:
            return call(*arguments, **named)
        finally:
            if before is not None:
                torch.set_default_device(before)

    return called
