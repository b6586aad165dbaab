"""Models that one lab's notebook keeps for the next one.

They are stored below ``data/``, in the folder of the notebook. The next notebook, usually in a folder next to it, finds
them there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from amllab.loading import load_backbone
from amllab.synthetic_images import CLASSES

FOLDER = Path("data", "kept")
TEACHER = "reptile-teacher"
DRAWN = "drawn reptiles"  # the source of images that the library draws
# what a notebook takes if nothing has been kept under a name
SHIPPED = {"species-encoder": "net5.ssl_species", TEACHER: "net12.reptiles"}


def keep(name: str, model: nn.Module, *, data: str = "") -> None:
    """Store a model of timm for the next lab, in place of one that has been kept under the same name.

    Args:
        name: ``"species-encoder"`` or ``"reptile-teacher"``.
        model: a model from :func:`amllab.load_backbone` or ``timm.create_model``, with weights of any training. Its
            classifier may have another number of outputs, but must be a layer as timm's.
        data: description of the images that it was trained on, such as ``train_loader.dataset.source``.

    Raises:
        ValueError: the name is unknown, the model has other layers than timm's model of its name, or its weights are
            not finite.
        OSError: the file cannot be written.

    >>> keep("species-encoder", encoder)  # doctest: +SKIP
    Kept for the next lab: data/kept/species-encoder.safetensors
    """
    _check(name)
    model = getattr(model, "_orig_mod", model)  # of a model that torch.compile returned
    config = getattr(model, "pretrained_cfg", None) or {}
    architecture, own = config.get("architecture"), model.state_dict()
    classes = _outputs(config.get("classifier"), own, getattr(model, "num_classes", None))
    if architecture is None or classes is None:
        raise ValueError(f"keep() stores models of timm, such as net5, but this is a {type(model).__name__}")
    with torch.device("meta"):
        fresh = timm.create_model(architecture, num_classes=classes).state_dict()
    shapes, wanted = ({key: value.shape for key, value in state.items()} for state in (own, fresh))
    if shapes != wanted:
        other = next(key for key in [*shapes, *wanted] if shapes.get(key) != wanted.get(key))
        raise ValueError(f"this model cannot be kept: its layers are not those of {architecture!r} (see {other})")
    if broken := [key for key, value in own.items() if not value.isfinite().all()]:
        raise ValueError(
            f"this model cannot be kept: NaN or infinite numbers in {broken[0]}. Has its training diverged?"
        )
    file = FOLDER / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    about = {"architecture": architecture, "num_classes": str(classes), "data": data}
    save_model(model, str(unfinished), metadata=about)
    os.replace(unfinished, file)
    print(f"Kept for the next lab: {file.as_posix()}")


def kept(name: str) -> nn.Module:
    """Return the model that a notebook has kept, or one that comes with the library; print which of them it is.

    Looks in the folder of this notebook, then in the folders next to it. If several notebooks have kept a model under
    this name, the last one counts.

    Args:
        name: ``"species-encoder"`` or ``"reptile-teacher"``.

    Returns:
        The model, on the CPU, in eval mode.

    Raises:
        ValueError: the name is unknown, or a file cannot be read.
        BackboneUnavailable: nothing has been kept, and the weights of the library are not there either.
    """
    _check(name)
    file = _latest(name)
    if file is None:
        print(f"No {name} has been kept: {SHIPPED[name]} of the library is used")
        return load_backbone(SHIPPED[name]).eval()
    model, _ = _read(file)
    print(f"Kept by an earlier notebook: {file.as_posix()}")
    return model.eval()


def load_teacher(data: str = DRAWN) -> nn.Module:
    """Return a teacher for lab 4: the model that lab 1 has kept, or that of the library; print which of them it is.

    The kept model is taken if it was trained on the same kind of images, or if that is not known, and if it has five
    outputs. For drawn reptiles, ``net12.reptiles`` of the library takes its place otherwise: a net12 that was
    fine-tuned on the drawn images that lab 1 trains on.

    Args:
        data: description of the images to classify, as in their attribute ``source``.

    Returns:
        The model, on the CPU, in eval mode: from normalised images ``(batch, 3, h, w)`` to logits ``(batch, 5)``.

    Raises:
        ValueError: there is no teacher for such images, or the file of the kept model cannot be read.
    """
    file = _latest(TEACHER)
    if file is not None:
        model, about = _read(file)
        trained_on, outputs = about.get("data") or data, int(about["num_classes"])
        if trained_on == data and outputs == len(CLASSES):
            print(f"Kept by an earlier notebook: {file.as_posix()}")
            return model.eval()
        print(f"Not used, as it has {outputs} outputs and was trained on {trained_on}: {file.as_posix()}")
    if data != DRAWN:
        raise ValueError(
            f"no {TEACHER} that was trained on {data} has been kept: run lab 1 on these images, to its last cell of code"
        )
    print(f"{SHIPPED[TEACHER]} of the library is used")
    return load_backbone(SHIPPED[TEACHER]).eval()


def _latest(name: str) -> Path | None:
    """Return the file that counts for a name, if there is one."""
    file = FOLDER / f"{name}.safetensors"
    found = [file] if file.is_file() else list(Path("..").glob(f"*/{file.as_posix()}"))
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def _outputs(classifier: str | tuple[str, ...] | None, state: Mapping[str, Tensor], named: int | None) -> int | None:
    """Return the number of outputs: of the classifier's weights, as a replaced one may differ from the model's number.

    Args:
        classifier: timm's name of the classifier, or its names if there are several.
        state: parameters and buffers of the model.
        named: number of classes that the model states.
    """
    first = classifier[0] if isinstance(classifier, tuple) else classifier
    weight = state.get(f"{first}.weight")
    return named if weight is None else len(weight)


def _read(file: Path) -> tuple[nn.Module, dict[str, str]]:
    """Return a kept model and what is known about it."""
    try:
        with safe_open(file, framework="pt") as stored:
            about: dict[str, str] = stored.metadata() or {}
        if not timm.is_model(about["architecture"]):  # timm would look for some names on a hub
            raise ValueError(f"no model {about['architecture']!r}")
        model: nn.Module = timm.create_model(about["architecture"], num_classes=int(about["num_classes"]))
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{file} cannot be read ({type(error).__name__}). Delete it; then run the notebook that keeps it again, or "
            "go on with the model of the library."
        ) from error
    return model, about


def _check(name: str) -> None:
    if name not in [*SHIPPED]:  # a name of any type
        raise ValueError(f"no lab keeps a model named {name!r}; the names are: {', '.join(SHIPPED)}")
