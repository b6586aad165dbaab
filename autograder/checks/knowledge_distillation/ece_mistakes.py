"""Calibration errors, right and wrong, by which the checks recognise what a submission computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.knowledge_distillation.ece_tables import NEAR

FEW_DIGITS = "few digits"


@dataclass(frozen=True, eq=False)
class Case:
    """Examples and a number of bins.

    Attributes:
        logits: Float ``(n, classes)``.
        labels: int64 ``(n,)``.
        n_bins: Number of bins.
    """

    logits: Tensor
    labels: Tensor
    n_bins: int


@dataclass(frozen=True, eq=False)
class Bins:
    """What is known of the bins of a case.

    Attributes:
        sizes: Numbers of examples, float64 ``(bins,)``.
        accuracy: Accuracy in each bin; 0 in an empty one.
        confidence: Mean confidence in each bin; 0 in an empty one.
        n: Number of all examples, also of those that have no bin.
    """

    sizes: Tensor
    accuracy: Tensor
    confidence: Tensor
    n: int

    @property
    def shares(self) -> Tensor:
        """Shares of all examples."""
        return self.sizes / self.n

    @property
    def gaps(self) -> Tensor:
        """Accuracy minus confidence."""
        return self.accuracy - self.confidence

    @property
    def centres(self) -> Tensor:
        """Middles of the bins."""
        return (torch.arange(len(self.sizes), dtype=torch.float64) + 0.5) / len(self.sizes)

    @property
    def filled(self) -> Tensor:
        """Which bins have examples."""
        return self.sizes > 0


def _most_probable(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    confidence, predicted = probabilities.max(dim=1)
    return confidence, (predicted == labels).double()


def _of_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    return own, (probabilities.argmax(dim=1) == labels).double()


def _all_classes(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return probabilities.flatten(), F.one_hot(labels, probabilities.shape[1]).double().flatten()


def _margin(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return first - second, _most_probable(probabilities, labels)[1]


def _certainty(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    entropy = torch.special.entr(probabilities).sum(dim=1)
    return 1 - entropy / torch.tensor(probabilities.shape[1]).log(), _most_probable(probabilities, labels)[1]


def _equal_widths(confidence: Tensor, n_bins: int, lowest: float = 0.0, highest: float = 1.0) -> Tensor:
    place = (confidence - lowest) / (highest - lowest) * n_bins
    return place.floor().clamp(0, n_bins - 1).long()


def _equal_numbers(confidence: Tensor, n_bins: int) -> Tensor:
    place = torch.empty_like(confidence, dtype=torch.long)
    for number, part in enumerate(confidence.argsort().tensor_split(n_bins)):
        place[part] = number
    return place


def _lost(place: Tensor, where: Tensor) -> Tensor:
    """Return bins of examples; -1 where they have none."""
    return torch.where(where, -1, place)


def _usual_bins(confidence: Tensor, n_bins: int, classes: int) -> Tensor:
    return _equal_widths(confidence, n_bins)


@dataclass(frozen=True)
class Formula:
    """A calibration error; the defaults follow the contract.

    Attributes:
        probabilities: Function of the logits: probabilities, ``(n, classes)``.
        judged: Function of probabilities and labels: confidences, and 1 where an example is right, else 0.
        bins: Function of confidences, number of bins and number of classes: the bin of each example, -1 for none.
        reduce: Function of the bins: the result.
    """

    probabilities: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(dim=1)
    judged: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _most_probable
    bins: Callable[[Tensor, int, int], Tensor] = _usual_bins
    reduce: Callable[[Bins], Tensor] = lambda b: (b.shares * b.gaps.abs()).sum()

    def __call__(self, case: Case) -> float:
        """Return the value for a case, computed in float64."""
        confidence, right = self.judged(self.probabilities(case.logits.double()), case.labels)
        place = self.bins(confidence, case.n_bins, case.logits.shape[1])
        number = max(case.n_bins, int(place.max()) + 1)
        kept = place >= 0
        sizes, accuracy, sure = (
            torch.zeros(number, dtype=torch.float64).index_add(0, place[kept], values[kept])
            for values in (torch.ones_like(right), right, confidence)
        )
        filled = sizes.clamp(min=1)
        return float(self.reduce(Bins(sizes, accuracy / filled, sure / filled, len(right))))


# symptom -> what a formula with this mistake has in place of the contract's
MISTAKES: dict[str, dict[str, Any]] = {
    "no softmax": {"probabilities": lambda x: x},
    "no softmax, outside of all bins": {
        "probabilities": lambda x: x,
        "bins": lambda c, n, k: _lost(_equal_widths(c, n), (c < 0) | (c > 1)),
    },
    "sigmoid": {"probabilities": lambda x: x.sigmoid()},
    "softmax over the examples": {"probabilities": lambda x: x.softmax(dim=0)},
    "softmax over all logits": {"probabilities": lambda x: x.flatten().softmax(dim=0).view_as(x)},
    "softmax twice": {"probabilities": lambda x: x.softmax(dim=1).softmax(dim=1)},
    "logarithms of probabilities": {"probabilities": lambda x: x.log_softmax(dim=1)},
    "divided by the sum": {"probabilities": lambda x: x / x.sum(dim=1, keepdim=True)},
    "probability of the label": {"judged": _of_label},
    "all classes": {"judged": _all_classes},
    "margin": {"judged": _margin},
    "entropy": {"judged": _certainty},
    "smallest probability": {"judged": lambda p, y: (p.amin(dim=1), _most_probable(p, y)[1])},
    "least probable class": {"judged": lambda p, y: (p.amax(dim=1), (p.argmin(dim=1) == y).double())},
    "mean probability": {"judged": lambda p, y: (p.mean(dim=1), _most_probable(p, y)[1])},
    "wrong ones count as right": {"judged": lambda p, y: (p.amax(dim=1), 1 - _most_probable(p, y)[1])},
    "one of the two best": {"judged": lambda p, y: (p.amax(dim=1), (p.topk(2).indices == y[:, None]).any(1).double())},
    "10 bins always": {"bins": lambda c, n, k: _equal_widths(c, 10)},
    "15 bins always": {"bins": lambda c, n, k: _equal_widths(c, 15)},
    "20 bins always": {"bins": lambda c, n, k: _equal_widths(c, 20)},
    "15 bins at most": {"bins": lambda c, n, k: _equal_widths(c, n).clamp(max=14)},
    "one bin always": {"bins": lambda c, n, k: _equal_widths(c, 1)},
    "as many bins as classes": {"bins": lambda c, n, k: _equal_widths(c, k)},
    "one bin less": {"bins": lambda c, n, k: _equal_widths(c, max(n - 1, 1))},
    "one bin more": {"bins": lambda c, n, k: _equal_widths(c, n + 1)},
    "bins over [1/classes, 1]": {"bins": lambda c, n, k: _equal_widths(c, n, 1 / k)},
    "bins over [0.5, 1]": {"bins": lambda c, n, k: _equal_widths(c, n, 0.5)},
    "bins over the confidences that occur": {"bins": lambda c, n, k: _equal_widths(c, n, float(c.min()), float(c.max()))},
    "bins up to the largest confidence": {"bins": lambda c, n, k: _equal_widths(c, n, 0.0, float(c.max()))},
    "bins of equal numbers": {"bins": lambda c, n, k: _equal_numbers(c, n)},
    "bins by rounding": {"bins": lambda c, n, k: (c * n).round().long()},
    "first bin lost": {"bins": lambda c, n, k: _lost(_equal_widths(c, n), c < 1 / n)},
    "last bin lost": {"bins": lambda c, n, k: _lost(_equal_widths(c, n), c > 1 - 1 / n)},
    "each example its own bin": {"bins": lambda c, n, k: torch.arange(len(c))},
    "signed": {"reduce": lambda b: (b.shares * b.gaps).sum()},
    "signed, the other way round": {"reduce": lambda b: -(b.shares * b.gaps).sum()},
    "overconfidence alone": {"reduce": lambda b: (b.shares * (-b.gaps).clamp(min=0)).sum()},
    "underconfidence alone": {"reduce": lambda b: (b.shares * b.gaps.clamp(min=0)).sum()},
    "squared": {"reduce": lambda b: (b.shares * b.gaps.square()).sum()},
    "root of squares": {"reduce": lambda b: (b.shares * b.gaps.square()).sum().sqrt()},
    "largest": {"reduce": lambda b: b.gaps.abs().max()},
    "unweighted": {"reduce": lambda b: b.gaps[b.filled].abs().mean()},
    "unweighted, empty bins too": {"reduce": lambda b: b.gaps.abs().mean()},
    "not weighted": {"reduce": lambda b: b.gaps.abs().sum()},
    "weighted, and divided by the number of bins": {"reduce": lambda b: (b.shares * b.gaps.abs()).mean()},
    "weighted, and divided by the number of filled bins": {"reduce": lambda b: (b.shares * b.gaps.abs())[b.filled].mean()},
    "weighted by the numbers of examples": {"reduce": lambda b: (b.sizes * b.gaps.abs()).sum()},
    "weighted twice": {"reduce": lambda b: (b.shares.square() * b.gaps.abs()).sum()},
    "weighted by the confidences": {"reduce": lambda b: (b.confidence * b.gaps.abs()).sum() / b.confidence.sum()},
    "middles of the bins": {"reduce": lambda b: (b.shares * (b.accuracy - b.centres).abs()).sum()},
    "upper edges": {"reduce": lambda b: (b.shares * (b.accuracy - b.centres - 0.5 / len(b.sizes)).abs()).sum()},
    "lower edges": {"reduce": lambda b: (b.shares * (b.accuracy - b.centres + 0.5 / len(b.sizes)).abs()).sum()},
    "accuracy of all examples": {
        "reduce": lambda b: (b.shares * ((b.shares * b.accuracy).sum() - b.confidence).abs()).sum()
    },
    "confidence of all examples": {
        "reduce": lambda b: (b.shares * (b.accuracy - (b.shares * b.confidence).sum()).abs()).sum()
    },
    "right ones per example": {"reduce": lambda b: (b.shares * (b.shares * b.accuracy - b.confidence).abs()).sum()},
    "bins of one example lost": {"reduce": lambda b: (b.shares * b.gaps.abs())[b.sizes > 1].sum()},
    "bins without a right example lost": {"reduce": lambda b: (b.shares * b.gaps.abs())[b.accuracy > 0].sum()},
    "bins without a wrong example lost": {"reduce": lambda b: (b.shares * b.gaps.abs())[b.accuracy < 1].sum()},
    FEW_DIGITS: {"probabilities": lambda x: x.bfloat16().softmax(dim=1).double()},
    "percent": {"reduce": lambda b: 100 * (b.shares * b.gaps.abs()).sum()},
    "1 minus the error": {"reduce": lambda b: 1 - (b.shares * b.gaps.abs()).sum()},
    "negative": {"reduce": lambda b: -(b.shares * b.gaps.abs()).sum()},
    "half": {"reduce": lambda b: (b.shares * b.gaps.abs()).sum() / 2},
    "2 decimals": {"reduce": lambda b: (b.shares * b.gaps.abs()).sum().mul(100).round() / 100},
    "1 decimal": {"reduce": lambda b: (b.shares * b.gaps.abs()).sum().mul(10).round() / 10},
    "accuracy": {"reduce": lambda b: (b.shares * b.accuracy).sum()},
    "mean confidence": {"reduce": lambda b: (b.shares * b.confidence).sum()},
    "0": {"reduce": lambda b: torch.zeros(())},
}  # fmt: skip

# what is said of mistakes that the public checks do not name
SAYS = {
    "no softmax": "this is the value if the logits are taken for probabilities",
    "no softmax, outside of all bins": "this is the value if the logits are taken for probabilities",
    "sigmoid": "this is the value with a sigmoid of each logit: the probabilities of a row then have another sum than 1",
    "softmax over the examples": "this is the value if softmax goes over the examples, not over the classes",
    "softmax twice": "this is the value if softmax is applied twice",
    "probability of the label": "this is the value with the probability of the label as confidence: it is the highest probability",
    "all classes": "this is the value if every class of every example counts, not only the most probable one",
    "10 bins always": "this is the value with 10 bins, whatever is passed",
    "15 bins always": "this is the value with 15 bins, whatever is passed",
    "one bin less": "this is the value with one bin too few: n bins have n + 1 edges",
    "one bin more": "this is the value with one bin too many",
    "bins over [1/classes, 1]": "this is the value if the bins begin at 1 / classes, not at 0",
    "bins over the confidences that occur": "this is the value if the bins reach from the lowest to the highest confidence",
    "bins of equal numbers": "this is the value with bins of equal numbers of examples: the contract has equal widths",
    "each example its own bin": "this is the mean of the differences of single examples: a bin is averaged first",
    "bins by rounding": "this is the value if `confidence * n_bins` is rounded to the nearest bin",
    "last bin lost": "the examples of the last bin are missing in this value",
    "first bin lost": "the examples of the first bin are missing in this value",
    "one bin always": "this is the difference between accuracy and mean confidence of all examples: bins have no effect",
    "signed, the other way round": "this is the value if gaps keep their signs, and cancel each other",
    "unweighted, empty bins too": "this is the mean of the gaps over all bins, empty ones too: each bin counts by its share of the examples",
    "weighted, and divided by the number of bins": "this is the value, divided by the number of bins",
    "weighted by the numbers of examples": "this is the value, not divided by the number of examples",
    "bins of one example lost": "this is the value if bins with a single example are left out",
    "bins without a right example lost": "this is the value if bins are left out in which no example is right",
    "bins without a wrong example lost": "this is the value if bins are left out in which all examples are right",
    FEW_DIGITS: "about right, with few digits: is something computed in half precision?",
    "middles of the bins": "this is the value with the middle of each bin in place of the mean confidence in it",
    "upper edges": "this is the value with the upper edge of each bin in place of the mean confidence in it",
    "lower edges": "this is the value with the lower edge of each bin in place of the mean confidence in it",
    "confidence of all examples": "this is the value with the mean confidence of all examples in place of that of the bin",
    "overconfidence alone": "this is the value if only bins count whose confidence is above the accuracy",
    "accuracy of all examples": "this is the value with the accuracy of all examples in place of that of the bin",
    "2 decimals": "this is the value, rounded to two decimals",
}


def formula(name: str) -> Formula:
    """Return the calibration error with a mistake; the contract's for an empty name."""
    return replace(Formula(), **MISTAKES[name]) if name else Formula()


def recognised(cases: Sequence[Case], values: Sequence[float]) -> str:
    """Return the mistake that explains the values of all cases; empty if none does, or several do."""
    found = [
        name
        for name in MISTAKES
        if all(abs(formula(name)(case) - value) <= NEAR for case, value in zip(cases, values, strict=True))
    ]
    return found[0] if len(found) == 1 else ""
