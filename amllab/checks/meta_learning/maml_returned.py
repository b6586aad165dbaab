"""What an adaptation returned, as parameters by name, in whatever form it is: a mistake in the form is charged once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

MOST_NAMES = 40  # of the names that were returned

Parameters = dict[str, Tensor]


def holds(value: Any, name: str) -> bool:
    """Return whether a value is a dictionary with a tensor of this name."""
    return isinstance(value, Mapping) and isinstance(value.get(name), Tensor)


def by_name(value: Any, own: Parameters) -> Parameters:
    """Return the tensors that were returned by the names of the parameters, in whatever form they are."""
    if isinstance(value, nn.Module):
        return _of_module(value, own)
    if isinstance(value, (list, tuple)):
        # a dictionary next to a loss, or pairs of names and tensors
        pairs = all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value)
        value = dict(value) if pairs else next((item for item in value if isinstance(item, Mapping)), value)
    if isinstance(value, Mapping):
        named = {name: value[name] for name in own if name in value and isinstance(value[name], Tensor)}
        if named:
            return named
        value = list(value.values())
    return _in_order(value, own) if isinstance(value, (list, tuple)) else {}


def _of_module(module: nn.Module, own: Parameters) -> Parameters:
    """Return the parameters of a module; those that are no parameters any more are attributes."""
    found = {}
    for name in own:
        value: Any = module
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, Tensor):
            found[name] = value
    return found


def _in_order(values: Iterable[Any], own: Parameters) -> Parameters:
    """Return tensors without names by the names of the parameters, if number and shapes are the same."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    shapes = [tensor.shape for tensor in tensors]
    return dict(zip(own, tensors, strict=True)) if shapes == [parameter.shape for parameter in own.values()] else {}


def as_used(found: Parameters, own: Parameters) -> Parameters:
    """Return what a model computes with, given what was returned; empty if nothing was."""
    fitting = {name: tensor.to(own[name]) for name, tensor in found.items() if tensor.shape == own[name].shape}
    return {**own, **fitting} if fitting else {}


def fits(tensor: Tensor, parameter: Tensor) -> bool:
    """Return whether a tensor has the shape and dtype of a parameter."""
    return tensor.shape == parameter.shape and tensor.dtype == parameter.dtype


def names(value: Any) -> list[str]:
    """Return the first names of a dictionary, as text; none of anything else."""
    first = list(value)[:MOST_NAMES] if isinstance(value, Mapping) else []
    return [str(name)[:100].encode(errors="replace").decode() for name in first]
