"""Plain data survives a round trip; everything else is refused, and quickly."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import time
import tracemalloc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from amllab.protocol.wire import MAGIC, MAX_DEPTH, MAX_ITEMS, MAX_TEXT, WireError, pack, unpack

keys = st.text().filter(lambda key: not key.startswith("$"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(keys, children, max_size=5),
    max_leaves=20,
)


def framed(text: str | bytes, tensors: bytes = b"") -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return MAGIC + len(text).to_bytes(4, "little") + text + tensors


@given(plain)
def test_round_trip(value: Any) -> None:
    assert unpack(pack(value)) == value


def test_tensors_keep_type_shape_and_values() -> None:
    shared = torch.randn(4, 3)
    value: Any = {
        "a": [shared, shared.T, shared[1:], torch.zeros(1).expand(1000)],
        "b": torch.tensor(5),
        "c": torch.randn(2).bfloat16(),
        "d": torch.empty(0),
    }
    got = unpack(pack(value))
    for x, y in zip([*value["a"], *list(value.values())[1:]], [*got["a"], *list(got.values())[1:]], strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


def test_non_finite_floats_round_trip() -> None:
    """NaN and infinity survive a round trip."""
    got = unpack(pack([math.nan, math.inf, -math.inf]))
    assert math.isnan(got[0])
    assert got[1:] == [math.inf, -math.inf]


deep: Any = 0
for _ in range(MAX_DEPTH + 5):
    deep = [deep]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        {"$tensor": "0"},
        [lambda: 0],
        {"a": {"b": b"bytes"}},
        torch.zeros(2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
        1 << 64,
        "\ud800",
        deep,
        [0] * (MAX_ITEMS + 1),
        "x" * (MAX_TEXT + 1),
    ],
)
def test_pack_refuses_other_values(value: Any) -> None:
    """Values other than plain data within the limits are not packed."""
    with pytest.raises(WireError):
        pack(value)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "9" * 30,
        "9" * 100_000,
        '{"a": 1, "a": 2}',
        '{"$tensor": "0"}',
        '{"$tensor": ["0"]}',
        '{"$float": "1.0"}',
        '{"$float": 1.0}',
        '{"$float": []}',
        '{"$new": 1}',
        '{"$float": "nan", "x": 1}',
        r'"\ud800"',
        r'{"\ud800": 1}',
        "[" * 30 + "]" * 30,
        "[" * 100_000 + "]" * 100_000,
        "[[],[]",
        "",
        b"\xff",
    ],
)
def test_unpack_refuses_odd_text(text: str | bytes) -> None:
    """Text that pack does not write is refused."""
    with pytest.raises(WireError):
        unpack(framed(text))


def test_tensors_referenced_exactly_once() -> None:
    """Every tensor has to be referenced exactly once."""
    one = save({"0": torch.zeros(2)})
    assert unpack(framed('{"$tensor": "0"}', one)).shape == (2,)
    for text in ('[{"$tensor": "0"}, {"$tensor": "0"}]', "0", '{"$tensor": "1"}'):
        with pytest.raises(WireError):
            unpack(framed(text, one))


@pytest.mark.parametrize("tensor", [torch.zeros(2, dtype=torch.complex64), torch.zeros([1] * 9), torch.zeros(2).char()])
def test_tensors_of_unsupported_kinds(tensor: torch.Tensor) -> None:
    """Tensors of other types, or with too many dimensions, are refused."""
    with pytest.raises(WireError):
        unpack(framed('{"$tensor": "0"}', save({"0": tensor})))


def test_headers_with_false_sizes() -> None:
    """Headers with false shapes, offsets or types are refused."""

    def one(**changed: Any) -> bytes:
        header = json.dumps({"0": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}).encode()
        return len(header).to_bytes(8, "little") + header + bytes(8)

    assert unpack(framed('{"$tensor": "0"}', one())).tolist() == [0, 0]
    for changed in (
        {"shape": [1 << 40]},
        {"shape": [0, 1 << 40], "data_offsets": [0, 0]},
        {"shape": [-2]},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": [8, 0]},
        {"dtype": "F4"},
        {"dtype": "O"},
    ):
        with pytest.raises(WireError):
            unpack(framed('{"$tensor": "0"}', one(**changed)))
    with pytest.raises(WireError):
        unpack(framed("0", ((1 << 63) - 1).to_bytes(8, "little")))


def stored(header: Any, data: bytes = b"") -> bytes:
    """Return a frame of tensors with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return framed('{"$tensor": "0"}', len(text).to_bytes(8, "little") + text + data)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "frame",
    [
        stored({"0": {**ENTRY, "shape": [0] + [2**30] * 6, "data_offsets": [0, 0]}}),  # strides that overflow
        stored({"0": {**ENTRY, "shape": [2**30] * 3 + [0], "data_offsets": [0, 0]}}),
        stored({"0": {**ENTRY, "shape": [2**16] * 4, "data_offsets": [0, 0]}}),  # zero bytes modulo 2**64
        stored({"0": {**ENTRY, "shape": [2.0]}}, bytes(8)),
        stored({"0": {**ENTRY, "shape": [True, 2]}}, bytes(8)),
        stored({"0": {**ENTRY, "data_offsets": [0]}}, bytes(8)),
        stored({"0": {**ENTRY, "more": 1}}, bytes(8)),
        stored({"0": ENTRY}, bytes(9)),
        stored({"0": ENTRY, "1": ENTRY}, bytes(8)),  # two tensors at the same offsets
        stored({"0": ENTRY, "__metadata__": {"a": "b"}}, bytes(8)),
        stored(
            b'{"0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "0": ' + json.dumps(ENTRY).encode() + b"}"
        ),
        stored({"0": {**ENTRY, "dtype": "BOOL", "shape": [8]}}, b"\2" * 8),
        stored(b"[" * 100_000),
        stored([]),
        stored(b"{" + b'"":{},' * 150_000 + b'"0":{}}'),
        framed('{"$tensor": "0"}', b"\1"),
    ],
)
def test_headers_not_written_by_pack(frame: bytes) -> None:
    """A header that pack does not write is refused."""
    with pytest.raises(WireError):
        unpack(frame)


sides = st.lists(st.sampled_from([0, 1, 2, 3, 2**15, 2**30, 2**31, 2**62, 2**64, -1, 0.5, None, True]), max_size=9)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "I64", "BF16", "F8_E4M3", "C64", "", 3]),
        "shape": sides,
        "data_offsets": st.lists(st.sampled_from([0, 1, 4, 8, 12, 16, 2**62, 2**64 - 1, -4]), min_size=1, max_size=3),
    },
    optional={"extra": st.none()},
)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["0", "1", "", "__metadata__"]), entries | st.none(), max_size=3),
    st.binary(max_size=16),
)
def test_headers_fuzzed(header: dict[str, Any], data: bytes) -> None:
    """Any header is either read or refused."""
    with contextlib.suppress(WireError):
        unpack(stored(header, data))


@pytest.mark.parametrize(
    "fault", [RuntimeError, MemoryError, OverflowError, type("PanicException", (BaseException,), {})]
)
def test_parser_errors_are_refusals(fault: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception of the parser is a refusal."""

    def fail(data: bytes) -> None:
        raise fault

    monkeypatch.setattr("amllab.protocol.wire.load", fail)
    with pytest.raises(WireError):
        unpack(SAMPLE)


def test_limits_millions_of_lists() -> None:
    """Millions of lists are refused quickly and without much memory."""
    bombs = [
        framed("[" + "[]," * 21_000_000 + "[]]"),
        framed("[" + "[]," * 1_390_000 + "[]]"),
        framed('["' + "," * (MAX_TEXT - 100) + '"]'),
    ]
    tracemalloc.start()
    began = time.process_time()
    for bomb in bombs:
        with pytest.raises(WireError):
            unpack(bomb)
    assert time.process_time() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@given(st.binary(max_size=200) | st.binary(max_size=200).map(framed))
def test_unpack_arbitrary_bytes(data: bytes) -> None:
    """Arbitrary bytes are refused."""
    try:
        unpack(data)
    except WireError:
        return
    json.loads(data[len(MAGIC) + 4 :].decode())  # Hypothesis happened to generate valid JSON


SAMPLE = pack({"a": [1.5, {"b": math.nan}], "c": torch.arange(6).reshape(2, 3), "d": torch.zeros(2), "e": "text"})


@settings(max_examples=500)
@given(st.data())
def test_unpack_damaged_bytes(data: st.DataObject) -> None:
    """Damaged bytes are either read or refused."""
    changed = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    for damaged in (bytes(changed), bytes(changed[:cut])):
        with contextlib.suppress(WireError):
            pack(unpack(damaged))


def test_pickles_are_refused() -> None:
    for data in (pickle.dumps({"value": 1}), framed(pickle.dumps(1)), framed('{"$tensor": "0"}', pickle.dumps(1))):
        with pytest.raises(WireError):
            unpack(data)
