"""Examples whose calibration error is known from the way in which they are made.

Each group has one confidence, and a bin of its own. Its gap is chosen first, and the confidence follows from it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from amllab.kit.expectations import Call
from amllab.seeds import derive

NEAR = 1e-3  # largest difference from a value: three decimals are enough
ROUGH = 6e-3  # the same for two decimals, which lose points once, for random logits
# what the usual wrong values are, in words that a report adds to the number that was seen
SAYS = {
    "signed": "this is the value if gaps keep their signs, and cancel each other",
    "percent": "this is the value in per cent",
    "unweighted": "this is the mean of the gaps, in which a bin of few examples counts as much as one of many",
    "not weighted": "this is the sum of the gaps, without the shares of the examples",
    "largest": "this is the largest gap: the maximum calibration error",
    "squared": "this is the value with squares of the gaps in place of absolute values",
    "root of squares": "this is the root of the mean square of the gaps",
    "1 minus the error": "this is 1 minus the calibration error",
    "negative": "this is the value with the opposite sign",
}


@dataclass(frozen=True)
class Group:
    """Examples of one confidence.

    Attributes:
        size: Number of examples.
        right: Number of those whose label is the most probable class.
        gap: Share of right ones minus confidence.
    """

    size: int
    right: int
    gap: float

    @property
    def confidence(self) -> float:
        """The confidence of all examples of the group."""
        return self.right / self.size - self.gap


@dataclass(frozen=True, eq=False)
class Known:
    """Examples with a known calibration error.

    Attributes:
        logits: Float ``(n, classes)``.
        labels: int64 ``(n,)``.
        n_bins: Number of bins.
        wanted: The calibration error.
        wrong: What usual mistakes give, by their names.
        call: The call as a student reads it.
    """

    logits: Tensor
    labels: Tensor
    n_bins: int
    wanted: float
    wrong: dict[str, float]
    call: Call

    @property
    def question(self) -> dict[str, object]:
        """The arguments of the probe."""
        return {"logits": self.logits, "labels": self.labels, "n_bins": self.n_bins}


def rows(
    confidences: Sequence[float], hits: Sequence[bool], classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return logits, float ``(n, classes)``, and labels, int64 ``(n,)``, of examples in random order.

    Args:
        confidences: The largest probability of each example.
        hits: Whether its label is the class with this probability.
        classes: Number of classes.
        generator: Generator for everything else: the classes, the other probabilities, a constant that is added to
            the logits of a row and does not change its probabilities.
    """
    order = torch.randperm(len(confidences), generator=generator).tolist()
    top = torch.randint(classes, (len(order),), generator=generator)
    logits = torch.empty(len(order), classes, dtype=torch.float64)
    for row, (place, first) in enumerate(zip(order, top.tolist(), strict=True)):
        share = 0.9 + 0.2 * torch.rand(classes, generator=generator, dtype=torch.float64)
        share[first] = 0
        probabilities = (1 - confidences[place]) * share / share.sum()
        probabilities[first] = confidences[place]
        logits[row] = probabilities.log() + 6 * torch.rand(1, generator=generator, dtype=torch.float64) - 3
    # the label of every other miss is the second most probable class, so that a hit among two classes is noticed
    second = logits.scatter(1, top[:, None], float("-inf")).argmax(dim=1)
    elsewhere = (top + torch.randint(1, classes, (len(order),), generator=generator)) % classes
    miss = torch.tensor([not hits[place] for place in order])
    other = torch.where(miss.cumsum(0) % 2 == 1, second, elsewhere)
    return logits.float(), torch.where(miss, other, top)


def setup_of(confidences: Sequence[float], sizes: Sequence[int], right: Sequence[int], classes: int) -> str:
    """Return lines that make such examples in a notebook; class 0 is the most probable one in all of them."""
    labels = " + ".join(f"[0] * {r} + [1] * {n - r}" for n, r in zip(sizes, right, strict=True))
    shown = ", ".join(f"{confidence:.4g}" for confidence in confidences)
    return (
        f"top = torch.tensor([{shown}]).repeat_interleave(torch.tensor({list(sizes)}))[:, None]\n"
        f"logits = torch.cat([top, (1 - top).expand(-1, {classes - 1}) / {classes - 1}], dim=1).log()\n"
        f"labels = torch.tensor({labels})"
    )


def known(groups: Sequence[Group], classes: int, n_bins: int, generator: torch.Generator) -> Known:
    """Return examples of groups, each of which has a bin of its own."""
    sizes, right = [group.size for group in groups], [group.right for group in groups]
    confidences = [group.confidence for group in groups for _ in range(group.size)]
    hits = [place < group.right for group in groups for place in range(group.size)]
    logits, labels = rows(confidences, hits, classes, generator)
    gaps = torch.tensor([group.gap for group in groups], dtype=torch.float64)
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    wanted = float(shares @ gaps.abs())
    signed = float(shares @ gaps)
    wrong = {
        "signed": signed,
        "percent": 100 * wanted,
        "unweighted": float(gaps.abs().mean()),
        "not weighted": float(gaps.abs().sum()),
        "largest": float(gaps.abs().max()),
        "squared": float(shares @ gaps.square()),
        "root of squares": float((shares @ gaps.square()).sqrt()),
        "1 minus the error": 1 - wanted,
        "negative": -wanted,
    }
    setup = setup_of([group.confidence for group in groups], sizes, right, classes)
    call = Call(f"expected_calibration_error(logits, labels, n_bins={n_bins})", setup)
    return Known(logits, labels, n_bins, wanted, wrong, call)


def _moved(rng: random.Random, *groups: tuple[int, int, float]) -> list[Group]:
    """Return groups whose confidences are moved a little, so that none of them is a constant."""
    return [Group(size, right, gap + rng.uniform(-0.01, 0.01)) for size, right, gap in groups]


@lru_cache(maxsize=4)
def with_known_gaps(run_seed: int) -> tuple[Known, ...]:
    """Return the cases that several checks look at; no bin is empty.

    Gaps have both signs, and small groups have large gaps. With the middle of its bin in place of the confidence, each
    gap would be larger.
    """
    rng = random.Random(derive(run_seed, "examples with known gaps"))
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    while True:
        cases = (
            known(_moved(rng, (4, 3, 0.57), (10, 8, 0.41), (6, 1, -0.433), (20, 16, -0.04)), 8, 4, generator),
            known(_moved(rng, (5, 4, 0.52), (9, 8, 0.33), (16, 8, -0.28)), 6, 3, generator),
        )
        # a value with two decimals is always another one
        if all(abs(round(case.wanted, 2) - case.wanted) > 2 * NEAR for case in cases):
            return cases
