"""Photographs of CIFAR-FS, for few-shot learning: CIFAR-100, with its classes split into three parts.

L. Bertinetto et al., *Meta-learning with differentiable closed-form solvers* (2019), for the split; A. Krizhevsky,
*Learning Multiple Layers of Features from Tiny Images* (2009), for the images.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torchvision.datasets import CIFAR100

from amllab.downloads import ROOT, VARIABLE, DataUnavailable, first_line, problem_with
from amllab.images import LabelledImages
from amllab.reptiles import reptile_arrays

CLASSES, SIDE = 100, 32
# by the names of CIFAR-100; the 64 other classes are for training
VALIDATION = (
    "beaver", "beetle", "butterfly", "camel", "cattle", "crab", "crocodile", "flatfish", "lamp", "maple_tree",
    "motorcycle", "otter", "sea", "shark", "television", "tractor",
)  # fmt: skip
TEST = (
    "baby", "bed", "bicycle", "chimpanzee", "fox", "leopard", "man", "pickup_truck", "plain", "poppy", "rocket", "rose",
    "snail", "sweet_pepper", "table", "telephone", "wardrobe", "whale", "woman", "worm",
)  # fmt: skip


def cifar_fs(folder: str | Path | None = None) -> dict[str, LabelledImages]:
    """Return the photographs of CIFAR-FS: three parts that share no class, with 600 images of each class.

    The images are those of CIFAR-100, training and test images together. It is downloaded into ``data/`` if it is not
    there yet (170 MB). If the environment variable ``AMLLAB_DATA`` names a folder, that folder is read instead; with
    ``drawn``, there are no photographs.

    Args:
        folder: folder that has CIFAR-100 either as ``cifar-100-python/``, as torchvision stores it, or as images
            ``<class>/<image>``, or ``train/<class>/<image>`` and ``test/<class>/<image>``, with its class names. By
            default ``AMLLAB_DATA``, or a download.

    Returns:
        ``"train"`` with 64 classes, ``"validation"`` with 16 and ``"test"`` with 20. Images are uint8
        ``(n, 3, 32, 32)``, labels int64 from 0 in each part; images of a class follow each other, and classes are in
        alphabetical order.

    Raises:
        DataUnavailable: CIFAR-100 is not on this machine and cannot be downloaded, or the folder does not have its
            classes.
        FileNotFoundError: there is no such folder, or a class has no images.
        ValueError: the folder cannot be used (see :func:`amllab.reptiles.reptile_arrays`).
    """
    everything = _everything(os.environ.get(VARIABLE, "") if folder is None else str(folder))
    held_out = {*VALIDATION, *TEST}
    parts = {
        "train": tuple(sorted(name for name in everything.classes if name not in held_out)),
        "validation": VALIDATION,
        "test": TEST,
    }
    return {part: _of_classes(everything, names) for part, names in parts.items()}


def _everything(source: str) -> LabelledImages:
    """Return all images of CIFAR-100."""
    if source == "drawn":
        raise DataUnavailable(f"{VARIABLE}=drawn: no photographs are loaded.")
    if source not in ("", "auto", "cifar100"):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{source}: there is no such folder. Name one that has cifar-100-python/")
        if (folder / CIFAR100.base_folder).is_dir():
            return _stored(folder)
        if others := sorted(path.name for path in folder.glob("cifar-100*")):
            raise DataUnavailable(
                f"{source}: {others[0]} cannot be read. Unpack cifar-100-python.tar.gz there, the version for Python."
            )
        return _folder(source)
    if (problem := problem_with(CIFAR100)) is not None:
        raise DataUnavailable(
            f"CIFAR-100 is not in {ROOT}/ and could not be downloaded ({problem}). Connect to the internet and try "
            f"again, or unpack cifar-100-python.tar.gz in {ROOT}/."
        )
    return _stored(ROOT)


def _stored(root: Path) -> LabelledImages:
    """Return CIFAR-100 as torchvision stores it below ``root``."""
    try:
        parts = [CIFAR100(str(root), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:
        raise DataUnavailable(
            f"CIFAR-100 in {root / CIFAR100.base_folder} is not whole ({first_line(error)}). Remove it, and unpack "
            f"cifar-100-python.tar.gz in {root}."
        ) from error
    images = torch.cat([torch.from_numpy(part.data) for part in parts]).permute(0, 3, 1, 2)
    labels = torch.tensor([label for part in parts for label in part.targets])
    return LabelledImages(images, labels, tuple(parts[0].classes), "CIFAR-100")


def _folder(source: str) -> LabelledImages:
    """Return the images of a folder with a sub-folder for each class of CIFAR-100."""
    parts = [reptile_arrays(part, source, image_size=SIDE) for part in ("train", "test")]
    classes, source = parts[0].classes, parts[0].source
    missing = sorted({*VALIDATION, *TEST} - {*classes})
    if len(classes) != CLASSES or missing:
        lacks = f"; it lacks {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}" if missing else ""
        raise DataUnavailable(
            f"{source}: the {CLASSES} classes of CIFAR-100 are needed here, and this folder has {len(classes)} "
            f"classes{lacks}. Unset {VARIABLE} to download CIFAR-100, or name a folder that has cifar-100-python/."
        )
    return LabelledImages(
        torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]), classes, source
    )


def _of_classes(data: LabelledImages, names: tuple[str, ...]) -> LabelledImages:
    """Return the images of some classes, class by class, labelled in the order of the names."""
    index = [(data.labels == data.classes.index(name)).nonzero().squeeze(1) for name in names]
    labels = torch.cat([torch.full((len(own),), label) for label, own in enumerate(index)])
    images = data.images[torch.cat(index)].contiguous()
    return LabelledImages(images, labels, names, f"CIFAR-FS, {data.source}")
