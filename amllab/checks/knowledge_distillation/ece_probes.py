"""Probe of exercise 3: the calibration error that a submission computes from logits and labels."""

from __future__ import annotations

import numbers
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.kit.probing import Raised, State, raised, type_name
from amllab.protocol.submission import Functions, capture_error


class Calibration(TypedDict):
    """What ``expected_calibration_error`` returned.

    Attributes:
        type: Type of what was returned.
        entries: Types of the entries, if that is a tuple or a list; at most eight.
        value: The number or numbers, float64, under the name ``"value"``; those of the first entry of a tuple or list.
            Empty if there are none.
        changed: Names of the inputs that were changed in place.
    """

    type: str
    entries: list[str]
    value: State
    changed: list[str]


def calibration_error(
    functions: Functions, *, logits: Tensor, labels: Tensor, n_bins: int | None = None, learning: bool = False
) -> Calibration | Raised:
    """Call ``expected_calibration_error`` on the logits of some examples.

    Args:
        functions: Functions of the notebook.
        logits: Float ``(n, classes)``.
        labels: Classes, int64 ``(n,)``.
        n_bins: Number of bins; ``None`` leaves it out of the call.
        learning: Whether the logits require a gradient, as those of a network do.
    """
    leaf = logits.clone().requires_grad_(learning)
    # no leaf, which would refuse changes in place, but a tensor as a network computes it
    given = {"logits": leaf.clone(), "labels": labels.clone()}
    more = {} if n_bins is None else {"n_bins": n_bins}

    def call() -> Any:
        with torch.enable_grad():
            return functions.expected_calibration_error(given["logits"], given["labels"], **more)

    got = capture_error(call)
    if "error" in got:
        return raised(got)
    answer = got["value"]
    several = isinstance(answer, (tuple, list))
    value = _tensor(answer[0] if several and answer else answer)
    return {
        "type": type_name(answer),
        "entries": [type_name(entry) for entry in answer[:8]] if several else [],
        "value": {} if value is None else {"value": value},
        "changed": [
            n for n, own in (("logits", logits), ("labels", labels)) if not torch.equal(given[n].detach(), own)
        ],
    }


def _tensor(value: Any) -> Tensor | None:
    """Return a number, an array or a tensor as numbers in float64; ``None`` if it is none of these."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Real):  # NumPy's numbers are registered as such
        return torch.tensor(float(value), dtype=torch.float64)
    if type(value).__module__ == "numpy":  # arrays, also of no dimension
        value = capture_error(lambda: torch.as_tensor(value)).get("value")
    if not isinstance(value, Tensor) or value.is_complex():
        return None
    return value.detach().to(device="cpu", dtype=torch.float64, copy=True)
