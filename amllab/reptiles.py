"""The images of lab 1: reptiles of CIFAR-100, a folder of class images, or synthetic images.

:func:`reptile_arrays` describes how one of these sources is chosen; the loaders print which one is in use. The test
part is available from :func:`reptile_arrays` and :func:`test_loader`, which ``amllab`` does not export.

CIFAR-100: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images* (2009).
"""

# ruff: noqa: PT028  (test_loader is not a test)
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR100, ImageFolder

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.downloads import ROOT, VARIABLE, DataUnavailable, first_line, problem_with
from amllab.images import LabelledImages, read_folder, stratified_split
from amllab.loaders import Batch, ImageBatches, augmentation, finisher, loader
from amllab.synthetic_images import draw

Part = Literal["train", "test"]

REPTILES = ("crocodile", "dinosaur", "lizard", "snake", "turtle")
VALIDATION = 0.2  # share of the training images that is used for validation
HELD_OUT = 0.2  # share of a folder's images that is used for testing if the folder has no test part
HELD_OUT_SEED = 0  # fixed, so that no loader seed can move test images into training
LARGEST_SIDE = 224  # pixels, of a folder's images unless image_size is given: large photographs would fill the memory
DRAWN = {"train": (2500, 100), "test": (500, 200)}  # number of images and seed; CIFAR-100 has as many reptiles


def reptile_loaders(
    batch_size: int = 64,
    seed: int = 0,
    *,
    source: str | Path = "auto",
    image_size: int | None = None,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    share: float = 1.0,
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Return the training and the validation loader of lab 1, and print which images are in use.

    Training images are augmented, validation images are not. A fifth of the training images of each class is used for
    validation. The same seed gives the same split, the same batches and the same augmentation. The training loader
    drops a last batch of a single image.

    Args:
        batch_size: number of images in a batch.
        seed: seed of the split, the order and the augmentation.
        source: ``"cifar100"``, ``"drawn"`` (synthetic images), a folder of class images, or ``"auto"``; see
            :func:`amllab.reptiles.reptile_arrays`.
        image_size: side length in pixels that the model expects; by default, the images keep their size.
        mean: means of the red, green and blue channels that the backbone was trained with, for values in [0, 1].
        std: standard deviations of the same channels.
        share: share of each class's images to use, in (0, 1]; the same seed selects the same images.

    Returns:
        The training loader and the validation loader. Their batches are pairs of normalised images, float32
        ``(batch, 3, h, w)``, and labels, int64 ``(batch,)``. ``.dataset.classes`` lists the names of the classes, and
        ``.dataset.source`` describes where the images come from.

    Raises:
        DataUnavailable: CIFAR-100 was requested by name and is not available.
        FileNotFoundError: the folder does not exist, or one of its classes has no images.
        ValueError: ``share`` is not in (0, 1], or the folder is unusable (see :func:`amllab.reptiles.reptile_arrays`).

    >>> train_loader, val_loader = reptile_loaders(source="drawn")
    Data: drawn reptiles
    >>> next(iter(train_loader))[0].shape
    torch.Size([64, 3, 32, 32])
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}")
    data = _read("train", source, image_size, announce=True)
    if share < 1:
        data = data.subset(stratified_split(data.labels, share, seed)[1])
        print(f"Of these, {share:.0%} of each class are used")
    train, val = (data.subset(index) for index in stratified_split(data.labels, VALIDATION, seed))
    side = data.images.shape[-1]
    finish = finisher(side, image_size, mean, std)
    # Batch normalisation cannot train on a batch of one image.
    drop_last = len(train) > batch_size and len(train) % batch_size == 1
    train_loader = loader(
        ImageBatches(train, finish, augmentation(side), seed), batch_size, shuffle_seed=seed, drop_last=drop_last
    )
    return train_loader, loader(ImageBatches(val, finish, None, seed), batch_size)


def test_loader(
    batch_size: int = 64,
    source: str | Path = "auto",
    *,
    image_size: int | None = None,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
) -> DataLoader[Batch]:
    """Return a loader of the test part, without augmentation and in fixed order, and print which images are in use.

    Arguments, batches and errors are those of :func:`reptile_loaders`.
    """
    data = _read("test", source, image_size, announce=True)
    finish = finisher(data.images.shape[-1], image_size, mean, std)
    return loader(ImageBatches(data, finish, None, 0), batch_size)


test_loader.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it because of its name


def reptile_arrays(part: Part, source: str | Path = "auto", *, image_size: int | None = None) -> LabelledImages:
    """Return the training part (validation images included) or the test part of lab 1's images.

    Args:
        part: ``"train"`` or ``"test"``.
        source: where the images come from:

            - ``"cifar100"``: the superclass *reptiles* of CIFAR-100, 2,500 training and 500 test images of 32x32
              pixels, downloaded into ``data/`` if they are not there yet.
            - ``"drawn"``: as many synthetic images of the same size from the library, the same ones every time.
            - A folder of class images, ``folder/<class>/<image>``, or a folder with two such folders, ``train/`` and
              ``test/``. Without these two, a fifth of each class, always the same, is the test part. All images are
              scaled and centre-cropped to squares; the shorter side of the first image sets their size.
            - ``"auto"``: the source named by the environment variable ``AMLLAB_DATA``, which can be any of the above.
              If the variable is not set: CIFAR-100 if it is on this machine or can be downloaded, else ``"drawn"``.
        image_size: largest side length in pixels at which a folder's images are read (default: 224). Other sources
            ignore it.

    Returns:
        Images, uint8 ``(n, 3, h, w)``, with their labels, int64 ``(n,)``, and the names of the classes.

    Raises:
        DataUnavailable: CIFAR-100 was requested by name and is not available.
        FileNotFoundError: the folder does not exist, or one of its classes has no images.
        ValueError: ``part`` has another value; or the folder has fewer than two classes, too few images of a class, an
            unreadable image, only one of ``train/`` and ``test/``, or different classes in these two.
    """
    return _read(part, source, image_size, announce=False)


def _read(part: Part, source: str | Path, image_size: int | None, *, announce: bool) -> LabelledImages:
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", not {part!r}')
    chosen, why = _choose(source)
    if chosen == "drawn":
        data = _drawn(part)
    elif chosen == "cifar100":
        data = _cifar100(part)
    else:
        data = _folder(Path(chosen), part, image_size)
    if announce:
        print(f"Data: {data.source}" + (f" ({why})" if why else ""))
    return data


def _choose(source: str | Path) -> tuple[str, str]:
    """Resolve ``source`` to "cifar100", "drawn" or the path of an existing folder, and give the reason in words."""
    named, why = str(source), ""
    if named == "auto" and os.environ.get(VARIABLE):
        named, why = os.environ[VARIABLE], f"named by the environment variable {VARIABLE}"
    if named == "auto":
        problem = _cifar100_problem()
        if problem is None:
            return "cifar100", ""
        return "drawn", f"CIFAR-100 is not on this machine and could not be downloaded: {problem}"
    if named not in ("cifar100", "drawn") and not Path(named).expanduser().is_dir():
        asked = f"{VARIABLE}={named}" if why else f"source={named!r}"
        raise FileNotFoundError(
            f"{asked}: there is no such folder. Give a folder of class images, folder/<class>/<image>, "
            'or "cifar100", or "drawn".'
        )
    return named, why


@cache
def _drawn(part: Part) -> LabelledImages:
    return draw(*DRAWN[part])


@cache  # all loaders of a run get the same data, and a sweep waits for a dead connection only once
def _cifar100_problem() -> str | None:
    return problem_with(CIFAR100)


@cache
def _cifar100(part: Part) -> LabelledImages:
    """Return the reptiles of CIFAR-100, labelled 0 to 4 in alphabetical order."""
    try:
        dataset = CIFAR100(str(ROOT), train=part == "train", download=True)
    except Exception as error:  # whatever torchvision, the network or the disk raises, the remedy is the same
        raise DataUnavailable(
            f"CIFAR-100 is not in {ROOT}/ and could not be downloaded ({first_line(error)}). Connect to the "
            f'internet and try again, or unpack cifar-100-python.tar.gz in {ROOT}/, or use source="drawn".'
        ) from error
    fine = torch.tensor(dataset.targets)
    reptiles = torch.tensor([dataset.class_to_idx[name] for name in REPTILES])
    match = fine.unsqueeze(1) == reptiles
    chosen = match.any(1)
    images = torch.from_numpy(dataset.data)[chosen].permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, match[chosen].int().argmax(1), REPTILES, "CIFAR-100 reptiles")


def _folder(folder: Path, part: Part, image_size: int | None) -> LabelledImages:
    """Return one part of a user's folder of class images."""
    folder = folder.expanduser()
    train, test = (_subfolders(folder / name) for name in ("train", "test"))
    if bool(train) != bool(test):
        there, missing = ("train", "test") if train else ("test", "train")
        raise ValueError(f"{folder} has {there}/ but no {missing}/ with sub-folders of images: give both, or neither")
    if train and train != test:
        raise ValueError(
            f"{folder}: train/ and test/ need the same classes, but have {', '.join(train)} and {', '.join(test)}"
        )
    root = folder / "train" if train else folder
    side = _side(root, image_size)
    if not train:
        data = _read_classes(folder, side, needed=3)
        index = stratified_split(data.labels, HELD_OUT, HELD_OUT_SEED)[part == "test"]
        return replace(data.subset(index), source=f"folder {folder.name}")
    data = _read_classes(folder / part, side, needed=2 if part == "train" else 1)
    return replace(data, source=f"folder {folder.name}")


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def _side(folder: Path, image_size: int | None) -> int:
    """Return the side length in pixels for a folder's images: that of the first one, up to ``image_size`` or 224."""
    if len(_subfolders(folder)) < 2:
        found = ", ".join(_subfolders(folder)) or "none"
        raise ValueError(f"{folder} needs a sub-folder of images for each of at least 2 classes; found: {found}")
    first = ImageFolder(str(folder)).samples[0][0]
    return min(*_open(first).size, image_size or LARGEST_SIDE)


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except Exception as error:  # Pillow's decoders raise exceptions of many kinds
        raise ValueError(f"{path} cannot be read as an image ({first_line(error)}): repair or remove it") from error


def _read_classes(folder: Path, side: int, *, needed: int) -> LabelledImages:
    try:
        data = read_folder(folder, size=side)
    except FileNotFoundError:
        raise
    except Exception:  # the decoder's message does not always name the file
        for path, _ in ImageFolder(str(folder)).samples:
            _open(path)
        raise
    counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
    for name, count in zip(data.classes, counts, strict=True):
        if count < needed:
            raise ValueError(f"{folder}: class {name!r} has {count} image(s), but at least {needed} are needed")
    return data
