"""How often new labels occur in many episodes, against how often they should.

Each count is binomial if draws are fair: ``n`` draws, each with the probability ``p``. By Chernoff's bound the share of
draws is further from ``p`` than a share ``x`` on the same side with a probability of at most ``exp(-n KL(x || p))``,
where ``KL`` is the divergence of two coins. A count is unfair if that is below ``ALARM / (2 m)``, with ``m`` counts in
a check and two sides. A fair sampler then fails a check with a probability of at most ``ALARM``, and one of the three
checks in a run with at most 3e-9.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from amllab.checks.meta_learning.episode_faults import Episode, Question

ALARM = 1e-9  # probability that a check fails a fair sampler


@dataclass(frozen=True)
class Count:
    """A number of draws in which something happened.

    Attributes:
        words: What happened.
        symptom: Symptom of a count that is not fair.
        times: In how many draws.
        draws: Of how many.
        probability: Its probability in each of them.
    """

    words: str
    symptom: str
    times: int
    draws: int
    probability: float

    @property
    def surprise(self) -> float:
        """Minus the logarithm of Chernoff's bound."""
        if not self.draws or not 0 < self.probability < 1:
            return 0.0
        share, p = self.times / self.draws, self.probability
        parts = ((share, p), (1 - share, 1 - p))
        return self.draws * sum(a * math.log(a / b) for a, b in parts if a > 0)

    def __str__(self) -> str:
        """Return what was seen in words."""
        expected = self.draws * self.probability
        return f"{self.words} in {self.times} of {self.draws} draws, where about {expected:.0f} are expected"


def unfair(counts: Sequence[Count]) -> Count | None:
    """Return the first count that is not fair; ``None`` if all may be."""
    limit = math.log(2 * len(counts) / ALARM) if counts else 0.0
    return next((count for count in counts if count.surprise > limit), None)


def of_labels(question: Question, episodes: Sequence[Episode]) -> list[Count]:
    """Count the draws in which each class has each new label, and those with each order of new labels.

    A class with several new labels in a draw does not count there.
    """
    named: dict[int, Counter[int]] = defaultdict(Counter)
    orders: Counter[tuple[int, ...]] = Counter()
    for index, new, *_ in episodes:
        labels: dict[int, set[int]] = defaultdict(set)
        for label, c in zip(new.tolist(), question.labels[index].tolist(), strict=False):
            labels[c].add(label)
        one = {c: next(iter(found)) for c, found in labels.items() if len(found) == 1}
        for c, label in one.items():
            named[c][label] += 1
        if len(set(one.values())) == len(one) == question.n_way:
            ranks = {label: rank for rank, label in enumerate(sorted(one.values()))}
            orders[tuple(ranks[one[c]] for c in sorted(one))] += 1
    way, symptom = question.n_way, "the new label tells the class"
    seen = {label for found in named.values() for label in found}
    # labels that are wrong in themselves, such as those from 1 on, lose points elsewhere
    usual = seen if len(seen) == way else range(way)
    counts = [
        Count(f"class {c} is label {label}", symptom, found[label], found.total(), 1 / way)
        for c, found in sorted(named.items())
        for label in sorted({*usual, *found})
    ]
    every = list(itertools.permutations(range(way)))
    return counts + [
        Count(
            f"the classes in ascending order are labels {', '.join(map(str, order))}",
            "new labels follow the order of the classes",
            orders[order],
            orders.total(),
            1 / len(every),
        )
        for order in every
    ]
