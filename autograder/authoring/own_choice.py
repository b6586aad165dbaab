"""The choice of an instructor's own images and backbone: ``autograder use-data`` and ``autograder use-backbone``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from amllab.image_folders import LARGEST, SMALLEST, ClassFolder, class_folder
from amllab.kit.state_dicts import layer_names
from amllab.lab import Lab, find_lab
from amllab.layers import layers_of
from amllab.loading import BackboneUnavailable, load_backbone, own_weights
from amllab.reptiles import HELD_OUT
from autograder.errors import SettingsError
from autograder.labs.locations import hidden_name
from autograder.labs.own import own_table, with_own, write_own
from autograder.labs.settings import budget_module

OURS = 32  # pixels: side of the images that the library has
OF_IMAGES = (
    "data",
    "digest",
    "classes",
    "side",
    "max_epochs",
    "train_images",
    "val_images",
    "test_images",
    "batch_size",
)
# as in lab 1's budget for photographs, at up to this side; larger images take more time and memory, so fewer are used
MOST = {"train_images": 1000, "val_images": 200, "test_images": 500}
FEWEST = 100
FULL_SIDE = 64
STEPS, EPOCHS = 60, (3, 30)  # steps of the optimizer that a training needs, and how many epochs it may have


def use_data(name: str, folder: str, side: int | None = None) -> dict[str, Any]:
    """Choose the images of a lab's training, and return its budget.

    Args:
        name: Name of the lab or its assignment.
        folder: A folder of class images; or ``drawn`` or ``cifar100``, if no folder has that name, for the images that
            the lab ships with.
        side: Side of the images in pixels; by default the shortest side of any image.

    Raises:
        LookupError: There is no such lab, or it does not take other images.
        FolderError: The folder cannot be used.
        SettingsError: The backbone does not take images of this side.
    """
    lab = _lab(name)
    shipped, own = lab.settings[budget_module(lab.name).TABLE], own_table(lab)
    if folder == shipped["data"] and not Path(folder).is_dir():
        write_own(lab, dict.fromkeys(OF_IMAGES))
        return _in_force(lab)
    found = class_folder(Path(folder).expanduser().resolve())
    if side is not None and not SMALLEST <= side <= LARGEST:
        raise SettingsError(f"the side must be {SMALLEST} to {LARGEST} pixels, not {side}")
    backbone = own.get("backbone", shipped["backbone"])
    side = fitting_side(backbone, side or found.side, len(found.classes), chosen=side is not None)
    chosen = {"data": str(found.folder), "digest": found.digest, "classes": len(found.classes), "side": side}
    write_own(lab, chosen | sizes_for(found, side))
    return _in_force(lab)


def sizes_for(found: ClassFolder, side: int) -> dict[str, int]:
    """Return the numbers of a training on a folder's images, so that small folders and large images work too."""
    learning = sum(found.counts) - sum(max(1, round(HELD_OUT * count)) for count in found.counts)
    share = min(1.0, (FULL_SIDE / side) ** 2)
    most = {name: max(FEWEST, round(share * number)) for name, number in MOST.items()}
    val = min(most["val_images"], max(1, learning // 6))
    train = min(most["train_images"], learning - val)
    batch = next(size for size in (64, 25, 16, 8) if train >= 10 * size or size == 8)
    train -= train % batch == 1  # batch normalization cannot train on a batch of one image
    epochs = min(max(EPOCHS[0], math.ceil(STEPS * batch / train)), EPOCHS[1])
    return {
        "max_epochs": epochs,
        "train_images": train,
        "val_images": val,
        "test_images": most["test_images"],
        "batch_size": batch,
    }


def use_backbone(name: str, backbone: str) -> dict[str, Any]:
    """Choose the backbone of a lab's training, and return its budget.

    Weights that do not come with the library are stored in it, since submissions are graded without a network.

    Args:
        name: Name of the lab or its assignment.
        backbone: ``net12``, ``net6``, or any name that timm knows.

    Raises:
        LookupError: There is no such lab, or it does not take another backbone.
        UnknownBackbone: There is no such model.
        SettingsError: Its weights cannot be had, or it does not suit the lab's budget.
    """
    lab = _lab(name)
    shipped, own = lab.settings[budget_module(lab.name).TABLE], own_table(lab)
    try:
        model = load_backbone(backbone)
    except BackboneUnavailable as error:
        raise SettingsError(str(error)) from None
    state = model.state_dict()
    size = sum(value.numel() * value.element_size() for value in state.values())
    most = 0.9 * lab.limits["answer_bytes"]  # a check asks for the whole state
    if size > most:
        raise SettingsError(
            f"{backbone} has {size / 1e6:.0f} MB of weights, and a submission's answer holds {most / 1e6:.0f} MB: choose a "
            "smaller model, or raise answer_bytes and memory_bytes in lab.toml"
        )
    try:
        layers = len(layers_of(model))
        head = layer_names(backbone)[-1]
    except (TypeError, RuntimeError) as error:
        raise SettingsError(f"{backbone} cannot be split into layers: {error}") from None
    trainable = own.get("n_trainable", shipped["n_trainable"])
    if layers <= trainable or not head:
        raise SettingsError(f"{backbone} has {layers} layers, which is too few for n_trainable = {trainable}")
    values: dict[str, Any] = {"backbone": backbone if backbone != shipped["backbone"] else None}
    if "data" in own:
        found = class_folder(Path(own["data"]))
        side = own.get("side", found.side)
        side = fitting_side(backbone, side, len(found.classes), chosen=side != found.side)
        values |= {"side": side, "digest": found.digest, "classes": len(found.classes), **sizes_for(found, side)}
    elif fitting_side(backbone, OURS, 5, chosen=True) != OURS:
        raise SettingsError(
            f"{backbone} does not take the lab's own images of {OURS} pixels: choose larger ones first, with "
            f"'autograder use-data {lab.assignment} FOLDER'"
        )
    file = own_weights(backbone)
    if not getattr(timm.get_pretrained_cfg(backbone), "file", None):
        if file.is_symlink():
            raise SettingsError(f"{file} is a link, which isolated submissions cannot follow: copy the weights to it")
        if not file.is_file():
            save_file({name: value.contiguous().clone() for name, value in state.items()}, file)
        if (mode := file.stat().st_mode & 0o777) & 0o444 != 0o444:
            file.chmod(mode | 0o444)  # isolated submissions are another user
    write_own(lab, values)
    return _in_force(lab)


def fitting_side(backbone: str, side: int, classes: int, *, chosen: bool = False) -> int:
    """Return the side of the images that a backbone takes: the one given, or the one that it was pretrained with.

    For transformers, the latter comes first: some take images of other sizes, but what they have learned is of little
    use there.

    Args:
        backbone: Name of the backbone.
        side: Side of the images in pixels.
        classes: Number of classes.
        chosen: Whether a person has chosen this side.

    Raises:
        SettingsError: The backbone takes neither.
    """
    model = timm.create_model(backbone, num_classes=classes).eval()
    known = timm.get_pretrained_cfg(backbone)
    trained = int(known.input_size[-1])
    for candidate in (trained, side) if known.fixed_input_size and not chosen else (side, trained):
        if SMALLEST <= candidate <= LARGEST and _takes(model, candidate, classes):
            return candidate
    raise SettingsError(f"{backbone} takes images neither of {side} pixels nor of {trained} pixels")


def _takes(model: nn.Module, side: int, classes: int) -> bool:
    try:
        with torch.no_grad():
            return tuple(model(torch.zeros(1, 3, side, side)).shape) == (1, classes)
    except (RuntimeError, AssertionError, ValueError, IndexError):
        return False


def _lab(name: str) -> Lab:
    lab = find_lab(name)
    module = budget_module(lab.name)
    if not hasattr(module, "Own"):
        raise LookupError(
            f"{lab.title} cannot use your own images or backbone: {hidden_name(lab.name, 'budget.py')} has no class Own"
        )
    return lab


def _in_force(lab: Lab) -> dict[str, Any]:
    return dict(with_own(lab).settings[budget_module(lab.name).TABLE])
