"""Batches of examples, as checks give them to a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_INT: dict[str, Any] = {"dtype": torch.int64, "device": "cpu"}


class _Examples:
    """Single examples, as in ``DataLoader.dataset``."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Batches:
    """A re-iterable of ``(images, labels)``, with the attributes that code often reads from a ``DataLoader``.

    Args:
        data: ``images`` float ``(n, ...)``, ``labels`` int64 ``(n,)``, and ``batch_size`` or ``sizes`` (of each batch);
            with ``shuffle_seed``, the order differs in each pass.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.images, self.labels = data["images"], data["labels"]
        n, size = len(self.labels), data.get("batch_size", len(self.labels))
        self.sizes = data.get("sizes") or [size] * (n // size) + ([n % size] if n % size else [])
        seed = data.get("shuffle_seed")
        self.generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        self.given = 0  # batches so far
        self.note: Callable[[Tensor], None] | None = None  # called with the numbers of the examples of each batch
        # checks are about which loader a loop reads, not about what else it takes from it
        self.dataset = _Examples(self.images, self.labels)
        self.batch_size, self.drop_last, self.sampler = max(self.sizes), False, range(n)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = (
            torch.arange(n, **_INT) if self.generator is None else torch.randperm(n, generator=self.generator, **_INT)
        )
        for index in order.split(self.sizes):
            self.given += 1
            if self.note is not None:
                self.note(index)
            yield self.images[index], self.labels[index]
