"""Loading of pretrained backbones by name."""

from __future__ import annotations

import difflib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
from huggingface_hub import constants
from timm.models import get_pretrained_cfg
from torch import nn

from amllab import backbones  # importing registers net12 and net6 with timm
from amllab.devices import is_absent

CONNECTION_SECONDS = 3.0


class UnknownBackbone(ValueError):  # noqa: N818
    """Raised when timm has no model of the given name."""


class BackboneUnavailable(RuntimeError):  # noqa: N818
    """Raised when the pretrained weights of a model are neither on this machine nor available for download."""


def load_backbone(name: str) -> nn.Module:
    """Return a new model with its pretrained weights and its original classifier.

    Args:
        name: ``"net12"`` or ``"net6"`` (pretrained on CIFAR-10, 10 classes, shipped with this package),
            ``"net12.reptiles"`` (fine-tuned on drawn reptiles, 5 classes, shipped), ``"net5.ssl_cifar10"`` or
            ``"net5.ssl_species"`` (without labels, no classifier, shipped), or any name that ``timm.create_model``
            accepts, such as ``"resnet18"`` or ``"vit_tiny_patch16_224"`` (downloaded once).

    Returns:
        A model that maps normalised images ``(batch, 3, height, width)`` to logits ``(batch, num_classes)``, or to
        features ``(batch, num_features)`` if it has no classifier.

    Raises:
        UnknownBackbone: there is no such model, or no such weights of it; the message lists similar names.
        BackboneUnavailable: its weights are not available; the message says what to do.

    >>> load_backbone("net6").num_classes
    10
    """
    if not isinstance(name, str) or not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(str(name), known, n=5, cutoff=0.4)
        raise UnknownBackbone(
            f"timm has no model named {name!r}. "
            + (f"Similar names: {', '.join(near)}. " if near else "")
            + "All names: timm.list_models('*part of the name*')."
        )
    try:
        shipped = getattr(get_pretrained_cfg(name), "file", None)
    except RuntimeError:  # the part of the name behind the dot
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise UnknownBackbone(f"timm has no weights named {name!r}. It has: {', '.join(known) or 'none'}") from None
    file = own_weights(name)
    # weights that a check lends come first
    own = {"file": str(file), "custom_load": False} if not shipped and file.is_file() else None
    try:
        with _quick_to_give_up(needs_hub=not (shipped or own)):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=own)
    except Exception as error:  # whatever the hub client, the file system or timm raises, the remedy is the same
        if is_absent(str(error)):  # the default device is missing, not the weights
            raise
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise BackboneUnavailable(
            f"The pretrained weights of {name!r} are not on this machine and could not be downloaded "
            f"({type(error).__name__}: {first_line[:200]}). Connect to the internet and call load_backbone({name!r}) "
            "once: timm caches the file. Without a connection, use load_backbone('net12'), whose weights come "
            "with this package."
        ) from error
    return model


def own_weights(name: str) -> Path:
    """Return the path of the weights that an instructor has put into this library, whether they are there or not."""
    return backbones.WEIGHTS / f"{name}.safetensors"


@contextmanager
def _quick_to_give_up(*, needs_hub: bool) -> Iterator[None]:
    """Set the hub client to offline mode if the hub does not answer.

    The client would otherwise retry for most of a minute.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or (needs_hub and not _answers(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=CONNECTION_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # an HTTP error is also an answer
    except OSError:
        return False
    return True
