"""The precision that is chosen for a machine."""

from __future__ import annotations

import pytest
import torch

from amllab import fast_math
from amllab.numerics import autocast_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("reported", "dtype"),
    [
        ({}, None),
        ({"avx512_f": True}, None),
        ({"avx512_bf16": True}, None),  # slower than float32
        ({"avx512_bf16": True, "amx_tile": False, "amx_bf16": False}, None),
        ({"avx512_bf16": True, "amx_tile": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_bfloat16_needs_matrix_units(
    reported: dict[str, bool], dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor computes in bfloat16 only if it has matrix units for it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: reported)
    assert autocast_dtype(CPU) == dtype
    with fast_math(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (dtype or torch.float32)


def test_mps_computes_in_float32() -> None:
    """Apple's GPU computes in float32."""
    assert autocast_dtype(torch.device("mps")) is None
