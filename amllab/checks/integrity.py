"""Whether what the checks measure with is still what it was before the notebook ran.

Probes run in the process of the submission and measure with its torch. A cell that puts another function in the place of
``torch.equal`` or ``Module.state_dict`` would bend the yardstick. The process that all workers are forked from notes the
identities of all instruments (:func:`identities`) and packs them with a copy of this very module (:func:`packed`); a worker
sends that along with each question, and it looks whether they are the same objects still (:func:`answer_file`).

This is a speed bump and no boundary: code in the same process can bend the interpreter itself. What must not be forged is
measured by the judge, in its own process. New attributes, subclasses, hooks and settings of torch are none of this module's
business; a student's own notebook never asks it.
"""

from __future__ import annotations

import builtins
import importlib
import json
import marshal
import os
import sys
import types
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
max sum exec open id vars compile enumerate range __import__"
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
    (marshal, "marshal", "loads"),
    (safetensors.torch, "safetensors.torch", "save load"),
    (builtins, "builtins", _BUILTINS),
]

_MISSING = ...  # the same object in a copy of this module
TAMPERED = b"tampered with: "

# how an owner is written -> names of its instruments -> numbers of the objects that each consists of, the same in a forked process
Identities = dict[str, dict[str, tuple[int, ...]]]


def identities() -> Identities:
    """Those of all instruments; to be called before any code of a submission runs."""
    for name in ("submission", "wire", *(f"{lab}.probes" for lab in all_labs())):
        importlib.import_module(f"amllab.checks.{name}")
    owners = {path: (owner, names.split()) for owner, path, names in INSTRUMENTS}
    for module in [module for name, module in sys.modules.items() if name.startswith("amllab.") and module is not None]:
        found = {name: value for name, value in vars(module).items() if isinstance(value, (types.FunctionType, type))}
        owners[module.__name__] = module, list(found)
        for name, value in found.items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                methods = [n for n, v in vars(value).items() if isinstance(v, (types.FunctionType, property))]
                owners[f"{module.__name__}.{name}"] = value, methods
    return {path: {name: _identity(owner, name) for name in names} for path, (owner, names) in owners.items()}


def replaced(known: Identities) -> str:
    """Name of an instrument that is no longer what it was; empty when all are.

    Args:
        known: what :func:`identities` returned, in this process or in the one that it was forked from.
    """
    owners = {path: owner for owner, path, _ in INSTRUMENTS}
    for path, names in known.items():
        owner = owners[path] if path in owners else _ours(path)
        for name, identity in names.items():
            if _identity(owner, name) != identity:
                return f"{path}.{name}"
    return ""


def packed(known: Identities) -> bytes:
    """A copy of this module as it is on the disk, with what is known: what a kernel reads it from is not the notebook's to change.

    Compiled, since that takes longer than most questions: :func:`call` runs it.
    """
    source = Path(__file__).read_text(encoding="utf-8") + "\nanswer_file(question, reply, known)\n"
    return marshal.dumps((compile(source, __file__, "exec"), known))


def call(copy: str, question: str, reply: str) -> str:
    """The source of a cell that answers the question in one file into another, with the copy that is in a third."""
    names = f"'__name__': {__name__!r}, '__file__': {__file__!r}, 'question': {question!r}, 'reply': {reply!r}, 'known': c[1]"
    return f"(lambda c: exec(c[0], {{{names}}}))(__import__('marshal').loads(open({copy!r}, 'rb').read()))"


def answer_file(question: str, reply: str, known: Identities) -> None:
    """In the kernel: answers the question in one file into another, or names what was tampered with."""
    name = replaced(known)
    if name:
        data = TAMPERED + name.encode()
    else:
        from IPython import get_ipython

        from amllab.checks.submission import answer

        shell = get_ipython()  # type: ignore[no-untyped-call]
        data = answer(shell.user_ns, Path(question).read_bytes())
        if shell.exit_now:  # the function called exit(): the process would end in the middle of the next question
            os._exit(1)
    Path(reply).write_bytes(data)


def _ours(path: str) -> Any:
    """A module of the course library, or a class of one, by how it is written; ``None`` where it is gone."""
    if path in sys.modules:
        return sys.modules[path]
    module, _, name = path.rpartition(".")
    return vars(sys.modules[module]).get(name) if sys.modules.get(module) is not None else None


def _identity(owner: Any, name: str) -> tuple[int, ...]:
    """The object itself, and for a Python function what it runs."""
    # as inspect.getattr_static does: nothing of the submission's is called
    found: Any = _MISSING
    for place in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in vars(place):
            found = vars(place)[name]
            break
    if isinstance(found, types.FunctionType):
        return id(found), id(found.__code__), id(found.__defaults__), id(found.__kwdefaults__)
    return (id(found),)
