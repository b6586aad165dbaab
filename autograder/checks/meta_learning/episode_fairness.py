"""How often classes and images occur in many episodes, against how often they should."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch

from amllab.checks.meta_learning.episode_fairness import Count
from amllab.checks.meta_learning.episode_faults import Episode, Question


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
