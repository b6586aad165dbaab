"""Snapshots of a model: has a function left it bit for bit as it was?"""

from __future__ import annotations

from typing import TypedDict

from torch import nn

from amllab.kit.probing import State, state_of
from amllab.kit.state_dicts import differing


class Snapshot(TypedDict):
    """A model as it is at one moment.

    Attributes:
        state: Its parameters and buffers.
        training: Names of the modules in train mode; ``""`` is the model itself.
        trainable: Names of the parameters that require a gradient.
        gradients: Names of the parameters that have a gradient.
    """

    state: State
    training: list[str]
    trainable: list[str]
    gradients: list[str]


def snapshot(model: nn.Module) -> Snapshot:
    """Return a snapshot of a model, with copies of its tensors."""
    return {
        "state": {name: tensor.clone() for name, tensor in state_of(model).items()},
        "training": [name for name, module in model.named_modules() if module.training],
        "trainable": [name for name, parameter in model.named_parameters() if parameter.requires_grad],
        "gradients": [name for name, parameter in model.named_parameters() if parameter.grad is not None],
    }


def changes(before: Snapshot, after: Snapshot) -> dict[str, list[str]]:
    """Return what differs, in words -> names of tensors or modules, sorted; empty if nothing does.

    The words are ``"values"``, ``"modes"``, ``"requires_grad"`` and ``"gradients"``.
    """
    sets = {"modes": "training", "requires_grad": "trainable", "gradients": "gradients"}
    found = {"values": sorted(differing(before["state"], after["state"]))}
    for word, field in sets.items():
        found[word] = sorted({*before[field]} ^ {*after[field]})  # type: ignore[literal-required]
    return {word: names for word, names in found.items() if names}
