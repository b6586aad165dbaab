"""Whether what the checks measure with is still what it was before the notebook ran.

Probes run in the process of the submission and measure with its torch. A cell that puts another function in the place of
``torch.equal`` or ``Module.state_dict`` would bend the yardstick. The worker takes a snapshot before the first cell, and
every answer is preceded by a look at whether the instruments are still the same objects.

This is a speed bump and no boundary: code in the same process can reach the snapshot as well. What must not be forged is
measured by the judge, in its own process. New attributes, subclasses, hooks and settings of torch are none of this module's
business; in a student's own notebook there is no snapshot, and it is silent.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.checks.lab import all_labs

_MODULE = "state_dict load_state_dict named_parameters parameters named_modules modules named_buffers eval train \
requires_grad_ register_buffer register_forward_pre_hook _call_impl _wrapped_call_impl __call__ __setattr__ __getattr__"
_TENSOR = (
    "clone detach cpu norm argmax float long to view sum equal numel register_hook __getitem__ __eq__ __add__ __sub__ \
__float__ __bool__ untyped_storage data_ptr requires_grad_ register_post_accumulate_grad_hook add_ split tolist"
)
_TORCH = (
    "Generator randperm arange cat stack tensor equal no_grad is_grad_enabled manual_seed zeros ones full is_tensor \
autocast"
)
_BUILTINS = (
    "isinstance len getattr hasattr type callable float int bool str list dict set tuple sorted zip map any all min \
max sum enumerate range"
)

# owner, how its name is written, names of its instruments
INSTRUMENTS: list[tuple[Any, str, str]] = [
    (torch, "torch", _TORCH),
    (Tensor, "torch.Tensor", _TENSOR),
    (nn.Module, "torch.nn.Module", _MODULE),
    (nn.Linear, "torch.nn.Linear", "forward"),
    (nn.Parameter, "torch.nn.Parameter", "__new__"),
    (F, "torch.nn.functional", "cross_entropy linear softmax log_softmax nll_loss"),
    (torch.optim.Optimizer, "torch.optim.Optimizer", "__init__ profile_hook_step"),
    (timm, "timm", "create_model"),
    (json, "json", "dumps loads"),
    (safetensors.torch, "safetensors.torch", "save load"),
    (builtins, "builtins", _BUILTINS),
]

_MISSING = object()
_taken: dict[str, tuple[Any, str, tuple[Any, ...]]] = {}


def take() -> None:
    """Takes the snapshot; to be called before any code of a submission runs."""
    for lab in all_labs():
        importlib.import_module(f"amllab.checks.{lab}.probes")
    _taken.update({path: (owner, name, _identity(owner, name)) for path, owner, name in _instruments()})


def replaced() -> str:
    """Name of an instrument that is no longer what it was; empty when all are, or no snapshot was taken."""
    for path, (owner, name, identity) in _taken.items():
        now = _identity(owner, name)
        if len(now) != len(identity) or any(a is not b for a, b in zip(now, identity, strict=True)):
            return path
    return ""


def _instruments() -> Iterator[tuple[str, Any, str]]:
    for owner, path, names in INSTRUMENTS:
        yield from ((f"{path}.{name}", owner, name) for name in names.split())
    ours = [module for name, module in sys.modules.items() if name.startswith("amllab.") and module is not None]
    for module in ours:
        for name, value in list(vars(module).items()):
            if isinstance(value, (types.FunctionType, type)):
                yield f"{module.__name__}.{name}", module, name
            if isinstance(value, type) and value.__module__ == module.__name__:
                methods = [n for n, v in vars(value).items() if isinstance(v, (types.FunctionType, property))]
                yield from ((f"{module.__name__}.{name}.{method}", value, method) for method in methods)


def _identity(owner: Any, name: str) -> tuple[Any, ...]:
    """The object itself, and for a Python function what it runs."""
    found = inspect.getattr_static(owner, name, _MISSING)
    if isinstance(found, types.FunctionType):
        return found, found.__code__, found.__defaults__, found.__kwdefaults__
    return (found,)
