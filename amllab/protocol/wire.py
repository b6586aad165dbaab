"""The message format between a check and a submission: plain data as bytes, never code.

A value consists of ``None``, booleans, numbers, strings, tensors, lists and dictionaries with string keys. A frame is

    ``MAGIC`` | length of the text, 4 bytes, little endian | text: JSON, UTF-8 | tensors: a safetensors file, or nothing

Neither format can carry code. In the text, ``{"$tensor": i}`` stands for the tensor named ``i``, and
``{"$float": "nan"}`` for a number without a JSON form. The reader trusts nothing: it limits sizes before it parses
anything, and refuses whatever :func:`pack` would not write.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import torch
from safetensors.torch import load, save
from torch import Tensor

Data = None | bool | int | float | str | Tensor | list["Data"] | dict[str, "Data"]

MAGIC = b"AML1"
MAX_TEXT = 4 << 20  # bytes of JSON
MAX_ITEMS = 200_000  # values in the text: an empty list of two bytes takes a hundred bytes in memory
MAX_DEPTH = 16
MAX_TENSORS_HEADER = 1 << 20  # bytes of the safetensors header: about 10,000 tensors
MAX_SIDE = 1 << 31  # of a tensor: an empty one could claim any size
MAX_DIMENSIONS = 8
# dtypes by the names that safetensors gives them
_STORED = {
    "F32": torch.float32,
    "F64": torch.float64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPES = set(_STORED.values())

_TENSOR, _FLOAT = "$tensor", "$float"
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_HEAD = len(MAGIC) + 4


class WireError(ValueError):
    """Bytes or values that do not have this format."""


def pack(value: Data) -> bytes:
    """Pack a value into bytes.

    Raises:
        WireError: The value contains something that is not plain data, or too much data; the message names it.
    """
    tensors: dict[str, Tensor] = {}

    def encode(item: Any, path: str) -> Any:
        if path.count("/") >= MAX_DEPTH:
            raise WireError(f"{path} is nested too deeply")
        if item is None or isinstance(item, (bool, str)):
            return item
        if isinstance(item, int):
            if not -(1 << 63) <= item < 1 << 64:
                raise WireError(f"{path} is an integer of more than 64 bits")
            return int(item)
        if isinstance(item, float):
            return float(item) if math.isfinite(item) else {_FLOAT: repr(float(item))}
        if isinstance(item, Tensor) and item.dtype in DTYPES and item.layout == torch.strided:
            key = str(len(tensors))
            # copied, because safetensors refuses tensors that share memory
            tensors[key] = item.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {_TENSOR: key}
        if isinstance(item, (list, tuple)):
            return [encode(v, f"{path}/{i}") for i, v in enumerate(item)]
        if isinstance(item, dict) and all(isinstance(k, str) and not k.startswith("$") for k in item):
            return {k: encode(v, f"{path}/{k.replace('/', '')}") for k, v in item.items()}
        kind = f"tensor of {item.dtype}" if isinstance(item, Tensor) else type(item).__name__
        raise WireError(f"{path} is a {kind}, not plain data")

    try:
        text = json.dumps(encode(value, "value"), allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise WireError("a string is not plain data: it has an unpaired surrogate") from error
    if len(text) > MAX_TEXT or _items(text) > MAX_ITEMS:
        raise WireError(f"the value is too large: {len(text)} bytes without its tensors")
    return MAGIC + len(text).to_bytes(4, "little") + text + (save(tensors) if tensors else b"")


def unpack(data: bytes) -> Any:
    """Unpack what :func:`pack` wrote.

    Raises:
        WireError: The bytes are something else.
    """
    size = int.from_bytes(data[len(MAGIC) : _HEAD], "little")
    text = data[_HEAD : _HEAD + size]
    if data[: len(MAGIC)] != MAGIC or len(text) != size or size > MAX_TEXT or _items(text) > MAX_ITEMS:
        raise WireError("not a packed value, or too large")
    try:
        tensors = _tensors(data[_HEAD + size :])
        value = _decode(_parsed(text), tensors, 0)
    except (WireError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # any error of a parser; a panic in Rust is not an Exception
        raise WireError(f"not a packed value: {type(error).__name__}") from error
    if tensors:
        raise WireError("tensors that no value refers to")
    return value


def _parsed(text: bytes) -> Any:
    return json.loads(
        text.decode(),
        object_pairs_hook=_no_duplicates,
        parse_constant=_refuse,
        parse_int=_integer,
        parse_float=_finite,
    )


def _items(text: bytes) -> int:
    """Return an upper bound of the number of values in a JSON text."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def _tensors(data: bytes) -> dict[str, Tensor]:
    if not data:
        return {}
    size = int.from_bytes(data[:8], "little")
    if size > MAX_TENSORS_HEADER or _items(data[8 : 8 + size]) > MAX_ITEMS:
        raise WireError("too many tensors")
    _check_header(_parsed(data[8 : 8 + size]), len(data) - 8 - size)
    tensors = load(data)
    for tensor in tensors.values():
        if tensor.dtype not in DTYPES or tensor.ndim > MAX_DIMENSIONS:
            raise WireError(f"a tensor of {tensor.dtype} and shape {tuple(tensor.shape)}")
        if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
            raise WireError("a tensor of booleans that are neither true nor false")
    return tensors


def _check_header(header: Any, size: int) -> None:
    """Refuse a header whose tensors do not fill ``size`` bytes without gaps, or whose strides overflow."""
    spans = []
    for name, entry in header.items():
        dtype, shape, (begin, end) = _STORED[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if entry.keys() != {"dtype", "shape", "data_offsets"} or any(type(n) is not int for n in (*shape, begin, end)):
            raise WireError(f"the tensor {name[:20]!r} is not described as one")
        if len(shape) > MAX_DIMENSIONS or not all(0 <= side < MAX_SIDE for side in shape):
            raise WireError(f"a tensor of shape {shape[:20]}")
        # PyTorch computes strides for empty tensors too, counting a side of 0 as 1
        if math.prod(max(side, 1) for side in shape) * dtype.itemsize >= 1 << 63:
            raise WireError(f"a tensor of shape {shape}, whose strides overflow")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise WireError(f"a tensor of shape {shape} in {end - begin} bytes")
        spans.append((begin, end))
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise WireError("tensors that overlap, or with bytes between them")
        place = end
    if place != size:
        raise WireError("bytes that do not belong to a tensor")


def _decode(item: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    """Put tensors and special numbers in their places; each tensor is used once, as :func:`pack` writes it once."""
    if depth > MAX_DEPTH + 1:
        raise WireError("nested too deeply")
    if isinstance(item, str):
        item.encode()  # refuses unpaired surrogates, which could not be written to a report
    if isinstance(item, list):
        return [_decode(v, tensors, depth + 1) for v in item]
    if not isinstance(item, dict):
        return item
    if item.keys() == {_TENSOR}:
        return tensors.pop(item[_TENSOR])
    if item.keys() == {_FLOAT}:
        return _SPECIAL[item[_FLOAT]]
    for key in item:
        key.encode()
        if key.startswith("$"):
            raise WireError("an unknown key that starts with $")
    return {k: _decode(v, tensors, depth + 1) for k, v in item.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError("a key occurs twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise WireError(f"{constant} in JSON")


def _integer(digits: str) -> int:
    # 64 bits have 20 digits and a sign; longer integers would also take quadratic time to parse
    if len(digits) > 21 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise WireError("an integer of more than 64 bits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise WireError("a number out of range")
    return number
