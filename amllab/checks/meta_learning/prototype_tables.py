"""Embeddings at known distances: right and wrong logits and losses, which tell what a submission computes."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from amllab.kit.expectations import Call

APART = 0.03  # least difference of wrong values from the right ones, relative
# what the usual wrong logits are, in words that a report adds to the numbers that were seen
SAYS = {
    "distance not squared": "these are distances: the contract has them squared",
    "opposite sign": "these are the squared distances themselves: the nearest class has the lowest logit",
    "opposite distance": "these are distances, neither squared nor with a minus sign: the nearest class has the lowest logit",
    "divided by the dimensions": "these are mean squared differences: a distance is a sum over the dimensions",
    "divided by the root of the dimensions": "these are squared distances that are divided by the root of the number of dimensions",
    "half": "these are half of the squared distances",
    "twice": "these are twice the squared distances",
    "dot product": "these are dot products of queries and prototypes",
    "cosine": "these are cosines of queries and prototypes",
    "cosine distance": "these are cosines minus 1",
    "absolute differences": "these are sums of absolute differences",
    "largest difference": "these are the largest differences in one dimension",
    "squared twice": "these are squares of squared distances",
    "unit vectors": "these are squared distances of vectors that were divided by their lengths",
    "without the length of the query": "the squared length of the query is missing in these squared distances",
    "without the length of the prototype": "the squared length of the prototype is missing in these squared distances",
    "probabilities": "these are probabilities: `softmax` has been applied to the logits",
    "log-probabilities": "these are logarithms of probabilities: `log_softmax` has been applied to the logits",
    "exponentials": "these are exponentials of the logits",
    "sum": "this is the sum over the queries, not their mean",
    "softmax twice": "probabilities in place of logits give this loss: `F.cross_entropy` expects logits, and applies softmax",
    "negative": "this is the loss with the opposite sign: training would make it worse",
    "no logarithm": "this is the mean probability of the right class, with a minus sign and without a logarithm",
    "1 minus the probability": "this is the mean probability of the other classes, without a logarithm",
    "distance alone": "this is the mean squared distance to the prototype of the own class: nothing keeps classes apart",
    "half precision": "about right, with few digits: is something computed in half precision?",
}
# logits that are returned next to the loss of others, and those whose loss is that of other logits of this list
ONLY_IN_LOGITS = {
    "probabilities",
    "log-probabilities",
    "exponentials",
    "without the length of the query",
    "cosine distance",
}


@dataclass(frozen=True, eq=False)
class OnAxes:
    """Embeddings on the axes of a space.

    Attributes:
        arguments: The arguments of the call by name.
        call: The call as a student reads it.
        wanted: The right logits, float64 ``(queries, classes)``.
        wrong: Name of a mistake -> the logits that it gives.
    """

    arguments: dict[str, Tensor]
    call: Call
    wanted: Tensor
    wrong: dict[str, Tensor]


def on_axes(rng: random.Random, way: int) -> OnAxes:
    """Draw embeddings on the axes of a space: one support row of each class, and two queries.

    Class ``i`` lies on axis ``i``. So does its first query, in another distance from the origin. The second one lies on
    the axis of the next class, or on one of its own.
    """
    drawn = (_drawn(rng, way) for _ in itertools.count())
    return next(one for one in drawn if _tells_apart(one))


def _drawn(rng: random.Random, way: int) -> OnAxes:
    a = torch.tensor(rng.sample([0.5, 1.0, 1.5, 2.0, 2.5], way))
    t = torch.tensor([rng.choice([0.5, 1.0, 1.5, 2.0]) for _ in range(2 * way)])
    axes = torch.tensor([axis for i in range(way) for axis in (i, rng.choice([(i + 1) % way, way]))])
    labels, space = torch.arange(way).repeat_interleave(2), torch.eye(way + 1)
    arguments = {
        "support": a[:, None] * space[:way],
        "support_labels": torch.arange(way),
        "query": t[:, None] * space[axes],
        "query_labels": labels,
    }
    lines = [
        f"support, support_labels = torch.diag(torch.tensor({[*a.tolist(), 0.0]}))[:{way}], torch.arange({way})",
        f"query = torch.tensor({t.tolist()})[:, None] * torch.eye({way + 1})[{axes.tolist()}]",
        f"query_labels = torch.tensor({labels.tolist()})",
    ]
    call = Call("prototypical_loss(support, support_labels, query, query_labels)", "\n".join(lines))
    return OnAxes(arguments, call, *tables(a, t, axes))


def _tells_apart(one: OnAxes) -> bool:
    """Return whether all wrong logits and losses are far from the right ones."""
    right = cross_entropy_of(one.wanted, one.arguments["query_labels"])
    return all(_apart(table, one.wanted) for table in one.wrong.values()) and all(
        _apart(loss, right) for loss in wrong_losses(one).values()
    )


def _apart(table: Tensor, wanted: Tensor) -> bool:
    return bool((table - wanted).abs().max() > APART * wanted.abs().max())


def tables(a: Tensor, t: Tensor, axes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the right logits of such embeddings, and wrong ones by the name of the mistake.

    Points on one axis are as far apart as their numbers say; those on two axes are the ends of a right angle.
    """
    a, t, d = a.double(), t.double()[:, None], len(a) + 1
    same = axes[:, None] == torch.arange(len(a))
    far = torch.where(same, (a - t) ** 2, a**2 + t**2)
    right = -far
    return right, {
        "distance not squared": -(far**0.5),
        "opposite sign": far,
        "opposite distance": far**0.5,
        "divided by the dimensions": right / d,
        "divided by the root of the dimensions": right / math.sqrt(d),
        "half": right / 2,
        "twice": 2 * right,
        "dot product": same * a * t,
        "cosine": same.double(),
        "cosine distance": same.double() - 1,
        "absolute differences": -torch.where(same, (a - t).abs(), a + t),
        "largest difference": -torch.where(same, (a - t).abs(), torch.maximum(a, t)),
        "squared twice": -(far**2),
        "unit vectors": 2 * same.double() - 2,
        "without the length of the query": t**2 - far,
        "without the length of the prototype": a**2 - far,
        "probabilities": right.softmax(dim=1),
        "log-probabilities": right.log_softmax(dim=1),
        "exponentials": right.exp(),
    }


def wrong_losses(known: OnAxes) -> dict[str, Tensor]:
    """Return the losses that follow from other logits, and those with a mistake of their own, by its name."""
    labels = known.arguments["query_labels"]
    of_logits = {n: cross_entropy_of(table, labels) for n, table in known.wrong.items() if n not in ONLY_IN_LOGITS}
    return {**of_logits, **_other_losses(known.wanted, labels)}


def _other_losses(wanted: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return losses of the right logits that are wrong themselves."""
    right = cross_entropy_of(wanted, labels)
    chances = wanted.softmax(dim=1)[torch.arange(len(labels)), labels].mean()
    return {
        "sum": right * len(labels),
        "softmax twice": cross_entropy_of(wanted.softmax(dim=1), labels),
        "negative": -right,
        "no logarithm": -chances,
        "1 minus the probability": 1 - chances,
        "distance alone": -wanted[torch.arange(len(labels)), labels].mean(),
    }


def cross_entropy_of(table: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of a table of logits, by which a loss and the logits next to it are compared."""
    rows = table.double()
    return torch.stack([row.logsumexp(0) - row[label] for row, label in zip(rows, labels.tolist(), strict=True)]).mean()
