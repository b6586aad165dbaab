"""What checks expect of the value of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amllab.kit.expectations import Call, returned
from amllab.protocol.failure import expect


def expect_one_number(got: Mapping[str, Any], call: Call) -> None:
    """Fail the check unless a loss is a floating-point tensor with one number.

    Args:
        got: The answer of :func:`amllab.kit.gradients.evaluate`; no error.
        call: The call.
    """
    tensor = got["value"].get("value") if got["type"] != "float" else None
    one = tensor is not None and tensor.numel() == 1
    seen = returned(got["type"], "loss")
    if got["type"] == "float":
        seen = "a plain number was returned: a tensor that went through `.item()` or `float()` has no gradient any more"
    elif tensor is not None:
        seen = f"a tensor of {tensor.dtype} with shape {tuple(tensor.shape)} was returned"
    expect(
        one and tensor.is_floating_point(),
        expected=f"`{call.text}` returns a floating-point tensor with one number",
        seen=seen,
        why="training calls `loss.backward()`, which wants a tensor with one number",
        symptom={"NoneType": "nothing returned", "float": "a number returned"}.get(
            got["type"], "no tensor" if tensor is None else "several numbers" if not one else "no floating-point tensor"
        ),
        reproduce=call.lines,
    )
