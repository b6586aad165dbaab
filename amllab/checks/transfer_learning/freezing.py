"""Which layers are trainable: the usual mistakes as rules, by which a wrong choice is described, named and explained.

A rule says which parameters would be trainable, had that mistake been made. The rule that explains what a submission did with
one network also says what it will do with others: there it is asked whether it does the same, so that a wrong count is charged once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import timm

from amllab.checks.transfer_learning.models import layer_names

RIGHT = ""
IDLE = ("nothing frozen", "everything frozen")  # whatever number is asked for


@dataclass(frozen=True)
class Net:
    """A backbone's parameters.

    Attributes:
        layers: names of the parameters of each layer, from input to output.
        ndim: number of dimensions of each parameter, in the order of the model.
    """

    layers: list[list[str]]
    ndim: dict[str, int]

    def all(self) -> set[str]:
        return set(self.ndim)

    def last(self, n: int) -> set[str]:
        """The parameters of the last ``n`` layers; of none below 0, of all beyond their number."""
        count = len(self.layers)
        return {name for layer in self.layers[count - min(max(n, 0), count) :] for name in layer}

    def first(self, n: int) -> set[str]:
        return {name for layer in self.layers[:n] for name in layer}

    def with_(self, n: int, missed: Callable[[str], bool]) -> set[str]:
        """The last ``n`` layers, and those other parameters that freezing has missed."""
        return self.last(n) | {name for name in self.ndim if missed(name)}


@lru_cache(maxsize=64)
def net(backbone: str) -> Net:
    """The parameters of a backbone."""
    return Net(layer_names(backbone), {name: p.ndim for name, p in timm.create_model(backbone).named_parameters()})


# what would be trainable, had a usual mistake been made, for the number that was asked for
_RULES: dict[str, Callable[[Net, int], set[str]]] = {
    RIGHT: lambda net, n: net.last(n),
    "nothing frozen": lambda net, n: net.all(),
    "everything frozen": lambda net, n: set(),
    "one layer too many": lambda net, n: net.last(n + 1),
    "one layer too few": lambda net, n: net.last(n - 1),
    "counted from the input": lambda net, n: net.first(n),
    "frozen and trainable swapped": lambda net, n: net.all() - net.last(n),
    "as many frozen as should be trainable": lambda net, n: net.last(len(net.layers) - n),
    "one layer alone": lambda net, n: net.last(n) - net.last(n - 1),
    "head always frozen": lambda net, n: net.last(n) - net.last(1),
    "head always trainable": lambda net, n: net.last(n) | net.last(1),
    "all trainable for 0": lambda net, n: net.last(n) or net.all(),
    "always the head alone": lambda net, n: net.last(1),
    "first layer always trainable": lambda net, n: net.last(n) | net.first(1),
    "first layer alone frozen": lambda net, n: net.last(n) | (net.all() - net.first(1)),
    "parameters counted instead of layers": lambda net, n: set(list(net.ndim)[len(net.ndim) - n :]) if n else set(),
    "parameters of the model itself missed": lambda net, n: net.with_(n, lambda p: "." not in p),
    "parameters of the model itself always frozen": lambda net, n: {p for p in net.last(n) if "." in p},
    "biases missed": lambda net, n: net.with_(n, lambda p: p.endswith(".bias")),
    "all but weights missed": lambda net, n: net.with_(n, lambda p: not p.endswith(".weight")),
    "one-dimensional parameters missed": lambda net, n: net.with_(n, lambda p: net.ndim[p] <= 1),
    "weights missed": lambda net, n: net.with_(n, lambda p: net.ndim[p] > 1),
    "all but convolutions missed": lambda net, n: net.with_(n, lambda p: net.ndim[p] != 4),
}

# backbone, the number that was asked for, names of the parameters that were trainable afterwards
Case = tuple[str, int, set[str]]


def rules_of(cases: Sequence[Case]) -> list[str]:
    """The rules that explain all cases: names of mistakes, or ``RIGHT`` alone; none where it is no usual mistake."""
    found = [name for name, rule in _RULES.items() if all(seen == rule(net(b), n) for b, n, seen in cases)]
    return [RIGHT] if RIGHT in found else found


def by_rule(rule: str, backbone: str, n: int) -> set[str]:
    """What is trainable by a rule."""
    return _RULES[rule](net(backbone), n)


def symptom(cases: Sequence[Case]) -> str:
    """How the choice of trainable parameters is wrong, in a few fixed words; empty where it is right."""
    rules = rules_of(cases)
    if rules:
        return rules[0]
    wrong = [(net(b), n, seen) for b, n, seen in cases if seen != net(b).last(n)]
    if any(seen - net.all() for net, _, seen in wrong):
        return "parameters of another architecture"
    if all(seen >= net.last(n) for net, n, seen in wrong):
        return "some not frozen"
    if all(seen <= net.last(n) for net, n, seen in wrong):
        return "some frozen that should be trainable"
    return "other layers"


_REASONS = {
    "right of net12 alone": "each architecture has other layers: `layers_of(model)` knows them all",
    "nothing frozen": "only `requires_grad = False` on each parameter freezes a layer: nothing else does",
    "everything frozen": "where everything is frozen, training changes nothing",
    "counted from the input": "the first layers hold what transfers best (edges, colours), and stay; the last ones are "
    "specific to the old task, and learn",
    "frozen and trainable swapped": "the first layers hold what transfers best (edges, colours), and stay; the last ones are "
    "specific to the old task, and learn",
    "as many frozen as should be trainable": "`n_trainable` is the number of layers that go on learning, not of those that are frozen",
    "head always frozen": "a new head starts from random weights: while it is frozen, it never learns",
    "head always trainable": "with 0 trainable layers nothing may learn, the head neither",
    "all trainable for 0": "0 trainable layers means that everything is frozen; a slice that begins at -0 is the whole list",
    "always the head alone": "how many layers learn is what this lab varies",
    "first layer always trainable": "the stem is a layer as well: layer 0",
    "first layer alone frozen": "all layers are to be handled: is `return` inside the loop?",
    "biases missed": "a bias is a parameter of its layer: it goes on learning unless it is frozen too",
    "all but weights missed": "a bias is a parameter of its layer, and so is a position embedding: they go on learning unless "
    "they are frozen too",
    "one-dimensional parameters missed": "biases and the weights of BatchNorm are parameters of their layer: they go on "
    "learning unless they are frozen too",
    "all but convolutions missed": "biases, BatchNorm and linear layers have parameters too: they go on learning unless they "
    "are frozen",
    "parameters counted instead of layers": "a layer has several parameters: the last n parameters are fewer than n layers",
    "parameters of the model itself missed": "some parameters belong to no submodule, such as a transformer's position "
    "embedding: `layer.parameters()` includes them, its modules do not",
    "parameters of the model itself always frozen": "some parameters belong to no submodule, such as a transformer's "
    "position embedding: `layer.parameters()` includes them, its modules do not",
}  # fmt: skip


def reason(symptom: str) -> str:
    """Why a wrong choice matters: a reason that fits the mistake, or one that always holds."""
    return _REASONS.get(symptom, "with other layers trainable, the experiment is not the one that you report")


def layers_in_words(backbone: str, trainable: set[str]) -> str:
    """Trainable parameters as numbers of layers: ``"layers 3, 4, 5"``; a layer that is in part trainable names a parameter."""
    layers = net(backbone).layers
    whole = [str(i) for i, layer in enumerate(layers) if trainable.issuperset(layer)]
    parts = [
        (i, sorted(trainable.intersection(layer)))
        for i, layer in enumerate(layers)
        if trainable.intersection(layer) and not trainable.issuperset(layer)
    ]
    said = [f"layer{'s' if len(whole) > 1 else ''} {', '.join(whole)}"] if whole else []
    if parts:
        numbers = ", ".join(str(i) for i, _ in parts)
        said.append(f"parts of layer{'s' if len(parts) > 1 else ''} {numbers}")
    return " and ".join(said) or "none"


def wrong_in_words(seen: set[str], wanted: set[str]) -> str:
    """Which parameters are trainable or frozen where they should not be."""
    found = {"trainable but should be frozen": seen - wanted, "frozen but should be trainable": wanted - seen}
    return "; ".join(f"{what}: {some(sorted(names))}" for what, names in found.items() if names)


def some(names: Sequence[str]) -> str:
    """The first of many names, for a report."""
    first = ", ".join(f"`{name}`" for name in names[:3])
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"


def count_in_words(backbone: str, cases: Sequence[Case]) -> str:
    """How many layers were trainable for each number that was asked for; empty where as many were, or parts of layers."""
    layers = net(backbone).layers
    asked: list[str] = []
    got: list[str] = []
    for _, n, seen in sorted(cases, key=lambda case: case[1]):
        whole = [layer for layer in layers if seen.issuperset(layer)]
        if seen != {name for layer in whole for name in layer}:
            return ""
        asked.append(str(n))
        got.append(str(len(whole)))
    if asked == got:  # other layers, but as many as were asked for
        return ""
    if len(set(got)) == 1:
        return f"{got[0]} layers are trainable whatever `n_trainable` is"
    return f"n_trainable = {', '.join(asked)} leaves {', '.join(got)} layers trainable"
