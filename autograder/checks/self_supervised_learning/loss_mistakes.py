"""Contrastive losses, right and wrong, by which the checks recognise what a submission computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.kit import symptoms
from amllab.kit.expectations import close

NEAR = 1e-3  # largest difference from the value of a wrong loss, relative
ROUGH = 0.03  # largest difference of a loss with few digits, relative
FEW_DIGITS = "few digits"


def _unit(rows: Tensor, dim: int = 1) -> Tensor:
    return F.normalize(rows, dim=dim)


def _both(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second])


def _opposite(n: int) -> Tensor:
    return torch.arange(2 * n).roll(n)


def _itself(logits: Tensor) -> Tensor:
    return torch.eye(len(logits), dtype=torch.bool)


def _without(logits: Tensor, *masks: Tensor) -> Tensor:
    """Return the logarithm of the sum over the candidates of each row, without those of the masks."""
    for mask in masks:
        logits = logits.masked_fill(mask, float("-inf"))
    return logits.logsumexp(dim=1)


def _positive(logits: Tensor, other: Tensor) -> Tensor:
    return logits.gather(1, other[:, None]).squeeze(1)


def _chosen(logits: Tensor, other: Tensor) -> Tensor:
    return F.one_hot(other, len(logits)).bool()


def _same_view(logits: Tensor) -> Tensor:
    second = torch.arange(len(logits)) >= len(logits) // 2
    return second[:, None] == second


def _softmax(logits: Tensor) -> Tensor:
    return logits.masked_fill(_itself(logits), float("-inf")).softmax(dim=1)


def _hardest(logits: Tensor, other: Tensor) -> Tensor:
    hidden = _itself(logits) | _chosen(logits, other)
    return torch.logaddexp(_positive(logits, other), logits.masked_fill(hidden, float("-inf")).amax(dim=1))


@dataclass(frozen=True)
class Formula:
    """A contrastive loss of two views; the defaults follow the contract.

    Attributes:
        rows: Function of both views: all rows, float ``(2n, d)``.
        similarity: Function of the rows: how similar each pair of them is, float ``(2n, 2n)``.
        scale: Function of similarities and temperature: the logits.
        other: Function of n: index of the positive of each row, its other view.
        losses: Function of logits and positives: the loss of each row.
        reduce: Function of the losses and the temperature: the result.
    """

    rows: Callable[[Tensor, Tensor], Tensor] = lambda first, second: _unit(_both(first, second))
    similarity: Callable[[Tensor], Tensor] = lambda rows: rows @ rows.T
    scale: Callable[[Tensor, float], Tensor] = lambda similarities, t: similarities / t
    other: Callable[[int], Tensor] = _opposite
    losses: Callable[[Tensor, Tensor], Tensor] = lambda logits, other: (
        _without(logits, _itself(logits)) - _positive(logits, other)
    )
    reduce: Callable[[Tensor, float], Tensor] = lambda losses, t: losses.mean()

    def __call__(self, first: Tensor, second: Tensor, temperature: float) -> Tensor:
        """Return the loss of two views, float ``(n, d)``, in double precision."""
        logits = self.scale(self.similarity(self.rows(first.double(), second.double())), temperature)
        return self.reduce(self.losses(logits, self.other(len(first))), temperature)

    def gradients(self, first: Tensor, second: Tensor, temperature: float) -> dict[str, Tensor]:
        """Return the gradients of both views; a view that no gradient reaches has one of zeros."""
        given = [view.double().requires_grad_() for view in (first.clone(), second.clone())]
        with torch.enable_grad():
            value = self(given[0], given[1], temperature)
        found = torch.autograd.grad(value, given, allow_unused=True, materialize_grads=True)
        return dict(zip(("z1", "z2"), found, strict=True))


def _distances(rows: Tensor) -> Tensor:
    return (rows[:, None] - rows).square().sum(dim=2)


# symptom -> what a formula with this mistake has in place of the contract's
MISTAKES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "itself among the candidates": {"losses": lambda x, other: _without(x) - _positive(x, other)},
    "itself counts as 0": {"losses": lambda x, other: _without(x.masked_fill(_itself(x), 0.0)) - _positive(x, other)},
    "itself counts as -1": {
        "similarity": lambda rows: (rows @ rows.T).masked_fill(torch.eye(len(rows)).bool(), -1.0),
        "losses": lambda x, other: _without(x) - _positive(x, other),
    },
    "itself among the candidates of the second view": {
        "losses": lambda x, other: (
            _without(x, _itself(x) & (torch.arange(len(x)) < len(x) // 2)[:, None]) - _positive(x, other)
        )
    },
    "not normalised": {"rows": _both},
    "normalised over the batch": {"rows": lambda a, b: _unit(_both(a, b), dim=0)},
    "each view normalised over the batch": {"rows": lambda a, b: _both(_unit(a, dim=0), _unit(b, dim=0))},
    "views normalised as a whole": {"rows": lambda a, b: _both(a / a.norm(), b / b.norm())},
    "second view not normalised": {"rows": lambda a, b: _both(_unit(a), b)},
    "first view not normalised": {"rows": lambda a, b: _both(a, _unit(b))},
    "divided by the squared length": {"rows": lambda a, b: _both(a, b) / _both(a, b).square().sum(1, keepdim=True)},
    "divided by the sum of absolute values": {"rows": lambda a, b: F.normalize(_both(a, b), p=1)},
    "centred": {"rows": lambda a, b: _unit(_both(a, b) - _both(a, b).mean(dim=1, keepdim=True))},
    "softmax of the rows": {"rows": lambda a, b: _both(a, b).softmax(dim=1)},
    "first view twice": {"rows": lambda a, b: _unit(_both(a, a))},
    "second view twice": {"rows": lambda a, b: _unit(_both(b, b))},
    "wrong positives": {"other": lambda n: torch.arange(2 * n) ^ 1},
    "positives of the next image": {"other": lambda n: torch.arange(2 * n).roll(n - 1)},
    "positives of the image before": {"other": lambda n: torch.arange(2 * n).roll(n + 1)},
    "positives of the next image in one view": {
        "other": lambda n: torch.cat([torch.arange(n, 2 * n), torch.arange(n) + 1])
    },
    "positives in reverse": {"other": lambda n: torch.arange(2 * n).flip(0)},
    "temperature multiplied": {"scale": lambda s, t: s * t},
    "temperature ignored": {"scale": lambda s, t: s},
    "temperature 0.5 always": {"scale": lambda s, t: s / 0.5},
    "temperature 0.1 always": {"scale": lambda s, t: s / 0.1},
    "temperature 0.07 always": {"scale": lambda s, t: s / 0.07},
    "temperature squared": {"scale": lambda s, t: s / t**2},
    "root of the temperature": {"scale": lambda s, t: s / t**0.5},
    "twice the temperature": {"scale": lambda s, t: s / (2 * t)},
    "half the temperature": {"scale": lambda s, t: 2 * s / t},
    "positive left out": {
        "losses": lambda x, other: _without(x, _itself(x), _chosen(x, other)) - _positive(x, other),
    },
    "positive counted twice": {
        "losses": lambda x, other: (
            torch.logaddexp(_without(x, _itself(x)), _positive(x, other)) - _positive(x, other)
        )
    },
    "candidates from the other view alone": {
        "losses": lambda x, other: _without(x, _same_view(x)) - _positive(x, other)
    },
    "candidates from the same view alone": {
        "losses": lambda x, other: (
            _without(x, ~_same_view(x) & ~_chosen(x, other), _itself(x)) - _positive(x, other)
        )
    },
    "hardest candidate alone": {"losses": lambda x, other: _hardest(x, other) - _positive(x, other)},
    "mean of the candidates": {
        "losses": lambda x, other: (
            _without(x, _itself(x)) - torch.tensor(len(x) - 1.0).log() - _positive(x, other)
        )
    },
    "mean of the negatives": {
        "losses": lambda x, other: (
            _without(x, _itself(x), _chosen(x, other)) - torch.tensor(len(x) - 2.0).log() - _positive(x, other)
        )
    },
    "no candidates": {"losses": lambda x, other: -_positive(x, other)},
    "softmax twice": {"losses": lambda x, other: _softmax(x).logsumexp(dim=1) - _positive(_softmax(x), other)},
    "exponential twice": {
        "losses": lambda x, other: _without(x.exp(), _itself(x)) - _positive(x.exp(), other),
    },
    "no logarithm": {"losses": lambda x, other: -_positive(_softmax(x), other)},
    "1 minus the probability": {"losses": lambda x, other: 1 - _positive(_softmax(x), other)},
    "opposite similarity": {"similarity": lambda rows: -rows @ rows.T},
    "distance": {"similarity": lambda rows: -_distances(rows).clamp(min=1e-18).sqrt()},
    "distance of rows that are not normalised": {
        "rows": _both,
        "similarity": lambda rows: -_distances(rows).clamp(min=1e-18).sqrt(),
    },
    "squared distance of rows that are not normalised": {"rows": _both, "similarity": lambda rows: -_distances(rows)},
    "negative similarities cut off": {"similarity": lambda rows: (rows @ rows.T).clamp(min=0)},
    "absolute similarities": {"similarity": lambda rows: (rows @ rows.T).abs()},
    "squared similarities": {"similarity": lambda rows: (rows @ rows.T).square()},
    "one direction": {"reduce": lambda losses, t: losses[: len(losses) // 2].mean()},
    "other direction": {"reduce": lambda losses, t: losses[len(losses) // 2 :].mean()},
    "sum": {"reduce": lambda losses, t: losses.sum()},
    "sum of one direction": {"reduce": lambda losses, t: losses[: len(losses) // 2].sum()},
    "twice the mean": {"reduce": lambda losses, t: 2 * losses.mean()},
    "half the mean": {"reduce": lambda losses, t: losses.mean() / 2},
    "divided twice": {"reduce": lambda losses, t: losses.mean() / len(losses)},
    "divided by n twice": {"reduce": lambda losses, t: 2 * losses.mean() / (len(losses) // 2)},
    "mean over 2n - 1": {"reduce": lambda losses, t: losses.sum() / (len(losses) - 1)},
    "times the temperature": {"reduce": lambda losses, t: t * losses.mean()},
    "times twice the temperature": {"reduce": lambda losses, t: 2 * t * losses.mean()},
    "negative": {"reduce": lambda losses, t: -losses.mean()},
    "largest": {"reduce": lambda losses, t: losses.max()},
    "mean of the probabilities": {"reduce": lambda losses, t: -losses.neg().exp().mean().log()},
}  # fmt: skip

# right up to a factor: the public checks take points for that
FACTORS = {
    "sum", "twice the mean", "half the mean", "divided twice", "divided by n twice",
    "mean over 2n - 1", "times the temperature", "times twice the temperature",
}  # fmt: skip

# with the right value, and another gradient
DETACHED: dict[str, dict[str, Callable[..., Tensor]]] = {
    "lengths without gradient": {"rows": lambda a, b: _both(a, b) / _both(a, b).detach().norm(dim=1, keepdim=True)},
    "candidates without gradient": {"similarity": lambda rows: rows @ rows.detach().T},
    "negatives without gradient": {
        "losses": lambda x, other: (
            _without(torch.where(_chosen(x, other), x, x.detach()), _itself(x)) - _positive(x, other)
        )
    },
    "denominator without gradient": {
        "losses": lambda x, other: _without(x, _itself(x)).detach() - _positive(x, other)
    },
    "positives without gradient": {
        "losses": lambda x, other: _without(x, _itself(x)) - _positive(x, other).detach()
    },
    "one direction without gradient": {
        "reduce": lambda losses, t: torch.cat([losses[: len(losses) // 2], losses[len(losses) // 2 :].detach()]).mean()
    },
}  # fmt: skip

# in addition to those of the public checks
SAYS = {
    "not normalised": "this is the loss of rows that are not normalised",
    "itself among the candidates of the second view": "this is the loss if the similarity with itself is left out for the rows of `z1` alone",
    "candidates from the other view alone": "this is the loss if only rows of the other view are candidates",
    "normalised over the batch": "this is the loss if each column is normalised, and not each row",
    "each view normalised over the batch": "this is the loss if each column of a view is normalised, and not each row",
    "views normalised as a whole": "this is the loss if each view is divided by one number, and not each row by its length",
    "first view not normalised": "this is the loss if only the second view is normalised",
    "second view not normalised": "this is the loss if only the first view is normalised",
    "divided by the squared length": "this is the loss of rows that are divided by the square of their length",
    "divided by the sum of absolute values": "this is the loss of rows that are divided by the sum of their absolute values",
    "centred": "this is the loss of rows that are centred first, which is a correlation and not a cosine",
    "first view twice": "this is the loss of `z1` and `z1`",
    "second view twice": "this is the loss of `z2` and `z2`",
    "wrong positives": "this is the loss if rows 2i and 2i + 1 are a pair: is that how the views are put together?",
    "positives of the next image": "this is the loss if the positive of a row is the other view of the next image",
    "positives of the image before": "this is the loss if the positive of a row is the other view of the image before",
    "positives of the next image in one view": "this is the loss if the positive of a row of `z2` is one row too far",
    "positives in reverse": "this is the loss if the first row and the last are a pair, and so on",
    "candidates from the same view alone": "this is the loss if the negatives of a row are those of its own view alone",
    "mean of the candidates": "this is the loss with the mean of the candidates in the denominator, not their sum",
    "mean of the negatives": "this is the loss with the mean of the negatives in the denominator",
    "softmax twice": "this is the cross-entropy of probabilities: `F.cross_entropy` applies softmax itself",
    "exponential twice": "this is the cross-entropy of exponentials: `F.cross_entropy` applies the exponential itself",
    "no logarithm": "this is the mean probability of the positives, without a logarithm",
    "distance of rows that are not normalised": "this is the loss with distances in place of cosines",
    "squared distance of rows that are not normalised": "this is the loss with squared distances in place of cosines",
    "one direction": "this is the loss of the rows of `z1` alone: those of `z2` have to find their other view, too",
    "other direction": "this is the loss of the rows of `z2` alone: those of `z1` have to find their other view, too",
    "largest": "this is the largest loss of a row, not the mean",
    "lengths without gradient": "that of a loss in which the lengths of rows are constants",
    "candidates without gradient": "that of a loss in which candidates are constants",
    "negatives without gradient": "that of a loss in which negatives are constants",
    "denominator without gradient": "that of a loss whose denominator is a constant",
    "positives without gradient": "that of a loss in which positives are constants",
    "one direction without gradient": "that of a loss in which the losses of the rows of `z2` are constants",
    FEW_DIGITS: "about that of the loss, with few digits: is something computed in half precision?",
}

Case = tuple[Tensor, Tensor, float]


def formula(name: str) -> Formula:
    """Return the loss with these mistakes, joined as symptoms are; the contract's for an empty name."""
    changes: dict[str, Any] = {}
    for part in name.split("; "):
        changes |= {**MISTAKES, **DETACHED, "": {}, FEW_DIGITS: {}}[part]
    return replace(Formula(), **changes)


def recognised(cases: Sequence[Case], values: Sequence[float]) -> str | None:
    """Return the mistakes that explain the values of a submission; empty if they are right, ``None`` if none do.

    Args:
        cases: Views and temperature of each case.
        values: Loss of each case.
    """
    pairs = (
        symptoms.join(*names)
        for names in itertools.combinations(MISTAKES, 2)
        if not MISTAKES[names[0]].keys() & MISTAKES[names[1]].keys()
    )

    def explains(name: str, tolerance: float = NEAR) -> bool:
        loss = formula(name)
        return all(close(loss(*case), torch.tensor(seen), tolerance) for case, seen in zip(cases, values, strict=True))

    if explains(""):
        return ""
    one = next(filter(explains, MISTAKES), None)
    if one is None and explains("", ROUGH):
        return FEW_DIGITS
    # one mistake is more likely than two
    return one or next(filter(explains, pairs), None)
