"""The encoder of exercise 3, which notes what it is shown, and the loaders that show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from amllab.kit.batches import Batches
from amllab.kit.probing import EndlessTrainingError
from amllab.kit.watermarks import read
from amllab.protocol.schema import IntVector

FIRST = 1  # number of the first image: an image of zeros has no number of the loader
CHANNELS, HIDDEN, CELLS = 8, 16, 4  # of the encoder
# passes over a loader, and further ones for each epoch, after which a training counts as endless
SPARE, EACH = 60, 30
MOST_TEXT = 1900  # characters of the description of an encoder
DEPENDING = nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d  # layers that do something else in train mode


class Shown(TypedDict):
    """What the encoder was shown. Calls without any image of the loader do not count.

    Attributes:
        calls: Number of calls.
        numbers: Numbers of the images, each once, in ascending order.
        in_train_mode: Names of the BatchNorm and dropout layers that were in train mode in any call.
        with_gradients: Number of calls in which gradients of the encoder were recorded.
    """

    calls: int
    numbers: IntVector
    in_train_mode: list[str]
    with_gradients: int


class Journal:
    """What an encoder and its copies were shown, of images with the numbers ``FIRST`` to ``FIRST + n - 1``."""

    def __init__(self, n: int) -> None:
        self.n, self.calls, self.with_gradients = n, 0, 0
        self.numbers: set[int] = set()
        self.in_train_mode: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> Journal:
        """Return the journal itself: copies of an encoder write into it, too."""
        return self

    def note(self, encoder: nn.Module, images: Tensor, features: Tensor) -> None:
        """Note a call of the encoder."""
        own = {number for number in read(images)[0].tolist() if FIRST <= number < FIRST + self.n}
        if own:
            self.calls += 1
            self.numbers |= own
            self.in_train_mode |= {
                name for name, module in encoder.named_modules() if module.training and isinstance(module, DEPENDING)
            }
            self.with_gradients += features.requires_grad

    def shown(self) -> Shown:
        """Return the notes as plain data."""
        return {
            "calls": self.calls,
            "numbers": torch.tensor(sorted(self.numbers), dtype=torch.int64),
            "in_train_mode": sorted(self.in_train_mode),
            "with_gradients": self.with_gradients,
        }


class SmallEncoder(nn.Module):
    """A small encoder from images ``(n, 3, h, w)`` to features ``(n, num_features)``.

    Args:
        num_features: Number of features.
        journal: Where it notes its calls.
    """

    def __init__(self, num_features: int, journal: Journal | None = None) -> None:
        super().__init__()
        self.num_features, self.journal = num_features, journal
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )  # fmt: skip
        self.drop = nn.Dropout2d(0.3)
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS, HIDDEN, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(HIDDEN),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.embed = nn.Linear(CELLS * HIDDEN, num_features)

    def activations(self, images: Tensor) -> Tensor:
        """Return the inputs of the last layer, float ``(n, CELLS * HIDDEN)``."""
        activations: Tensor = self.body(self.drop(self.stem(images[:, :, 1:])))
        return activations

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images, and note which images they are."""
        features: Tensor = self.embed(self.activations(images))
        if self.journal is not None:
            self.journal.note(self, images, features)
        return features


def prepared(
    encoder: dict[str, Tensor], training: list[str], trainable: list[str], journal: Journal | None = None
) -> SmallEncoder:
    """Return an encoder with a hook, as a question describes it.

    Args:
        encoder: State of the encoder.
        training: Names of the modules in train mode; ``""`` is the encoder itself.
        trainable: Names of the parameters that require a gradient.
        journal: Where it notes its calls.
    """
    model = SmallEncoder(len(encoder["embed.weight"]), journal)
    model.load_state_dict(encoder)
    for name, module in model.named_modules():
        module.training = name in training
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in trainable
    model.body.register_forward_hook(_no_effect)
    return model


def _no_effect(module: nn.Module, inputs: Any, outputs: Any) -> None:
    """Do nothing: a hook that belongs to the owner of the encoder."""


def settings_of(encoder: nn.Module) -> str:
    """Return a description of the modules of an encoder, such as the momentum of BatchNorm."""
    return repr(encoder)[:MOST_TEXT]


def hooks_of(encoder: nn.Module) -> int:
    """Return the number of hooks on the modules of an encoder."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in encoder.modules() for kind in kinds)


class LimitedPasses:
    """A loader that ends a training after too many passes over its batches."""

    passes, most = 0, SPARE

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        if self.passes > self.most:
            raise EndlessTrainingError(f"more than {self.most} passes over the loader")
        batches: Iterator[tuple[Tensor, Tensor]] = super().__iter__()  # type: ignore[misc]
        return batches


class Loader(LimitedPasses, Batches):
    """Batches, as of a loader."""

    def holds(self, images: Tensor, labels: Tensor) -> bool:
        """Return whether its images and labels are these."""
        return torch.equal(self.images, images) and torch.equal(self.labels, labels)


class ListedBatches(LimitedPasses, list[tuple[Tensor, Tensor]]):
    """A list of batches."""

    def holds(self, images: Tensor, labels: Tensor) -> bool:
        """Return whether its images and labels are these."""
        parts, of = zip(*super().__iter__(), strict=True)
        return torch.equal(torch.cat(parts), images) and torch.equal(torch.cat(of), labels)
