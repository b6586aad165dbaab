"""Losses of prototypical networks, right and wrong, by which the checks recognise what a submission computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.kit.expectations import close

NEAR = 1e-3  # largest difference from the values of a wrong loss, relative
ROUGH = 0.01  # largest difference of values with few digits, relative
FEW_DIGITS = "few digits"

Case = dict[str, Tensor]  # the arguments of the call by name


def _means(rows: Tensor, labels: Tensor, way: int) -> Tensor:
    one_hot = F.one_hot(labels, way).to(rows.dtype)
    return one_hot.T @ rows / one_hot.sum(dim=0)[:, None]


def _squares(query: Tensor, prototypes: Tensor) -> Tensor:
    return (query[:, None] - prototypes).square().sum(dim=2)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1)


def _of_each(case: Case, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a row for each class, made of its support."""
    classes = range(int(case["support_labels"].max()) + 1)
    return torch.stack([choose(case["support"][case["support_labels"] == c]) for c in classes])


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]).squeeze(1)


def _with_queries(case: Case) -> Tensor:
    rows = torch.cat([case["support"], case["query"]])
    labels = torch.cat([case["support_labels"], case["query_labels"]])
    return _means(rows, labels, int(labels.max()) + 1)


def _wrong_axis(case: Case) -> Tensor:
    way = int(case["support_labels"].max()) + 1
    return case["support"].view(-1, way, case["support"].shape[1]).mean(dim=0)


@dataclass(frozen=True)
class Formula:
    """A loss of queries and prototypes; the defaults follow the contract.

    Attributes:
        prototypes: Function of the case: prototypes, float ``(way, d)``.
        logits: Function of queries and prototypes.
        shown: Function of the logits: those that are returned.
        loss: Function of logits and labels.
    """

    prototypes: Callable[[Case], Tensor] = lambda case: _of_each(case, lambda rows: rows.mean(dim=0))
    logits: Callable[[Tensor, Tensor], Tensor] = lambda query, prototypes: -_squares(query, prototypes)
    shown: Callable[[Tensor], Tensor] = lambda logits: logits
    loss: Callable[[Tensor, Tensor], Tensor] = lambda logits, labels: (
        logits.logsumexp(1) - _own(logits, labels)
    ).mean()

    def __call__(self, case: Case) -> tuple[Tensor, Tensor]:
        """Return loss and logits, in double precision."""
        exact = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in case.items()}
        logits = self.logits(exact["query"], self.prototypes(exact))
        return self.loss(logits, case["query_labels"]), self.shown(logits)


# symptom -> a formula with this mistake
MISTAKES: dict[str, Formula] = {
    name: replace(Formula(), **changes)  # type: ignore[arg-type]
    for name, changes in {
        "prototypes are sums": {"prototypes": lambda case: _of_each(case, lambda rows: rows.sum(dim=0))},
        "prototypes are the first rows": {"prototypes": lambda case: _of_each(case, lambda rows: rows[0])},
        "prototypes are the last rows": {"prototypes": lambda case: _of_each(case, lambda rows: rows[-1])},
        "prototypes are medians": {"prototypes": lambda case: _of_each(case, lambda rows: rows.median(dim=0).values)},
        "prototypes are the largest numbers": {"prototypes": lambda case: _of_each(case, lambda rows: rows.amax(dim=0))},
        "prototypes by the wrong axis": {"prototypes": _wrong_axis},
        "prototypes of support and query": {"prototypes": _with_queries},
        "prototypes of the query": {
            "prototypes": lambda case: _of_each(
                {"support": case["query"], "support_labels": case["query_labels"]}, lambda rows: rows.mean(dim=0)
            )
        },
        "prototypes are unit vectors": {
            "prototypes": lambda case: _unit(_of_each(case, lambda rows: rows.mean(dim=0)))
        },
        "distance not squared": {"logits": lambda q, p: -_squares(q, p).sqrt()},
        "opposite sign": {"logits": _squares},
        "opposite distance": {"logits": lambda q, p: _squares(q, p).sqrt()},
        "divided by the dimensions": {"logits": lambda q, p: -_squares(q, p) / q.shape[1]},
        "divided by the root of the dimensions": {"logits": lambda q, p: -_squares(q, p) / q.shape[1] ** 0.5},
        "half": {"logits": lambda q, p: -_squares(q, p) / 2},
        "twice": {"logits": lambda q, p: -2 * _squares(q, p)},
        "dot product": {"logits": lambda q, p: q @ p.T},
        "cosine": {"logits": lambda q, p: _unit(q) @ _unit(p).T},
        "cosine distance": {"logits": lambda q, p: _unit(q) @ _unit(p).T - 1},
        "absolute differences": {"logits": lambda q, p: -(q[:, None] - p).abs().sum(dim=2)},
        "largest difference": {"logits": lambda q, p: -(q[:, None] - p).abs().amax(dim=2)},
        "squared twice": {"logits": lambda q, p: -_squares(q, p).square()},
        "unit vectors": {"logits": lambda q, p: -_squares(_unit(q), _unit(p))},
        "without the length of the query": {"logits": lambda q, p: q.square().sum(1)[:, None] - _squares(q, p)},
        "without the length of the prototype": {"logits": lambda q, p: p.square().sum(1) - _squares(q, p)},
        "probabilities": {"shown": lambda logits: logits.softmax(dim=1)},
        "log-probabilities": {"shown": lambda logits: logits.log_softmax(dim=1)},
        "sum": {"loss": lambda x, y: F.cross_entropy(x, y, reduction="sum")},
        "softmax twice": {"loss": lambda x, y: F.cross_entropy(x.softmax(dim=1), y)},
        "negative": {"loss": lambda x, y: -F.cross_entropy(x, y)},
        "no logarithm": {"loss": lambda x, y: -_own(x.softmax(dim=1), y).mean()},
        "1 minus the probability": {"loss": lambda x, y: 1 - _own(x.softmax(dim=1), y).mean()},
        "distance alone": {"loss": lambda x, y: -_own(x, y).mean()},
        "label smoothing": {"loss": lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1)},
    }.items()
}  # fmt: skip


def recognised(cases: Sequence[Case], part: int, seen: Iterable[Tensor]) -> str:
    """Return the mistake that explains wrong losses or logits; empty if none does.

    Args:
        cases: The cases.
        part: 0 for the losses, 1 for the logits.
        seen: Loss or logits of each case.
    """
    values = list(seen)

    def explains(formula: Formula, tolerance: float) -> bool:
        return all(close(formula(case)[part], value, tolerance) for case, value in zip(cases, values, strict=True))

    if explains(Formula(), NEAR):
        return FEW_DIGITS
    found = [name for name, formula in MISTAKES.items() if explains(formula, NEAR)]
    return found[0] if found else FEW_DIGITS if explains(Formula(), ROUGH) else ""
