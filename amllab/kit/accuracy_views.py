"""The random views that a training under a budget shows a network: how many they are, and how many they may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from amllab.numerics import without_compiling
from amllab.protocol.failure import expect

# evaluations of each view that a training may need: some optimizers evaluate a batch more than once
EVALUATIONS = 2


@contextmanager
def views_with_gradients(kind: type[nn.Module], features: int | None = None) -> Iterator[list[int]]:
    """Yield a list of the numbers of views that networks get in calls with gradients, in either mode.

    Args:
        kind: The class of the networks.
        features: Their number of features; ``None`` for all networks of the class.
    """
    shown: list[int] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is not kind or not torch.is_grad_enabled() or not inputs:
            return
        if features is None or module.num_features == features:
            shown.append(len(inputs[0]))

    # a hook for all modules, because a training may work with a copy of the model
    handle = register_module_forward_pre_hook(note)
    try:
        with without_compiling():
            yield shown
    finally:
        handle.remove()


def expect_within_budget(shown: int, budget: Mapping[str, Any], net: str, *, each: int) -> None:
    """Fail the check if a training showed a network more views than the budget allows.

    Args:
        shown: Number of views that the network got in calls with gradients.
        budget: ``epochs``, ``species``, and ``images`` of each species.
        net: What the network is, such as ``"encoder"``.
        each: Views of each image in an epoch, 1 or 2.
    """
    views = each * budget["epochs"] * budget["species"] * budget["images"]
    words = "one view" if each == 1 else "two views"
    expect(
        shown <= EVALUATIONS * views,
        expected=f"epochs={budget['epochs']}: {words} of each image in each epoch, {views:,} views",
        seen=f"{shown:,} views shown to the {net} in training",
        why="everyone trains under the same budget",
        symptom="more views than the budget",
    )
