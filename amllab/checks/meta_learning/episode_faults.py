"""What is wrong with episodes: images that occur twice, labels that name no class, wrong numbers of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amllab.checks.meta_learning.episode_probes import PARTS
from amllab.kit.expectations import Call

Episode = tuple[Tensor, Tensor, Tensor, Tensor]  # as a submission returned it, as rows of whole numbers

# orders in which the four tensors come instead, in words
ORDERS = {
    (0, 1, 2, 3): "",
    (0, 2, 1, 3): "both index tensors first, then both label tensors",
    (1, 0, 3, 2): "labels before indices",
    (1, 3, 0, 2): "both label tensors first, then both index tensors",
    (2, 3, 0, 1): "the query before the support",
}


@dataclass(frozen=True, eq=False)
class Question:
    """Arguments of ``sample_episode``.

    Attributes:
        labels: Labels of a data set, int64 ``(n,)``.
        n_way: Number of classes.
        k_shot: Support images of each class.
        n_query: Query images of each class.
        setup: Line by which a student makes labels of this kind.
    """

    labels: Tensor
    n_way: int
    k_shot: int
    n_query: int
    setup: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as the probe takes them."""
        return {"labels": self.labels, "n_way": self.n_way, "k_shot": self.k_shot, "n_query": self.n_query}

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The number of entries of each tensor."""
        support, query = self.n_way * self.k_shot, self.n_way * self.n_query
        return support, support, query, query

    @property
    def call(self) -> Call:
        """The call as a student reads it."""
        text = f"sample_episode(labels, {self.n_way}, {self.k_shot}, {self.n_query}, torch.Generator())"
        return Call(text, self.setup)


def episodes_in(got: Mapping[str, Any]) -> list[Episode]:
    """Return the episodes in an answer, one for each draw."""
    columns = [numbers.split(counts.tolist()) for numbers, counts in zip(got["numbers"], got["counts"].T, strict=True)]
    return list(zip(*columns, strict=True))


def order_of(question: Question, episodes: Sequence[Episode]) -> tuple[int, ...]:
    """Return the order in which the four tensors come: the contract's, unless only another one gives right episodes."""
    orders = (order for order in ORDERS if not faults(question, in_order(episodes, order)))
    return next(orders, next(iter(ORDERS)))


def in_order(episodes: Sequence[Episode], order: Sequence[int]) -> list[Episode]:
    """Return the episodes with their tensors in this order."""
    return [(one[order[0]], one[order[1]], one[order[2]], one[order[3]]) for one in episodes]


def faults(question: Question, episodes: Sequence[Episode]) -> dict[str, tuple[str, str]]:
    """Return kind of fault -> symptom and description, of the most frequent fault of this kind.

    Kinds are ``"sizes"``, ``"range"``, ``"images"`` and ``"labels"``. An episode whose indices lie outside of the data
    set has no fault of the last two kinds, since nothing is known about its images.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for episode in episodes:
        for kind, fault in (("sizes", _sizes), ("range", _range), ("images", _images)):
            said = fault(question, episode)
            if said:
                found.setdefault(kind, []).append(said)
            if said and kind == "range":
                break
    labels = _labels(question, [episode for episode in episodes if not _range(question, episode)])
    most = {kind: _most_frequent(said) for kind, said in found.items()}
    return {**most, "labels": labels} if labels else most


def of_classes(question: Question, episodes: Sequence[Episode]) -> bool:
    """Return whether episodes have to do with classes: by the images of the support, or by the labels of one part."""

    def whole(episode: Episode) -> bool:
        if _range(question, episode):
            return False
        drawn = Counter(question.labels[episode[0]].tolist())
        if sorted(drawn.values()) == [question.k_shot] * question.n_way:
            return True
        parts = ((episode[1], episode[0]), (episode[3], episode[2]))
        named = [_named(new, question.labels[index]) for new, index in parts if len(new) == len(index)]
        return any(len(one) > 1 and all(len(classes) == 1 for classes in one.values()) for one in named)

    # one number for each class, such as its label in place of indices, is no choice of images
    several = question.k_shot == 1 or any(
        len({*one[0].tolist(), *one[2].tolist()}) > question.n_way for one in episodes
    )
    return several and all(map(whole, episodes))


def _most_frequent(said: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the most frequent symptom, with the description of the first one."""
    symptom = Counter(symptom for symptom, _ in said).most_common(1)[0][0]
    return next(one for one in said if one[0] == symptom)


def _sizes(question: Question, episode: Episode) -> tuple[str, str] | None:
    wanted, seen = question.sizes, tuple(map(len, episode))
    if seen == wanted:
        return None
    part = next(i for i in range(4) if seen[i] != wanted[i])
    symptom = "other numbers of images"
    if seen == (*wanted[:2], question.n_query, question.n_query):
        symptom = "n_query images in all"
    elif seen == (question.k_shot, question.k_shot, *wanted[2:]):
        symptom = "k_shot images in all"
    return symptom, f"`{PARTS[part]}` has {seen[part]} entries, not {wanted[part]}"


def _range(question: Question, episode: Episode) -> tuple[str, str] | None:
    for part in (0, 2):
        outside = [i for i in episode[part].tolist() if not 0 <= i < len(question.labels)]
        if outside:
            return "no indices", f"`{PARTS[part]}` has {outside[0]}, which is no index of {len(question.labels)} labels"
    return None


def _images(question: Question, episode: Episode) -> tuple[str, str] | None:
    support, query = episode[0].tolist(), episode[2].tolist()
    both = set(support) & set(query)
    if both:
        share = f"{len(both)} of {len(set(query))} query images are support images as well"
        return ("query is the support" if both == set(query) else "support images in the query"), share
    for name, images in (("support", support), ("query", query)):
        if len(set(images)) < len(images):
            return f"images twice in the {name}", f"the {name} has {len(images)} entries, but {len(set(images))} images"
    return None


def _labels(question: Question, episodes: Sequence[Episode]) -> tuple[str, str] | None:
    """Return what is wrong with new labels in some episode."""
    looked = [e for e in episodes if len(e[0]) == len(e[1]) and len(e[2]) == len(e[3])]
    if not looked:
        return ("no labels", "there is no label for each index") if episodes else None
    classes = [(question.labels[episode[0]], question.labels[episode[2]]) for episode in looked]
    said = [
        one for e, both in zip(looked, classes, strict=True) if (one := _in_episode(question, e, *both)) is not None
    ]
    if not said:
        return None
    kept = all(torch.equal(e[1], s) and torch.equal(e[3], q) for e, (s, q) in zip(looked, classes, strict=True))
    if kept:
        new = sorted(set(looked[0][1].tolist()))
        return "labels of the data set", f"the labels of the data set, such as {_listed(new)}"
    return _most_frequent(said)


def _in_episode(question: Question, episode: Episode, support: Tensor, query: Tensor) -> tuple[str, str] | None:
    way = question.n_way
    new = sorted(set(episode[1].tolist()) | set(episode[3].tolist()))
    if new and new == list(range(1, way + 1)):
        return "labels from 1", f"labels from 1 to {way}"
    if any(not 0 <= label < way for label in new):
        return "other labels", f"new labels {_listed(new)}"
    if len(new) == 1 < way:
        return "all labels alike", f"the label {new[0]} alone"
    named = _named(episode[1], support)
    several = next((label for label in named if len(named[label]) > 1), None)
    if several is not None:
        return (
            "a label names several classes",
            f"in the support, label {several} has images of {_classes(named[several])}",
        )
    if len({next(iter(classes)) for classes in named.values()}) < len(named):
        twice = Counter(next(iter(classes)) for classes in named.values()).most_common(1)[0][0]
        return "a class twice", f"class {twice} of the data set has several new labels"
    asked = _named(episode[3], query)
    other = next((label for label in asked if asked[label] != named.get(label)), None)
    if other is not None:
        told = f"label {other} has images of {_classes(named.get(other, set()))} in the support"
        same = {c for found in named.values() for c in found} == {c for found in asked.values() for c in found}
        symptom = "query labels in another order" if same else "other classes in the query"
        return symptom, f"{told}, and of {_classes(asked[other])} in the query"
    if _sizes(question, episode):
        return None
    for part, labels, wanted in ((0, episode[1], question.k_shot), (2, episode[3], question.n_query)):
        counted = Counter(labels.tolist())
        for label in range(way):
            if counted[label] != wanted:
                where = PARTS[part].split("_")[0]
                return "other numbers of a class", f"label {label} has {counted[label]} {where} images, not {wanted}"
    return None


def _named(new: Tensor, classes: Tensor) -> dict[int, set[int]]:
    """Return new label -> classes of the data set that its images have."""
    found: dict[int, set[int]] = {}
    for label, of_image in zip(new.tolist(), classes.tolist(), strict=True):
        found.setdefault(label, set()).add(of_image)
    return found


def _classes(classes: set[int]) -> str:
    if not classes:
        return "no class"
    return f"class{'es' * (len(classes) > 1)} {_listed(sorted(classes))}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
