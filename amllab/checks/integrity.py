"""Whether what the checks measure with is still what it was before the notebook ran.

Probes run in the process of the submission and measure with its torch. A cell that puts another function in the place of
``torch.equal`` or ``Module.state_dict`` would bend the yardstick. Before the notebook's kernel is forked, the worker notes the
identities of all instruments (:func:`identities`); with each question it sends them along with a fresh copy of this very
file, which looks whether they are the same objects still (:func:`answer_file`).

This is a speed bump and no boundary: code in the same process can bend the interpreter itself. What must not be forged is
measured by the judge, in its own process. New attributes, subclasses, hooks and settings of torch are none of this module's
business; a student's own notebook never asks it.
"""

from __future__ import annotations

import builtins
import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
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
max sum exec open id vars compile enumerate range"
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
TAMPERED = b"tampered with: "

# what a replaced instrument is known by: numbers of the objects that it consists of, the same in a forked process
Identities = dict[str, list[int]]


def identities() -> Identities:
    """Those of all instruments; to be called before any code of a submission runs."""
    for lab in all_labs():
        importlib.import_module(f"amllab.checks.{lab}.probes")
    return {path: _identity(owner, name) for path, owner, name in _instruments()}


def written(known: Identities) -> str:
    """As text, a line each: as source in a call it would take IPython longer to read than most questions to answer."""
    return "".join(f"{path} {' '.join(map(str, ids))}\n" for path, ids in known.items())


def read(text: str) -> Identities:
    """What :func:`written` wrote."""
    return {path: [int(number) for number in ids] for path, *ids in (line.split() for line in text.splitlines())}


def replaced(known: Identities) -> str:
    """Name of an instrument that is no longer what it was; empty when all are.

    Args:
        known: what :func:`identities` returned, in this process or in the one that it was forked from.
    """
    now = {path: _identity(owner, name) for path, owner, name in _instruments()}
    return next((path for path, identity in known.items() if now.get(path) != identity), "")


def answer_file(question: str, reply: str, known: Identities) -> None:
    """In the kernel: answers the question in one file into another, or names what was tampered with."""
    name = replaced(known)
    if name:
        data = TAMPERED + name.encode()
    else:
        from IPython import get_ipython

        from amllab.checks.submission import answer

        data = answer(get_ipython().user_ns, Path(question).read_bytes())  # type: ignore[no-untyped-call]
    Path(reply).write_bytes(data)


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


def _identity(owner: Any, name: str) -> list[int]:
    """The object itself, and for a Python function what it runs."""
    # as inspect.getattr_static does: nothing of the submission's is called
    places = owner.__mro__ if isinstance(owner, type) else (owner,)
    found = next((vars(place)[name] for place in places if name in vars(place)), _MISSING)
    parts = [found]
    if isinstance(found, types.FunctionType):
        parts += [found.__code__, found.__defaults__, found.__kwdefaults__]
    return [id(part) for part in parts]
