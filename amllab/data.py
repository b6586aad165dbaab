"""The images of lab 1: reptiles of CIFAR-100, a folder of class images, or images that the library draws itself.

Which of them is in use is decided in one place (:func:`reptile_arrays` describes it) and always printed. The test part
is read by :func:`reptile_arrays` and :func:`test_loader`, which ``amllab`` does not export.

CIFAR-100: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images* (2009).
"""

# ruff: noqa: PT028  (test_loader is no test)
from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import CIFAR100, ImageFolder
from torchvision.transforms import v2

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD
from amllab.drawn import draw
from amllab.images import LabelledImages, read_folder, stratified_split

Part = Literal["train", "test"]
Batch = tuple[Tensor, Tensor]

REPTILES = ("crocodile", "dinosaur", "lizard", "snake", "turtle")
CIFAR100_ROOT = Path("data")  # where torchvision keeps its download, below the folder that Python was started in
CONNECTION_SECONDS = 3.0
VARIABLE = "AMLLAB_DATA"
VALIDATION = 0.2  # share of the training images that goes to validation
HELD_OUT = 0.2  # share that becomes the test part of a folder without one
HELD_OUT_SEED = 0  # fixed, so that no seed of a loader can bring test images into training
LARGEST_SIDE = 224  # of a folder's images, where no image_size asks for more: photographs would fill the memory
RECOLOURED_TOGETHER = 4  # images of a shuffled batch
DRAWN = {"train": (2500, 100), "test": (500, 200)}  # number of images and seed, as many as CIFAR-100 has reptiles


class DataUnavailable(RuntimeError):  # noqa: N818
    """The data set that was asked for is neither on this machine nor to be had from the network."""


class ImageBatches(Dataset[Batch]):
    """Labelled images whose augmentation is drawn from a seed; gives whole batches at once.

    Attributes:
        classes: names of the classes.
        source: where the images come from, in words.
    """

    def __init__(
        self,
        data: LabelledImages,
        finish: Callable[[Tensor], Tensor],
        augment: Callable[[Tensor], Tensor] | None,
        seed: int,
    ) -> None:
        self.data, self.classes, self.source = data, data.classes, data.source
        self._finish, self._augment = finish, augment
        self._seeds = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, index: Sequence[int]) -> Batch:
        """Images ``(len(index), 3, h, w)`` float32, normalised, and labels int64: what a DataLoader asks for."""
        chosen = torch.as_tensor(index)
        images = self.data.images[chosen]
        if self._augment is not None:
            seed = int(torch.randint(2**31, (), generator=self._seeds))
            with torch.random.fork_rng(devices=[]):  # transforms draw from the global generator, which stays as it was
                torch.manual_seed(seed)
                images = self._augment(images)
        return self._finish(images), self.data.labels[chosen]


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
    """Loaders of the training part (augmented) and of the validation part (plain); prints which data is in use.

    A fifth of the training images of every class is the validation part. The same seed gives the same split, the same
    batches and the same augmentation.

    Args:
        batch_size: images in a batch.
        seed: of split, order and augmentation.
        source: see :func:`reptile_arrays`.
        image_size: side length in pixels that the model expects; by default that of the images.
        mean: of the red, green and blue channel, in [0, 1], as the backbone was trained with.
        std: their standard deviations.
        share: of the images of each class that take part, above 0; the same ones for the same seed.

    Returns:
        Two loaders of batches: images float32 ``(batch, 3, h, w)``, normalised, and labels int64 ``(batch,)``. Their
        ``.dataset.classes`` holds the names of the classes, ``.dataset.source`` says where the images come from.

    Raises:
        DataUnavailable, FileNotFoundError, ValueError: see :func:`reptile_arrays`.
        ValueError: ``share`` is not in (0, 1].

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
        print(f"Of these, {share:.0%} of each class take part")
    train, val = (data.subset(index) for index in stratified_split(data.labels, VALIDATION, seed))
    side = data.images.shape[-1]
    finish = _finish(side, image_size, mean, std)
    # Batch normalisation cannot learn from a batch of one image.
    drop_last = len(train) > batch_size and len(train) % batch_size == 1
    train_loader = _loader(
        ImageBatches(train, finish, _augmentation(side), seed), batch_size, shuffle_seed=seed, drop_last=drop_last
    )
    return train_loader, _loader(ImageBatches(val, finish, None, seed), batch_size)


def test_loader(
    batch_size: int = 64,
    source: str | Path = "auto",
    *,
    image_size: int | None = None,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
) -> DataLoader[Batch]:
    """Loader of the test part, plain and in fixed order; arguments and errors as of :func:`reptile_loaders`."""
    data = _read("test", source, image_size, announce=True)
    finish = _finish(data.images.shape[-1], image_size, mean, std)
    return _loader(ImageBatches(data, finish, None, 0), batch_size)


test_loader.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test by its name


def reptile_arrays(part: Part, source: str | Path = "auto", *, image_size: int | None = None) -> LabelledImages:
    """Reads the training part (validation images included) or the test part.

    Args:
        part: ``"train"`` or ``"test"``.
        source:
            - ``"cifar100"``: the superclass *reptiles* of CIFAR-100, 2,500 and 500 images of 32 pixels, downloaded
              into ``data/`` where it is not there yet;
            - ``"drawn"``: as many images that the library draws itself, the same ones every time;
            - a folder of class images, ``folder/<class>/<image>``, or one with ``train/`` and ``test/`` that are such
              folders. Without these a fifth of each class, always the same, is the test part. Images of other sizes
              than the first are scaled and cropped to it;
            - ``"auto"``: what the environment variable ``AMLLAB_DATA`` names, any of the above; where it is not set,
              CIFAR-100 if it is on this machine or can be downloaded, else drawn.
        image_size: side length wanted in pixels; a folder's larger images are scaled down to it while they are read
            (by default to at most 224).

    Raises:
        DataUnavailable: CIFAR-100 was asked for by name and is not to be had.
        FileNotFoundError: no such folder, or a class without images.
        ValueError: a folder with fewer than two classes, with too few images of one, with an unreadable image, or whose
            training and test part have other classes.
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
    """What ``source`` stands for ("cifar100", "drawn" or the path of a folder that exists), and why, in words."""
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@cache  # asked for once: all loaders of a run get the same data, and no sweep waits for a dead connection twice
def _cifar100_problem() -> str | None:
    """Makes CIFAR-100 available where possible; otherwise says why not."""
    try:
        CIFAR100(str(CIFAR100_ROOT), train=True, download=False)
        return None
    except RuntimeError:  # not there, or incomplete
        pass
    try:
        request = urllib.request.Request(CIFAR100.url, method="HEAD")
        urllib.request.urlopen(request, timeout=CONNECTION_SECONDS).close()
        CIFAR100(str(CIFAR100_ROOT), train=True, download=True)
        return None
    except urllib.error.URLError as error:
        return _first_line(error) if not isinstance(error.reason, Exception) else _first_line(error.reason)
    except (OSError, RuntimeError) as error:
        return _first_line(error)


@cache
def _cifar100(part: Part) -> LabelledImages:
    """The reptiles of CIFAR-100, labelled 0 to 4 in alphabetical order."""
    try:
        dataset = CIFAR100(str(CIFAR100_ROOT), train=part == "train", download=True)
    except Exception as error:  # whatever torchvision, the network or the disk raises, the way out is the same
        raise DataUnavailable(
            f"CIFAR-100 is not in {CIFAR100_ROOT}/ and could not be downloaded ({_first_line(error)}). Connect to the "
            f'internet and try again, or unpack cifar-100-python.tar.gz in {CIFAR100_ROOT}/, or use source="drawn".'
        ) from error
    fine = torch.tensor(dataset.targets)
    reptiles = torch.tensor([dataset.class_to_idx[name] for name in REPTILES])
    match = fine.unsqueeze(1) == reptiles
    chosen = match.any(1)
    images = torch.from_numpy(dataset.data)[chosen].permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, match[chosen].int().argmax(1), REPTILES, "CIFAR-100 reptiles")


def _folder(folder: Path, part: Part, image_size: int | None) -> LabelledImages:
    """One part of a user's folder of class images."""
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
    """Side length at which the images are held: that of the first one, but no larger than is wanted."""
    if len(_subfolders(folder)) < 2:
        found = ", ".join(_subfolders(folder)) or "none"
        raise ValueError(f"{folder} needs a sub-folder of images for each of at least 2 classes; found: {found}")
    first = ImageFolder(str(folder)).samples[0][0]
    return min(*_open(first).size, image_size or LARGEST_SIDE)


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ValueError(f"{path} cannot be read as an image ({_first_line(error)}): repair or remove it") from error


def _read_classes(folder: Path, side: int, *, needed: int) -> LabelledImages:
    try:
        data = read_folder(folder, size=side)
    except FileNotFoundError:
        raise
    except Exception:  # the decoder's message does not always say which file it was about
        for path, _ in ImageFolder(str(folder)).samples:
            _open(path)
        raise
    counts = torch.bincount(data.labels, minlength=len(data.classes)).tolist()
    for name, count in zip(data.classes, counts, strict=True):
        if count < needed:
            raise ValueError(f"{folder}: class {name!r} has {count} image(s), but at least {needed} are needed")
    return data


def _augmentation(side: int) -> Callable[[Tensor], Tensor]:
    """uint8 batch to uint8 batch: every image shifted and flipped by itself, a few at a time recoloured alike.

    Recolouring image by image would cost more than both others together.
    """
    move = v2.Compose(
        [v2.RandomCrop(side, padding=max(1, side // 8), padding_mode="reflect"), v2.RandomHorizontalFlip()]
    )
    recolour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)

    def augment(images: Tensor) -> Tensor:
        moved = torch.stack([move(image) for image in images])
        return torch.cat([recolour(few) for few in moved.split(RECOLOURED_TOGETHER)])

    return augment


def _finish(side: int, image_size: int | None, mean: Sequence[float], std: Sequence[float]) -> Callable:
    """uint8 batch to what the model takes: scaled to ``image_size``, float32, normalised."""
    resize = [v2.Resize((image_size, image_size), antialias=True)] if image_size and image_size != side else []
    return v2.Compose([*resize, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def _loader(
    dataset: ImageBatches, batch_size: int, *, shuffle_seed: int | None = None, drop_last: bool = False
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle_seed is not None,
        drop_last=drop_last,
        collate_fn=lambda batch: cast(Batch, batch),  # the data set gives whole batches
        generator=torch.Generator().manual_seed(shuffle_seed or 0),
    )
