"""Labelled images in memory: reading folders and CIFAR-10, splitting by class.

Images are stored as uint8 tensors ``(n, 3, height, width)`` and labels as int64 tensors ``(n,)``; 60,000 CIFAR images
take 184 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, ImageFolder


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        images: uint8 ``(n, 3, height, width)``.
        labels: int64 ``(n,)``, each an index into ``classes``.
        classes: names of the classes.
        source: description of where the images come from.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> LabelledImages:
        """Return the images and labels at ``index``, int64 ``(m,)``."""
        return LabelledImages(self.images[index], self.labels[index], self.classes, self.source)


def read_folder(folder: Path, *, size: int | None = None) -> LabelledImages:
    """Read the images ``folder/<class>/<image>``, in all formats that torchvision's ``ImageFolder`` supports.

    The shorter side of each image is scaled to ``size``, and the centre is cropped to a square.

    Args:
        folder: folder with one sub-folder per class; their names, in alphabetical order, are the class names.
        size: side length in pixels; by default, the shorter side of the first image.

    Returns:
        Images, uint8 ``(n, 3, size, size)``, with their labels, int64 ``(n,)``.

    Raises:
        FileNotFoundError: the folder does not exist, or a class has no images (torchvision's message names it).
    """
    dataset = ImageFolder(str(folder))
    size = size or min(dataset[0][0].size)
    pixels = np.empty((len(dataset), size, size, 3), dtype=np.uint8)
    for i, (image, _) in enumerate(dataset):
        if image.size != (size, size):
            scale = size / min(image.size)
            wide, high = (max(size, round(side * scale)) for side in image.size)
            left, top = (wide - size) // 2, (high - size) // 2
            image = image.resize((wide, high)).crop((left, top, left + size, top + size))
        pixels[i] = np.asarray(image)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(dataset.targets), tuple(dataset.classes), f"folder {Path(folder).name}")


def cifar10(root: Path, *, train: bool) -> LabelledImages:
    """Return CIFAR-10, from ``root/{train,test}/<class>/`` if it exists, else through torchvision (with download)."""
    part = Path(root) / ("train" if train else "test")
    return read_folder(part, size=32) if part.is_dir() else downloaded_cifar10(root, train=train)


def downloaded_cifar10(root: Path, *, train: bool) -> LabelledImages:
    """Return CIFAR-10 as torchvision stores it below ``root``, after a download if it is not there.

    Returns:
        Images, uint8 ``(n, 3, 32, 32)``, with their labels, int64 ``(n,)``.

    Raises:
        RuntimeError: files are missing or damaged and cannot be downloaded.
    """
    dataset = CIFAR10(str(root), train=train, download=True)
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.tensor(dataset.targets), tuple(dataset.classes), "CIFAR-10")


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split examples into two parts with the same proportions of the classes.

    Args:
        labels: int64 ``(n,)``.
        fraction: share of each class in the second part, in (0, 1). The second part receives
            ``round(fraction * size)`` examples of a class; each part receives at least one.
        seed: seed of the shuffle.

    Returns:
        The indices of the first and of the second part, int64, grouped by class.

    Raises:
        ValueError: a class has fewer than two examples.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in labels.unique().tolist():
        index = (labels == label).nonzero().squeeze(1)
        if len(index) < 2:
            raise ValueError(f"class {label} has {len(index)} image; a split needs at least 2 images of every class")
        index = index[torch.randperm(len(index), generator=generator)]
        n = min(max(1, round(fraction * len(index))), len(index) - 1)
        first.append(index[n:])
        second.append(index[:n])
    return torch.cat(first), torch.cat(second)


def labelled_subset(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Choose examples at random, equally many of each class.

    Args:
        labels: int64 ``(n,)``.
        per_class: number of examples of each class.
        generator: source of all randomness.

    Returns:
        Their indices, int64 ``(classes * per_class,)``, grouped by class.

    Raises:
        ValueError: ``per_class`` is below 1, or a class has fewer examples.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, not {per_class}")
    chosen = []
    for label in labels.unique().tolist():
        index = (labels == label).nonzero().squeeze(1)
        if len(index) < per_class:
            raise ValueError(f"class {label} has {len(index)} examples, but {per_class} are needed")
        chosen.append(index[torch.randperm(len(index), generator=generator)[:per_class]])
    return torch.cat(chosen)
