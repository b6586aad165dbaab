"""Detect whether the notebook has replaced functions that the checks rely on.

Probes run in the submission's process and measure with its torch, so a cell that replaces ``torch.equal`` or
``Module.state_dict`` would falsify the measurements. The process that all workers are forked from records the
identities of all trusted functions (:func:`identities`) and packs them with a copy of this module (:func:`packed`). A
worker sends this package with each question, and the copy verifies that they are still the same objects
(:func:`answer_file`).

This deters tampering but is no security boundary: code in the same process can manipulate the interpreter itself. The
grader measures what must not be forged in its own process. New attributes, subclasses, hooks and settings of torch are
not checked, and a student's own notebook never runs this check.
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

from amllab.lab import all_labs

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

# owner, its qualified name, names of its trusted functions
TRUSTED_FUNCTIONS: list[tuple[Any, str, str]] = [
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

_MISSING = ...  # a singleton, so a copy of this module has the same object
TAMPERED = b"tampered with: "

# qualified name of an owner -> name of a trusted function -> ids of the objects behind it, which survive a fork
Identities = dict[str, dict[str, tuple[int, ...]]]


def identities() -> Identities:
    """Return the identities of all trusted functions; call this before any code of a submission runs.

    These are the functions in ``TRUSTED_FUNCTIONS``, and the functions, classes and methods of the course library.
    """
    for name in ("protocol.submission", "protocol.wire", *(f"checks.{lab}.probes" for lab in all_labs())):
        importlib.import_module(f"amllab.{name}")
    owners = {path: (owner, names.split()) for owner, path, names in TRUSTED_FUNCTIONS}
    for module in [module for name, module in sys.modules.items() if name.startswith("amllab.") and module is not None]:
        found = {name: value for name, value in vars(module).items() if isinstance(value, (types.FunctionType, type))}
        owners[module.__name__] = module, list(found)
        for name, value in found.items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                methods = [n for n, v in vars(value).items() if isinstance(v, (types.FunctionType, property))]
                owners[f"{module.__name__}.{name}"] = value, methods
    return {path: {name: _identity(owner, name) for name in names} for path, (owner, names) in owners.items()}


def replaced(known: Identities) -> str:
    """Return the qualified name of a trusted function that was replaced; empty if none was.

    Args:
        known: The result of :func:`identities` in this process, or in the one that it was forked from.
    """
    owners = {path: owner for owner, path, _ in TRUSTED_FUNCTIONS}
    for path, names in known.items():
        owner = owners[path] if path in owners else _ours(path)
        for name, identity in names.items():
            if _identity(owner, name) != identity:
                return f"{path}.{name}"
    return ""


def packed(known: Identities) -> bytes:
    """Pack a compiled copy of this module together with ``known``.

    The copy is read from disk, so that the notebook cannot change what its kernel executes. It is compiled in advance,
    because compiling takes longer than answering most questions. :func:`call` runs it.
    """
    source = Path(__file__).read_text(encoding="utf-8") + "\nanswer_file(question, reply, known)\n"
    return marshal.dumps((compile(source, __file__, "exec"), known))


def call(copy: str, question: str, reply: str) -> str:
    """Return the source of a cell that answers a question with a packed copy of this module.

    Args:
        copy: Path of the file with the packed copy.
        question: Path of the file with the question.
        reply: Path of the file for the answer.
    """
    names = f"'__name__': {__name__!r}, '__file__': {__file__!r}, 'question': {question!r}, 'reply': {reply!r}, 'known': c[1]"
    return f"(lambda c: exec(c[0], {{{names}}}))(__import__('marshal').loads(open({copy!r}, 'rb').read()))"


def answer_file(question: str, reply: str, known: Identities) -> None:
    """Answer the question in one file into another, or report which trusted function was replaced.

    The kernel of the submission runs this.

    Args:
        question: Path of the file with the question.
        reply: Path of the file for the answer.
        known: See :func:`replaced`.
    """
    name = replaced(known)
    if name:
        data = TAMPERED + name.encode()
    else:
        from IPython import get_ipython

        from amllab.protocol.submission import answer

        shell = get_ipython()
        data = answer(shell.user_ns, Path(question).read_bytes())
        if shell.exit_now:  # the function called exit(), which would end the process in the next question
            os._exit(1)
    Path(reply).write_bytes(data)


def _ours(path: str) -> Any:
    """Return a module of the course library, or a class in one, by its qualified name; ``None`` if it is gone."""
    if path in sys.modules:
        return sys.modules[path]
    module, _, name = path.rpartition(".")
    return vars(sys.modules[module]).get(name) if sys.modules.get(module) is not None else None


def _identity(owner: Any, name: str) -> tuple[int, ...]:
    """Return the ids of an attribute and, for a Python function, of its code and defaults."""
    # a static lookup, like inspect.getattr_static, so that no code of the submission runs
    found: Any = _MISSING
    for place in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in vars(place):
            found = vars(place)[name]
            break
    if isinstance(found, types.FunctionType):
        return id(found), id(found.__code__), id(found.__defaults__), id(found.__kwdefaults__)
    return (id(found),)
