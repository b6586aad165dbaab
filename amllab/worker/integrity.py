"""Detect whether the notebook has replaced functions that the checks rely on.

Probes run in the submission's process and measure with its torch, so a cell that replaces ``torch.equal`` or
``Module.state_dict`` would falsify the measurements. The process that all workers are forked from records the
identities of all trusted functions (:func:`identities`) and packs them with a copy of this module (:func:`packed`). A
worker sends this package with each question, and the copy verifies that they are still the same objects
(:func:`answer_question`).

Trusted are the functions of the library, the functions that the library itself relies on (``TRUSTED_FUNCTIONS``), and
those that a lab declares in its ``lab.toml``, because its probes rely on them::

    [probes]
    trusted = ["torch.autograd.grad"]

This deters tampering but is no security boundary: code in the same process can manipulate the interpreter itself. The
grader measures what must not be forged in its own process. New attributes, subclasses, hooks and settings of torch are
not checked, and a student's own notebook never runs this check.
"""

from __future__ import annotations

import importlib
import marshal
import os
import sys
import types
from pathlib import Path
from typing import Any

from amllab.lab import Lab

_MODULE = "state_dict load_state_dict named_parameters parameters named_modules modules named_buffers eval train \
requires_grad_ register_buffer register_forward_pre_hook _call_impl _wrapped_call_impl __call__ __setattr__ __getattr__"
_TENSOR = (
    "clone detach cpu float long to view sum equal numel backward round __getitem__ __eq__ __add__ __sub__ __float__ __bool__ \
requires_grad_ tolist"
)
_BUILTINS = (
    "isinstance len getattr hasattr type callable float int bool str list dict set tuple sorted zip map any all min \
max sum exec open id vars compile enumerate range __import__"
)

# qualified name of an owner -> names of its functions that the library relies on
TRUSTED_FUNCTIONS = {
    "torch": "arange cat stack tensor equal no_grad enable_grad is_grad_enabled zeros ones full randn where",
    "torch.autograd": "backward",
    "torch.Tensor": _TENSOR,
    "torch.nn.Module": _MODULE,
    "json": "dumps loads",
    "marshal": "loads",
    "hashlib": "sha256",
    "safetensors.torch": "save load",
    "builtins": _BUILTINS,
}

# what counts in a module of the library: what it defines, and what it has imported
_KINDS = types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type
_MISSING = ...  # a singleton, so a copy of this module has the same object
_MODULES = "sys.modules"  # the owner of modules
TAMPERED = b"tampered with: "

# qualified name of an owner -> name of a trusted function -> ids of the objects behind it, which survive a fork
Identities = dict[str, dict[str, tuple[int, ...]]]


def identities(lab: Lab) -> Identities:
    """Return the identities of all trusted functions of a lab; call this before any code of a submission runs.

    These are the functions in ``TRUSTED_FUNCTIONS``, those that the lab declares, and the functions, classes and
    methods of the course library, with the functions and modules that it has imported. The modules on the way to a
    trusted function count as well.

    Raises:
        ProbesError: The probes of the lab do not import.
        LookupError: There is no function of a declared name; the message says so.
    """
    from amllab.protocol.lab_probes import probes_of

    for name in ("protocol.submission", "protocol.wire", "worker.hanging"):
        importlib.import_module(f"amllab.{name}")
    probes_of(lab.name)
    known: dict[str, set[str]] = {}
    declared = [f"{owner}.{name}" for owner, names in TRUSTED_FUNCTIONS.items() for name in names.split()]
    for path in [*declared, *lab.trusted]:
        if reason := why_not_trusted(path):
            raise LookupError(f"{lab.name}/lab.toml: probes.trusted: {path!r}: {reason}")
        while "." in path:
            owner, _, name = path.rpartition(".")
            known.setdefault(owner, set()).add(name)
            if path in sys.modules:
                known.setdefault(_MODULES, set()).add(path)
            path = owner
        known.setdefault(_MODULES, set()).add(path)
    for module in [module for name, module in sys.modules.items() if name.startswith("amllab.") and module is not None]:
        found = {name: value for name, value in vars(module).items() if isinstance(value, _KINDS)}
        known.setdefault(module.__name__, set()).update(found)
        for name, value in found.items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                methods = {n for n, v in vars(value).items() if isinstance(v, (types.FunctionType, property))}
                known.setdefault(f"{module.__name__}.{name}", set()).update(methods)
    return {
        path: {name: _identity(_attribute(_found(path), name)) for name in sorted(names)}
        for path, names in known.items()
    }


def why_not_trusted(path: str) -> str:
    """Import the modules on the way to a function; return why there is no function of this name, or an empty string."""
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return "it must be the name of a function with its module, such as torch.autograd.grad"
    for number in range(1, len(parts)):
        name = ".".join(parts[:number])
        if _found(name) is not _MISSING and name not in sys.modules:
            break  # a class: the rest are attributes
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if number == 1 or not name.startswith(error.name or "-"):
                return f"{name} does not import: {error}"
            return f"{'.'.join(parts[: number - 1])} has no {parts[number - 1]}"
        except Exception as error:
            return f"{name} does not import: {type(error).__name__}: {error}"
    found = _found(path)
    if found is _MISSING:
        return f"{'.'.join(parts[:-1])} has no {parts[-1]}"
    if isinstance(found, types.ModuleType):
        return "it is a module: name its functions"
    return ""


def replaced(known: Identities) -> str:
    """Return the qualified name of a trusted function that was replaced; empty if none was.

    Args:
        known: The result of :func:`identities` in this process, or in the one that it was forked from.
    """
    for path, names in known.items():
        owner = _found(path)
        own = vars(owner) if hasattr(owner, "__dict__") else {}
        for name, identity in names.items():
            if _identity(own[name] if name in own else _attribute(owner, name)) != identity:
                return name if path == _MODULES else f"{path}.{name}"
    return ""


def packed(known: Identities) -> bytes:
    """Pack a compiled copy of this module together with ``known``.

    The copy is read from disk, so that the notebook cannot change what its kernel executes. It is compiled in advance,
    because compiling takes longer than answering most questions. Every question is answered by a new copy.
    """
    return marshal.dumps((compile(Path(__file__).read_bytes(), __file__, "exec"), known))


def answer_question(question: bytes, known: Identities, calls: str = "", seconds: float = 0.0) -> bytes:
    """Answer a packed question, or report which trusted function was replaced.

    The kernel of the submission runs this (:mod:`amllab.worker.questions`).

    Args:
        question: The question.
        known: See :func:`replaced`.
        calls: Path of the file for the record of calls (:func:`amllab.worker.hanging.record`); empty for none.
        seconds: The short limit, which decides how often calls are recorded.

    Returns:
        The packed answer, or ``TAMPERED`` and the name of the function.
    """
    from IPython import get_ipython

    if name := replaced(known):
        return TAMPERED + name.encode()
    from amllab.protocol.submission import answer
    from amllab.worker.hanging import record

    shell = get_ipython()
    end = record(calls, seconds) if calls else None
    try:
        answered = answer(shell.user_ns, question)
    finally:
        if end is not None:
            end()
    if shell.exit_now:  # the function called exit(), which would end the process in the next question
        os._exit(1)
    return answered


def _found(path: str) -> Any:
    """Return what a qualified name names, without running code of it; ``_MISSING`` if there is nothing."""
    if path == _MODULES:
        return sys.modules
    if sys.modules.get(path) is not None:
        return sys.modules[path]
    owner, _, name = path.rpartition(".")
    return _attribute(_found(owner), name) if owner else _MISSING


def _attribute(owner: Any, name: str) -> Any:
    """Look an attribute up like inspect.getattr_static, so that no code of the submission runs."""
    if owner is sys.modules:
        return owner.get(name, _MISSING)
    for place in owner.__mro__ if isinstance(owner, type) else (owner, *type(owner).__mro__):
        if hasattr(place, "__dict__") and name in vars(place):
            return vars(place)[name]
    return _MISSING


def _identity(found: Any) -> tuple[int, ...]:
    """Return the ids of an attribute and, for a Python function, of its code and defaults."""
    function = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if isinstance(function, types.FunctionType):
        return id(found), id(function), id(function.__code__), id(function.__defaults__), id(function.__kwdefaults__)
    return (id(found),)
