"""Models that one lab's notebook keeps for the next one.

They are stored below ``data/``, in the folder of the notebook. The next notebook, usually in a folder next to it, finds
them there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_model
from torch import nn

from amllab.loading import load_backbone

FOLDER = Path("data", "kept")
# what a notebook takes if nothing has been kept under a name
SHIPPED = {"species-encoder": "net5.ssl_species"}


def keep(name: str, model: nn.Module) -> None:
    """Store a model of timm for the next lab, in place of one that has been kept under the same name.

    Args:
        name: ``"species-encoder"``.
        model: a model from :func:`amllab.load_backbone` or ``timm.create_model``, with weights of any training.

    Raises:
        ValueError: the name is unknown, the model has other layers than timm's model of its name, or its weights are
            not finite.
        OSError: the file cannot be written.

    >>> keep("species-encoder", encoder)  # doctest: +SKIP
    Kept for the next lab: data/kept/species-encoder.safetensors
    """
    _check(name)
    model = getattr(model, "_orig_mod", model)  # of a model that torch.compile returned
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    classes = getattr(model, "num_classes", None)
    if architecture is None or classes is None:
        raise ValueError(f"keep() stores models of timm, such as net5, but this is a {type(model).__name__}")
    with torch.device("meta"):
        fresh = timm.create_model(architecture, num_classes=classes).state_dict()
    own = model.state_dict()
    if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in fresh.items()}:
        raise ValueError(f"this model cannot be kept: its layers are not those of {architecture!r}")
    if broken := [key for key, value in own.items() if not value.isfinite().all()]:
        raise ValueError(
            f"this model cannot be kept: NaN or infinite numbers in {broken[0]}. Has its training diverged?"
        )
    file = FOLDER / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    save_model(model, str(unfinished), metadata={"architecture": architecture, "num_classes": str(classes)})
    os.replace(unfinished, file)
    print(f"Kept for the next lab: {file.as_posix()}")


def kept(name: str) -> nn.Module:
    """Return the model that a notebook has kept, or one that comes with the library; print which of them it is.

    Looks in the folder of this notebook, then in the folders next to it. If several notebooks have kept a model under
    this name, the last one counts.

    Args:
        name: ``"species-encoder"``.

    Returns:
        The model, on the CPU, in eval mode.

    Raises:
        ValueError: the name is unknown, or a file cannot be read.
        BackboneUnavailable: nothing has been kept, and the weights of the library are not there either.
    """
    _check(name)
    file = FOLDER / f"{name}.safetensors"
    found = [file] if file.is_file() else list(Path("..").glob(f"*/{file.as_posix()}"))
    if not found:
        print(f"No {name} has been kept: {SHIPPED[name]} of the library is used")
        return load_backbone(SHIPPED[name]).eval()
    latest = max(found, key=lambda path: path.stat().st_mtime)
    model = _read(latest)
    print(f"Kept by an earlier notebook: {latest.as_posix()}")
    return model.eval()


def _read(file: Path) -> nn.Module:
    try:
        with safe_open(file, framework="pt") as stored:
            about: dict[str, Any] = stored.metadata() or {}
        if not timm.is_model(about["architecture"]):  # timm would look for some names on a hub
            raise ValueError(f"no model {about['architecture']!r}")
        model: nn.Module = timm.create_model(about["architecture"], num_classes=int(about["num_classes"]))
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{file} cannot be read ({type(error).__name__}). Delete it; then run the notebook that keeps it again, or "
            "go on with the model of the library."
        ) from error
    return model


def _check(name: str) -> None:
    if name not in [*SHIPPED]:  # a name of any type
        raise ValueError(f"no lab keeps a model named {name!r}; the names are: {', '.join(SHIPPED)}")
