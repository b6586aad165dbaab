"""Checkpoints of a pretraining, and its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn


def load_checkpoint(file: Path, recipe: dict[str, Any], device: torch.device) -> dict[str, Any] | None:
    """Return what :func:`save_checkpoint` has stored, or ``None`` if there is no such file.

    Raises:
        ValueError: it was written with another recipe.
    """
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    if state["recipe"] != recipe:
        raise ValueError(
            f"{file.name} was written with a different recipe: {state['recipe']}; move or delete it to start again"
        )
    return state


def save_checkpoint(file: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a process that is killed while writing leaves the previous one intact."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    torch.save(state, unfinished)
    os.replace(unfinished, file)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and buffers as fp16 safetensors (counters keep their integer type)."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.cpu().contiguous() for k, v in state.items()}, path, metadata={"format": "pt"})
