"""Plain data in, the same out; everything else is refused."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amllab.checks.wire import WireError, pack, unpack

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(plain)
def test_round_trip(value: object) -> None:
    assert unpack(pack(value)) == value  # type: ignore[arg-type]


def test_tensors_keep_type_shape_and_values() -> None:
    shared = torch.randn(4, 3)
    value = {
        "a": [shared, shared.T, shared[1:]],
        "b": torch.tensor(5),
        "c": torch.randn(2).bfloat16(),
        "d": torch.empty(0),
    }
    got = unpack(pack(value))
    for x, y in zip(
        [*value["a"], value["b"], value["c"], value["d"]], [*got["a"], got["b"], got["c"], got["d"]], strict=True
    ):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


def test_not_a_number_is_carried_by_intent() -> None:
    got = unpack(pack([math.nan, math.inf, -math.inf]))
    assert math.isnan(got[0])
    assert got[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [object(), {1: 2}, [lambda: 0], {"a": {"b": b"bytes"}}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(WireError, match="plain data"):
        pack(value)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data)


def test_pickles_are_refused() -> None:
    with pytest.raises(WireError):
        unpack(pickle.dumps({"value": 1}))
