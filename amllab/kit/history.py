"""What a training returned, as plain data."""

from __future__ import annotations

from numbers import Integral
from typing import Any, TypedDict

from torch import nn

from amllab import backbones  # noqa: F401  (registers net12 and net6)


class History(TypedDict):
    """What a training returned.

    Attributes:
        type: Type of what was returned.
        is_dict: Whether it is a dict.
        values: The numbers in each entry of the dict in it; ``None`` for entries without numbers.
        types: Types of these entries, such as ``"list of float"``.
    """

    type: str
    is_dict: bool
    values: dict[str, list[float] | float | None]
    types: dict[str, str]


def plain_history(returned: Any) -> History:
    """Convert the returned dictionary to plain data.

    ``types`` describes each value, because the contract asks for lists of floats.
    """
    values: dict[str, list[float] | float | None] = {}
    types: dict[str, str] = {}
    for key, value in _dictionary(returned).items():
        name = str(key)[:100]
        items = _items(value)
        kinds = {_kind(item) for item in ([value] if items is None else items)}
        container = "" if items is None else f"{_container(value)} of "
        types[name] = (container + "/".join(sorted(kinds)))[:200]
        try:
            values[name] = float(value) if items is None else [float(item) for item in items]
        except (TypeError, ValueError, RuntimeError, OverflowError):
            values[name] = None
    return {"type": type(returned).__name__, "is_dict": isinstance(returned, dict), "values": values, "types": types}


def _dictionary(returned: Any) -> dict[Any, Any]:
    """Return the dict that a training returned; empty if there is none.

    It may come alone, with other values, or as the attributes of an object.
    """
    for part in [returned, *(returned if isinstance(returned, (tuple, list)) else ())]:
        if isinstance(part, dict):
            return part
    if isinstance(returned, nn.Module):
        return {}
    attributes = getattr(returned, "_asdict", lambda: getattr(returned, "__dict__", {}))()
    return attributes if isinstance(attributes, dict) else {}


def _items(value: Any) -> list[Any] | None:
    """Return the items of a sequence of any type; ``None`` for anything else."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except Exception:  # such as an array without dimensions, or a custom class
        return None


def _container(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__


def _kind(value: Any) -> str:
    """Return the type of a value, with ``"float"`` for any float and ``"int"`` for any integer except booleans.

    NumPy's float64 is a float, and NumPy's integers are valid indices.
    """
    if isinstance(value, float):
        return "float"
    return "int" if isinstance(value, Integral) and not isinstance(value, bool) else type(value).__name__
