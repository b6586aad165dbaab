"""Rules for which layers are trainable: the usual mistakes, used to describe, name and explain a wrong choice.

A rule says which parameters would be trainable if a certain mistake had been made. The rule that explains what a
submission did with one network also predicts what it does with others. For those, checks ask only whether it does the
same, so that a wrong count loses points once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import timm

from amllab.kit.expectations import some
from amllab.kit.state_dicts import layer_names

RIGHT = ""
IDLE = ("nothing frozen", "everything frozen")  # whatever number is requested


@dataclass(frozen=True)
class Net:
    """The parameters of a backbone.

    Attributes:
        layers: Names of the parameters of each layer, from input to output.
        ndim: Number of dimensions of each parameter, in the order of the model.
    """

    layers: list[list[str]]
    ndim: dict[str, int]

    def all(self) -> set[str]:
        """Return the names of all parameters."""
        return set(self.ndim)

    def last(self, n: int) -> set[str]:
        """Return the parameters of the last ``n`` layers: none if ``n`` is negative, all if it exceeds their number."""
        count = len(self.layers)
        return {name for layer in self.layers[count - min(max(n, 0), count) :] for name in layer}

    def first(self, n: int) -> set[str]:
        """Return the parameters of the first ``n`` layers."""
        return {name for layer in self.layers[:n] for name in layer}

    def with_(self, n: int, missed: Callable[[str], bool]) -> set[str]:
        """Return the last ``n`` layers, and the other parameters that freezing has missed."""
        return self.last(n) | {name for name in self.ndim if missed(name)}


@lru_cache(maxsize=64)
def net(backbone: str) -> Net:
    """Return the parameters of a backbone."""
    return Net(layer_names(backbone), {name: p.ndim for name, p in timm.create_model(backbone).named_parameters()})


# name of a mistake -> what it would leave trainable, for the requested number of layers
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

# backbone, the requested number of layers, names of the parameters that were trainable afterwards
Case = tuple[str, int, set[str]]


def rules_of(cases: Sequence[Case]) -> list[str]:
    """Return the rules that explain all cases: names of mistakes, or ``RIGHT`` alone; empty if none does."""
    found = [name for name, rule in _RULES.items() if all(seen == rule(net(b), n) for b, n, seen in cases)]
    return [RIGHT] if RIGHT in found else found


def by_rule(rule: str, backbone: str, n: int) -> set[str]:
    """Return what is trainable according to a rule."""
    return _RULES[rule](net(backbone), n)


def symptom(cases: Sequence[Case]) -> str:
    """Describe how the choice of trainable parameters is wrong, in a few fixed words; empty if it is right."""
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
    """Return why a wrong choice matters: a reason that fits the mistake, or one that always holds."""
    return _REASONS.get(symptom, "with other layers trainable, the experiment is not the one that you report")


def layers_in_words(backbone: str, trainable: set[str]) -> str:
    """Describe trainable parameters by numbers of layers: ``"layers 3, 4, 5"``, or ``"parts of layer 2"``."""
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
    """List the parameters that are trainable or frozen but should not be."""
    found = {"trainable but should be frozen": seen - wanted, "frozen but should be trainable": wanted - seen}
    return "; ".join(f"{what}: {some(sorted(names))}" for what, names in found.items() if names)


def count_in_words(backbone: str, cases: Sequence[Case]) -> str:
    """Describe how many layers were trainable for each requested number.

    Empty if the numbers agree, or if layers were trainable in part.
    """
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
