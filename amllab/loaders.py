"""Loaders of images: augmentation, normalisation and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from amllab.images import LabelledImages

Batch = tuple[Tensor, Tensor]


RECOLOURED_TOGETHER = 4  # neighbours in a shuffled batch


class ImageBatches(Dataset[Batch]):
    """A data set of labelled images with seeded augmentation, which returns whole batches at once.

    Args:
        data: the images and labels.
        finish: transform from a uint8 batch to the input of a model.
        augment: transform of a uint8 batch, applied before ``finish``; ``None`` for no augmentation.
        seed: seed of the augmentation.

    Attributes:
        data: the images and labels.
        classes: names of the classes.
        source: description of where the images come from.
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
        """Return a batch, as a ``DataLoader`` requests it.

        Returns:
            Normalised images, float32 ``(len(index), 3, h, w)``, and labels, int64 ``(len(index),)``.
        """
        chosen = torch.as_tensor(index)
        images = self.data.images[chosen]
        if self._augment is not None:
            seed = int(torch.randint(2**31, (), generator=self._seeds))
            with torch.random.fork_rng(devices=[]):  # transforms use the global generator; this restores it
                torch.manual_seed(seed)
                images = self._augment(images)
        return self._finish(images), self.data.labels[chosen]


def augmentation(side: int) -> Callable[[Tensor], Tensor]:
    """Return an augmentation of uint8 batches that shifts and flips each image and recolours small groups alike.

    Recolouring each image separately would cost more than shifting and flipping together.
    """
    move = v2.Compose(
        [v2.RandomCrop(side, padding=max(1, side // 8), padding_mode="reflect"), v2.RandomHorizontalFlip()]
    )
    recolour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)

    def augment(images: Tensor) -> Tensor:
        moved = torch.stack([move(image) for image in images])
        return torch.cat([recolour(few) for few in moved.split(RECOLOURED_TOGETHER)])

    return augment


def finisher(
    side: int, image_size: int | None, mean: Sequence[float], std: Sequence[float]
) -> Callable[[Tensor], Tensor]:
    """Return a transform from uint8 batches to a model's input: scaled to ``image_size``, float32, normalised."""
    resize = [v2.Resize((image_size, image_size), antialias=True)] if image_size and image_size != side else []
    finish: Callable[[Tensor], Tensor] = v2.Compose(
        [*resize, v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    )
    return finish


def loader(
    dataset: ImageBatches, batch_size: int, *, shuffle_seed: int | None = None, drop_last: bool = False
) -> DataLoader[Batch]:
    """Return a data loader over a data set that builds whole batches; shuffled if there is a seed."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle_seed is not None,
        drop_last=drop_last,
        collate_fn=lambda batch: cast(Batch, batch),  # the data set already returns whole batches
        generator=torch.Generator().manual_seed(shuffle_seed or 0),
    )
