"""The history of a training that returns ``{"loss": [...]}``: as plain data, and what a check expects of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amllab.kit.expectations import Call, returned, returns, some
from amllab.kit.history import History, plain_history
from amllab.protocol.failure import expect

RETURNS = 'Returns `{"loss": [...]}` with one float for each epoch; the loader may be a plain list of batches.'


def loss_history(value: Any) -> History:
    """Return the history as plain data; a list that comes without a dict counts as the losses."""
    if isinstance(value, (list, tuple)) and not any(isinstance(part, dict) for part in value):
        return {**plain_history({"loss": value}), "type": type(value).__name__, "is_dict": False}
    return plain_history(value)


def losses_in(history: History) -> list[float] | None:
    """Return the losses: those under ``"loss"``, or else the only list; ``None`` if there is none."""
    values = history["values"]
    lists = [values["loss"]] if isinstance(values.get("loss"), list) else list(values.values())
    found = [value for value in lists if isinstance(value, list)]
    return found[0] if len(found) == 1 else None


def expect_losses(history: History, call: Call, *, epochs: int, ran: int, batches: int) -> None:
    """Fail the check unless the history is a dict with one float for each epoch under ``"loss"``.

    Args:
        history: What the training returned.
        call: The call.
        epochs: Number of epochs that was asked for.
        ran: Number of epochs that were run. Only one more or less is charged: a number that is far off has other
            reasons, such as the same views in all epochs.
        batches: Number of batches in an epoch.
    """
    losses = history["values"].get("loss")
    keys = f"a dict without a list under `loss`; its keys are {some(list(history['values']), most=8)}"
    right = history["is_dict"] and isinstance(losses, list)
    expect(
        right,
        expected='a dict with a list of floats under `"loss"`',
        seen=keys if history["is_dict"] else returned(history["type"], "history"),
        why="curves and the report read this key",
        symptom="nothing returned" if history["type"] == "NoneType" else "no list of losses",
        reproduce=call.lines,
    )
    n = len(losses) if isinstance(losses, list) else 0
    expect(
        n == epochs and abs(ran - epochs) != 1,
        expected=f"{epochs} epochs and as many losses",
        seen=f"{ran} epochs and {n} losses" + (": one for each batch?" if n == ran * batches else ""),
        why="`epochs` is the length of the training, and a curve needs one point for each epoch",
        symptom="another number of losses" if ran == epochs else "another number of epochs",
        reproduce=f"{call.setup}len({call.text}['loss'])",
    )
    kind = history["types"]["loss"]
    expect(
        kind == "list of float",
        expected="a list of Python floats",
        seen=f"a {kind}",
        why="a tensor in a history may keep its whole graph alive, and cannot be saved as JSON",
        symptom="no plain floats",
        share=0.5,
        reproduce=f"{call.setup}type({call.text}['loss'][0])",
    )


def expect_list_as_loader(got: Mapping[str, Any], call: Call) -> None:
    """Fail the check if a call whose loader is a plain list of batches raised an error."""
    returns(
        got,
        call,
        expected="a loader that is a list of batches is a loader",
        why="a loader is anything that gives batches again and again: a list has no `.dataset` and no `.batch_size`",
        symptom="no list as loader",
    )
