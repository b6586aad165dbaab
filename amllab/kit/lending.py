"""Weights that probes provide to a submission, and the search for the model that it built.

Backbones whose weights would have to be downloaded get some for the duration of a question. ``load_backbone`` records
the models that it returns: a function that forgets its ``return`` has built a model nevertheless, and that model can be
inspected.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors.torch import save_file
from timm.models import _registry, get_pretrained_cfg
from torch import Tensor, nn

from amllab.loading import load_backbone
from amllab.protocol.submission import Functions


@contextmanager
def lent_weights(backbone: str, state: dict[str, Tensor] | None) -> Iterator[None]:
    """Make timm find ``state``, with a classifier of 10 classes, when it looks for a backbone's pretrained weights."""
    if state is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, file)
        known = get_pretrained_cfg(backbone, allow_unregistered=False)
        assert known is not None
        lent = dataclasses.replace(known, file=str(file), hf_hub_id=None, num_classes=10)
        names = [backbone, *([f"{backbone}.{known.tag}"] if known.tag else [])]
        with patch.dict(_registry._model_pretrained_cfgs, dict.fromkeys(names, lent)):
            yield


@contextmanager
def recorded(functions: Functions) -> Iterator[list[nn.Module]]:
    """Yield a list of the models that the notebook's ``load_backbone`` returns."""
    own = functions.namespace.get("load_backbone")
    given: list[nn.Module] = []

    def load(*arguments: Any, **more: Any) -> Any:
        model = (own or load_backbone)(*arguments, **more)
        if open_ and isinstance(model, nn.Module):
            given.append(model)
        return model

    open_ = True
    if callable(own):
        functions.namespace["load_backbone"] = load
    try:
        yield given
    finally:
        open_ = False  # a stored reference to the function records no more models
        if callable(own):
            functions.namespace["load_backbone"] = own


def model_in(value: Any, given: list[nn.Module]) -> tuple[nn.Module | None, str]:
    """Return the timm model that a call has built, and where it is.

    Args:
        value: What the call returned.
        given: The models that ``load_backbone`` returned meanwhile.

    Returns:
        The model, and ``"returned"``, ``"inside"`` (of what was returned) or ``"not returned"``; ``None`` and an empty
        string if there is no model.
    """
    if isinstance(value, nn.Module) and hasattr(value, "get_classifier"):
        return value, "returned"
    parts = value if isinstance(value, (tuple, list)) else value.values() if isinstance(value, dict) else [value]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    inside = [m for module in modules for m in module.modules() if hasattr(m, "get_classifier")]
    if inside:
        return inside[0], "inside"
    if isinstance(value, nn.Module):
        return value, "returned"
    return (given[-1], "not returned") if given else (None, "")


def head_of(model: nn.Module) -> list[str]:
    """Return the names of the parameters of a timm model's classifier, however it is built.

    The list is empty if the model has no classifier.
    """
    try:
        classifier = model.get_classifier()
    except Exception:
        return []
    modules = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    own = {id(p) for module in modules if isinstance(module, nn.Module) for p in nn.Module.parameters(module)}
    return [name for name, p in nn.Module.named_parameters(model) if id(p) in own]
