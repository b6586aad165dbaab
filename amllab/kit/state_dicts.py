"""The grader's own view of models: their layers, what was pretrained, and whether tensors are the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from amllab.layers import layers_of
from amllab.loading import load_backbone


@lru_cache(maxsize=64)
def layer_names(backbone: str) -> list[list[str]]:
    """Return the names of the parameters of each layer, from input to output."""
    layers = layers_of(timm.create_model(backbone))
    return [[name for name, _ in layer.named_parameters()] for layer in layers]


def last_layers(backbone: str, n_trainable: int) -> list[str]:
    """Return the names of the parameters of the last ``n_trainable`` layers."""
    layers = layer_names(backbone)
    return [name for layer in layers[len(layers) - n_trainable :] for name in layer]


def first_layers(backbone: str, n_trainable: int) -> list[str]:
    """Return the names of the parameters of all layers except the last ``n_trainable``."""
    layers = layer_names(backbone)
    return [name for layer in layers[: len(layers) - n_trainable] for name in layer]


@lru_cache(maxsize=4)
def pretrained(backbone: str) -> dict[str, Tensor]:
    """Return the state of the pretrained backbone, including its classifier."""
    return load_backbone(backbone).state_dict()


def random_state(backbone: str, seed: int, num_classes: int = 5) -> dict[str, Tensor]:
    """Return random weights and BatchNorm statistics, none of which have the values that models start with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(backbone, num_classes=num_classes)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(module.weight, 0.8, 1.2)
    return model.state_dict()


def frozen_tensors(backbone: str, trainable: list[str]) -> list[str]:
    """Return the names of the parameters and BatchNorm statistics of modules whose own parameters are all frozen."""
    names: list[str] = []
    for prefix, module in timm.create_model(backbone).named_modules():
        path = f"{prefix}." if prefix else ""
        own = [path + name for name, _ in module.named_parameters(recurse=False)]
        if own and not set(own) & set(trainable):
            names += own
            names += [path + name for name, _ in module.named_buffers(recurse=False) if name != "num_batches_tracked"]
    return names


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors are equal bit for bit; a missing tensor equals none."""
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)))


def differing(wanted: dict[str, Tensor], seen: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors in ``wanted`` that are missing from ``seen`` or different there."""
    return [name for name, value in wanted.items() if not same(value, seen.get(name))]


def without_counts(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state without ``num_batches_tracked``.

    That tensor affects nothing, and a BatchNorm that is frozen permanently does not have it.
    """
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def values_changed(wanted: dict[str, Tensor], seen: dict[str, Tensor]) -> list[str]:
    """Return :func:`differing` :func:`without_counts`."""
    return differing(without_counts(wanted), seen)


def misshapen(wanted: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> list[str]:
    """Return the names of the tensors in ``wanted`` that are missing from ``shapes`` or have another shape there."""
    return [name for name, value in wanted.items() if shapes.get(name) != list(value.shape)]


def near(a: Tensor | None, b: Tensor | None, *, rtol: float, atol: float) -> bool:
    """Return whether two tensors have the same shape and, up to rounding, values; a missing tensor is near none."""
    if a is None or b is None or a.shape != b.shape:
        return False
    return torch.allclose(a.double(), b.double(), rtol=rtol, atol=atol, equal_nan=True)
