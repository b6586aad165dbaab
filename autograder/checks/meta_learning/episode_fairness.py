"""How often classes, new labels and images occur in many episodes, against how often they should.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

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


def able_classes(question: Question) -> dict[int, list[int]]:
    """Return class -> indices of its images, of the classes with enough images."""
    images: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(question.labels.tolist()):
        images[label].append(index)
    return {c: found for c, found in sorted(images.items()) if len(found) >= question.k_shot + question.n_query}


def of_classes(question: Question, episodes: Sequence[Episode]) -> list[Count]:
    """Count the draws with each class, and those with each pair of classes."""
    classes, draws = list(able_classes(question)), len(episodes)
    drawn = [set(question.labels[torch.cat([episode[0], episode[2]])].tolist()) for episode in episodes]
    n, way = len(classes), question.n_way
    single = [
        Count(f"class {c}", "some classes more often", sum(c in one for one in drawn), draws, way / n) for c in classes
    ]
    both = way * (way - 1) / (n * (n - 1))
    pairs = [
        Count(
            f"classes {a} and {b} together",
            "some classes together more often",
            sum(a in one and b in one for one in drawn),
            draws,
            both,
        )
        for a, b in itertools.combinations(classes, 2)
    ]
    return single + pairs


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


def of_images(question: Question, episodes: Sequence[Episode]) -> list[Count]:
    """Count the draws with each image in the support and in the query, of those with its class.

    Counted are draws in which the class has its number of different images there. Two support images are also counted
    by how far apart their places in the class are, in a circle: of one class in each draw, because draws that shuffle
    all classes alike are fair, too.
    """
    images = able_classes(question)
    place_of = {index: place for found in images.values() for place, index in enumerate(found)}
    drawn: dict[str, dict[int, dict[int, list[int]]]] = {}  # part -> class -> draw -> places
    for part, name, wanted in ((0, "support", question.k_shot), (2, "query", question.n_query)):
        drawn[name] = {c: {} for c in images}
        for draw, episode in enumerate(episodes):
            by_class: dict[int, set[int]] = defaultdict(set)
            for index in episode[part].tolist():
                by_class[int(question.labels[index])].add(index)
            for c in images.keys() & by_class.keys():
                if len(by_class[c]) == wanted:
                    drawn[name][c][draw] = [place_of[index] for index in sorted(by_class[c])]
    counts = [
        Count(
            f"image {place} of class {c}, of {len(images[c])}, in the {name}",
            f"some images more often in the {name}",
            sum(place in one for one in draws.values()),
            len(draws),
            size / len(images[c]),
        )
        for (name, by_draw), size in zip(drawn.items(), (question.k_shot, question.n_query), strict=True)
        for c, draws in by_draw.items()
        if size < len(images[c])
        for place in range(len(images[c]))
    ]
    return counts + list(_distances(question, images, drawn["support"]))


def _distances(
    question: Question, images: dict[int, list[int]], support: dict[int, dict[int, list[int]]]
) -> Iterable[Count]:
    size = Counter(map(len, images.values())).most_common(1)[0][0]
    if question.k_shot != 2 or size < 4:
        return
    one_class = {draw: pair for c, draws in support.items() if len(images[c]) == size for draw, pair in draws.items()}
    distances = Counter(min(b - a, size - b + a) for a, b in one_class.values())
    for distance in range(1, size // 2 + 1):
        pairs = size if 2 * distance < size else size // 2
        yield Count(
            f"support images of a class, of {size}, at places {distance} apart",
            "some images together more often",
            distances[distance],
            len(one_class),
            pairs / math.comb(size, 2),
        )
