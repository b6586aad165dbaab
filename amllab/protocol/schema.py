"""Validation of answers against the declaration of their probe: the grader accepts nothing else.

The declaration is the return annotation of the probe, composed of ``None``, ``bool``, ``int``, ``float``, ``str``,
``list``, ``dict`` with string keys, unions, ``TypedDict``, and ``Annotated[Tensor, TensorSpec(...)]``. Nothing is
converted: a ``bool`` is not an ``int``, and an ``int`` is not a ``float``.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import torch
from torch import Tensor

MAX_STRING = 2000


@dataclass(frozen=True)
class TensorSpec:
    """The dtype and the number of dimensions of a tensor; ``None`` allows any."""

    dtype: torch.dtype | None = None
    ndim: int | None = None


AnyTensor = Annotated[Tensor, TensorSpec()]
IntVector = Annotated[Tensor, TensorSpec(torch.int64, 1)]
IntMatrix = Annotated[Tensor, TensorSpec(torch.int64, 2)]
FloatMatrix = Annotated[Tensor, TensorSpec(torch.float32, 2)]


@cache
def _hints(declared: Any) -> dict[str, Any]:
    return get_type_hints(declared, include_extras=True)


def declaration(probe: Callable[..., Any]) -> Any:
    """Return the return annotation of a probe."""
    return _hints(probe)["return"]


def schema_error(value: Any, declared: Any, path: str = "answer") -> str:
    """Describe where a value differs from its declaration; empty if it conforms."""
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        errors = [schema_error(value, option, path) for option in arguments]
        return "" if "" in errors else errors[-1]
    if origin is Annotated:
        return _tensor_error(value, arguments[1], path)
    if is_typeddict(declared):
        fields = _hints(declared)
        if type(value) is not dict or value.keys() != fields.keys():
            return f"{path} is {_described(value)}, not a dict with {', '.join(fields)}"
        return _first(schema_error(value[name], kind, f"{path}.{name}") for name, kind in fields.items())
    wanted = origin or (type(None) if declared is None else declared)
    if type(value) is not wanted:
        return f"{path} is {_described(value)}, not {getattr(wanted, '__name__', wanted)}"
    if isinstance(value, str) and len(value) > MAX_STRING:
        return f"{path} has {len(value)} characters"
    if isinstance(value, list):
        return _first(schema_error(item, arguments[0], f"{path}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict):
        return _first(schema_error(item, arguments[1], f"{path}[...]") for item in value.values())
    return ""


def _tensor_error(value: Any, kind: TensorSpec, path: str) -> str:
    if not isinstance(value, Tensor):
        return f"{path} is {_described(value)}, not a tensor"
    if kind.dtype not in (None, value.dtype) or kind.ndim not in (None, value.ndim):
        return f"{path} is a tensor of {value.dtype} with {value.ndim} dimensions"
    return ""


def _first(errors: Iterator[str]) -> str:
    return next(filter(None, errors), "")


def _described(value: Any) -> str:
    """Describe the type of a value without revealing what it contains."""
    return (
        "a dict with other keys" if type(value) is dict else "a list" if type(value) is list else type(value).__name__
    )
