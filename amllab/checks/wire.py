"""What travels between a check and a submission: plain data as bytes, never code.

A value is built of ``None``, booleans, numbers, strings, tensors, lists and dictionaries with string keys. Tensors go
into a safetensors file, everything else into JSON in that file's header. Neither format can carry code.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

Data = None | bool | int | float | str | Tensor | list["Data"] | dict[str, "Data"]

_TENSOR, _FLOAT = "$tensor", "$float"


class WireError(ValueError):
    """Bytes or values that are not of this format."""


def pack(value: Data) -> bytes:
    """Writes a value as bytes.

    Raises:
        WireError: the value holds something that is no plain data; the message names it.
    """
    tensors: dict[str, Tensor] = {}

    def encode(item: Any, path: str) -> Any:
        if item is None or isinstance(item, (bool, str)):
            return item
        if isinstance(item, int):
            return int(item)
        if isinstance(item, float):
            return float(item) if math.isfinite(item) else {_FLOAT: repr(float(item))}
        if isinstance(item, Tensor):
            key = str(len(tensors))
            # a copy: safetensors refuses tensors that share memory
            tensors[key] = item.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {_TENSOR: key}
        if isinstance(item, (list, tuple)):
            return [encode(v, f"{path}[{i}]") for i, v in enumerate(item)]
        if isinstance(item, dict) and all(isinstance(k, str) for k in item):
            return {k: encode(v, f"{path}.{k}") for k, v in item.items()}
        raise WireError(f"{path} is a {type(item).__name__}, not plain data")

    text = json.dumps(encode(value, "value"), allow_nan=False)
    return save(tensors, metadata={"value": text})


def unpack(data: bytes) -> Any:
    """Reads what :func:`pack` wrote.

    Raises:
        WireError: the bytes are something else.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + size])["__metadata__"]["value"]

        def decode(item: Any) -> Any:
            if isinstance(item, list):
                return [decode(v) for v in item]
            if isinstance(item, dict):
                if item.keys() == {_TENSOR}:
                    return tensors[item[_TENSOR]]
                if item.keys() == {_FLOAT}:
                    return float(item[_FLOAT])
                return {k: decode(v) for k, v in item.items()}
            return item

        return decode(json.loads(text))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"not a packed value: {type(error).__name__}") from error
