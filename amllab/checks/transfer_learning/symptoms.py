"""Names for the ways in which a check fails: fixed phrases, the same for the same mistake whatever numbers were drawn.

A check that fails says what it has seen with the numbers of its run. A symptom leaves the numbers out, so that the mistake
can be recognised by it: what a submission did is held against what the usual mistakes would have done.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import timm

from amllab.checks.transfer_learning.models import layer_names

_EXCEPTIONS = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def join(*symptoms: str) -> str:
    """Several in one, without the empty ones."""
    return "; ".join(filter(None, symptoms))


def raised(got: dict[str, Any]) -> str:
    """Of an answer that is an error: the most special class that Python itself has for it."""
    return f"raised {next((name for name in got['error'] if name in _EXCEPTIONS), 'an exception')}"


def accepted(answers: dict[str, dict[str, Any]]) -> str:
    """Of arguments that must be refused with a ValueError: those that were not, by their names."""
    wrong = {name: got for name, got in answers.items() if "ValueError" not in got.get("error", [])}
    errors = {raised(got) for got in wrong.values() if "error" in got}
    names = [name for name, got in wrong.items() if "error" not in got]
    whole = "anything" if len(names) == len(answers) else ", ".join(names)
    return join(f"accepts {whole}" if names else "", *sorted(errors))


# Which parameters are trainable

Layers = list[list[str]]


@lru_cache(maxsize=64)
def _one_dimensional(backbone: str) -> frozenset[str]:
    return frozenset(name for name, p in timm.create_model(backbone).named_parameters() if p.ndim <= 1)


def _union(layers: Layers) -> set[str]:
    return {name for layer in layers for name in layer}


def _last(layers: Layers, n: int) -> set[str]:
    return _union(layers[len(layers) - min(max(n, 0), len(layers)) :])


# what would be trainable, had a usual mistake been made: from the layers, and the number that was asked for
_FREEZING: dict[str, Callable[[Layers, int], set[str]]] = {
    "nothing frozen": lambda layers, n: _union(layers),
    "everything frozen": lambda layers, n: set(),
    "one layer too many": lambda layers, n: _last(layers, n + 1),
    "one layer too few": lambda layers, n: _last(layers, n - 1),
    "counted from the input": lambda layers, n: _union(layers[:n]),
    "frozen and trainable swapped": lambda layers, n: _union(layers) - _last(layers, n),
    "one layer alone": lambda layers, n: _union(layers[len(layers) - n :][: min(n, 1)]),
    "head always frozen": lambda layers, n: _last(layers, n) - set(layers[-1]),
    "head always trainable": lambda layers, n: _last(layers, n) | set(layers[-1]),
    "all trainable for 0": lambda layers, n: _last(layers, n or len(layers)),
    "parameters of the model itself missed": lambda layers, n: _last(layers, n) | {p for p in _union(layers) if "." not in p},
}  # fmt: skip


def freezing(asked: Sequence[tuple[str, int, set[str]]]) -> str:
    """How the choice of trainable parameters is wrong.

    Args:
        asked: of each call on a model whose parameters were all trainable: backbone, ``n_trainable``, and the names of the
            parameters that were trainable afterwards.

    Returns:
        The mistake that explains all calls, or else what became of the first wrong one; empty where none is.
    """
    calls = [(layer_names(backbone), n, seen, _one_dimensional(backbone)) for backbone, n, seen in asked]
    wrong = [(layers, n, seen) for layers, n, seen, _ in calls if seen != _last(layers, n)]
    if not wrong:
        return ""
    for name, rule in _FREEZING.items():
        if all(seen == rule(layers, n) for layers, n, seen, _ in calls):
            return name
    too_many = [(seen - _last(layers, n), seen, layers) for layers, n, seen in wrong]
    if any(extra - _union(layers) for extra, _, layers in too_many):
        return "parameters of another architecture"
    if all(seen >= _last(layers, n) for layers, n, seen in wrong):
        for name, missed in (
            ("biases missed", lambda p, flat: p.endswith(".bias")),
            ("one-dimensional parameters missed", lambda p, flat: p in flat),
            ("weights missed", lambda p, flat: p not in flat),
        ):
            if all(
                seen == _last(layers, n) | {p for p in _union(layers) if missed(p, flat)}
                for layers, n, seen, flat in calls
            ):
                return name
        return "some not frozen"
    if all(seen <= _last(layers, n) for layers, n, seen in wrong):
        return "some frozen that should be trainable"
    return "other layers"


# When training stops


def stopping(ran: int, wanted: int, *, best: int, patience: int, most: int) -> str:
    """How the number of epochs is wrong; empty where it is right.

    Args:
        ran, wanted: number of epochs.
        best: the best epoch, before which every epoch improves.
        patience, most: as asked for; ``most`` epochs at most.
    """
    if ran == wanted:
        return ""
    usual = (
        (wanted - 1, "1 epoch early"),
        (wanted + 1, "1 epoch late"),
        (most, "never stopped"),
        (best + 2, "stopped at the first epoch without improvement"),
        (patience, "stopped after patience epochs in all"),
        (patience + 1, "stopped after patience epochs in all"),
    )
    other = "several epochs early" if ran < wanted else "several epochs late"
    return next((name for epochs, name in usual if epochs == ran), other)


def best_epoch(seen: float, wanted: int, *, ran: int, loss: float) -> str:
    """How the returned index is wrong; empty where it is right. ``loss`` is that of the best epoch."""
    if seen == wanted:
        return ""
    if math.isnan(seen):
        return "best_epoch: missing"
    if abs(seen - loss) < 1e-3:
        return "best_epoch: its loss"
    usual = ((wanted + 1, "counted from 1"), (ran - 1, "the last"), (0, "the first"))
    return f"best_epoch: {next((name for epoch, name in usual if epoch == seen), 'another')}"
