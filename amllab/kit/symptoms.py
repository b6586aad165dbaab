"""Symptoms: fixed phrases for the ways in which a check fails, the same for the same mistake whatever the inputs.

A failed check says what it has seen, with the numbers of its run. A symptom leaves the numbers out, so that the mistake
can be recognised by it: the behaviour of a submission is compared with what the usual mistakes would have caused.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping
from typing import Any

_EXCEPTIONS = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def join(*symptoms: str) -> str:
    """Join several symptoms into one, without the empty ones."""
    return "; ".join(filter(None, symptoms))


def raised(got: Mapping[str, Any]) -> str:
    """Return the symptom of an answer that is an error: the most specific of its built-in exception classes."""
    return f"raised {next((name for name in got['error'] if name in _EXCEPTIONS), 'an exception')}"


def accepted(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the symptom of arguments that must be refused with a ValueError and were not.

    Args:
        answers: Name of the arguments -> the answer to a call with them.
    """
    wrong = {name: got for name, got in answers.items() if "ValueError" not in got.get("error", [])}
    errors = {raised(got) for got in wrong.values() if "error" in got}
    names = [name for name, got in wrong.items() if "error" not in got]
    whole = "anything" if len(names) == len(answers) else ", ".join(names)
    return join(f"accepts {whole}" if names else "", *sorted(errors))


# When training stops


def stopping(ran: int, wanted: int, *, best: int, patience: int, most: int) -> str:
    """Describe how the number of epochs is wrong; empty if it is right.

    Args:
        ran: Number of epochs that were run.
        wanted: Number of epochs that should have been run.
        best: The best epoch; every epoch before it improves.
        patience: Patience of the training.
        most: Maximum number of epochs of the training.
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
    """Describe how the returned index is wrong; empty if it is right.

    Args:
        seen: The returned index; NaN if there is none.
        wanted: The best epoch.
        ran: Number of epochs that were run.
        loss: Loss of the best epoch.
    """
    if seen == wanted:
        return ""
    if math.isnan(seen):
        return "best_epoch: missing"
    if abs(seen - loss) < 1e-3:
        return "best_epoch: its loss"
    usual = ((wanted + 1, "counted from 1"), (ran - 1, "the last"), (0, "the first"))
    return f"best_epoch: {next((name for epoch, name in usual if epoch == seen), 'another')}"
