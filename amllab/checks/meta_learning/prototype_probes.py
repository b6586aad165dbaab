"""Probe of exercise 2: loss and logits of a prototypical network, and the gradients of the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab.kit.gradients import evaluate
from amllab.kit.probing import Raised, State, raised, type_name
from amllab.protocol.submission import Functions, capture_error

EMBEDDINGS = ("support", "query")


class Prototyped(TypedDict):
    """What ``prototypical_loss`` returned.

    Attributes:
        returned: Type of what was returned.
        entries: Types of the entries, if that is a tuple or a list; at most eight.
        loss: The loss, under the name ``"loss"``; empty if there is none.
        logits: The logits, under the name ``"logits"``; empty if there are none.
        swapped: Whether the second entry is a single number and the first has several: it counts as the loss.
        gradients: Name of an embedding -> gradient of the sum of the loss.
        slopes: Name of an embedding -> its gradient as measured: how much the loss changes with each number.
        changed: Names of the inputs that were changed in place.
    """

    returned: str
    entries: list[str]
    loss: State
    logits: State
    swapped: bool
    gradients: State
    slopes: State
    changed: list[str]


def prototypes(
    functions: Functions,
    *,
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    learning: bool = False,
    step: float = 0.0,
) -> Prototyped | Raised:
    """Call ``prototypical_loss`` on embeddings.

    Args:
        functions: Functions of the notebook.
        support: Embeddings of the support, float ``(s, d)``.
        support_labels: Their labels, int64 ``(s,)``.
        query: Embeddings of the queries, float ``(q, d)``.
        query_labels: Their labels, int64 ``(q,)``.
        learning: Whether to compute the gradients of the embeddings.
        step: Change of each number by which the slopes are measured; 0 measures none.
    """
    answers: list[Any] = []

    def call(support: Tensor, support_labels: Tensor, query: Tensor, query_labels: Tensor) -> Any:
        # by position: names of parameters are free
        answers.append(functions.prototypical_loss(support, support_labels, query, query_labels))
        return _loss_and_logits(answers[-1])[0]

    inputs = {"support": support, "support_labels": support_labels, "query": query, "query_labels": query_labels}
    got: Mapping[str, Any] = evaluate(call, inputs, EMBEDDINGS if learning else ())
    if "error" in got:
        return raised(dict(got))
    slopes: State = {}
    if step:
        measured = capture_error(lambda: _slopes(functions.prototypical_loss, inputs, step))
        if "error" in measured:
            return raised(measured)
        slopes = measured["value"]
    answer = answers[0]
    loss, logits = _loss_and_logits(answer)
    number = _number(loss)
    return {
        "returned": type_name(answer),
        "entries": [type_name(entry) for entry in answer[:8]] if isinstance(answer, (tuple, list)) else [],
        "loss": {} if number is None else {"loss": number},
        "logits": {"logits": logits.detach().clone()} if isinstance(logits, Tensor) else {},
        "swapped": _swapped(answer),
        "gradients": got["gradients"],
        "slopes": slopes,
        "changed": got["changed"],
    }


def _single(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, Tensor) and value.numel() == 1)


def _swapped(answer: Any) -> bool:
    return isinstance(answer, (tuple, list)) and len(answer) == 2 and _single(answer[1]) and not _single(answer[0])


def _loss_and_logits(answer: Any) -> tuple[Any, Any]:
    """Return the two entries of an answer; a lone tensor is the loss if it is a single number, else the logits."""
    if not isinstance(answer, (tuple, list)):
        return (answer, None) if _single(answer) else (None, answer)
    first, second = [*answer, None, None][:2]
    return (second, first) if _swapped(answer) else (first, second)


def _number(loss: Any) -> Tensor | None:
    """Return a loss as a tensor; that of a plain number, too."""
    if isinstance(loss, float):
        return torch.tensor(loss)
    return loss.detach().clone() if isinstance(loss, Tensor) else None


def _slopes(function: Callable[..., Any], inputs: dict[str, Tensor], step: float) -> State:
    """Return how the sum of the loss changes with each number of the embeddings, by central differences."""

    def loss_at(name: str, place: int, change: float) -> float:
        moved = {other: tensor.clone() for other, tensor in inputs.items()}
        moved[name].view(-1)[place] += change
        loss = _number(_loss_and_logits(function(*moved.values()))[0])
        return float("nan") if loss is None else float(loss.double().sum())

    found = {}
    for name in EMBEDDINGS:
        slopes = [(loss_at(name, i, step) - loss_at(name, i, -step)) / (2 * step) for i in range(inputs[name].numel())]
        found[name] = torch.tensor(slopes, dtype=torch.float64).view(inputs[name].shape)
    return found
