"""Watermarked images: what a training showed a model can be read off the model's inputs.

Pixel 0 of every image (channel 0, row 0, column 0) is the number of the image, and pixel 1, next to it in the row, the
number of the draw that an augmentation made of it. All other values are noise. A model that is watched
(:func:`watched`) notes both for each of its inputs. A check then knows which images, and which views of them, a
training has shown, in which order and mode, whatever its code looks like.

With a learning rate of 1e-12 the weights stay what they were, so the losses that a training should report follow from
the views that it has shown: the check computes them with the reference's loss and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from amllab.protocol.schema import IntVector
from amllab.seeds import derive

UNDRAWN = 0  # the number of the draw in an image that no augmentation has touched
UNREADABLE = -1
LARGEST = 1 << 20  # all integers up to here are exact in float32, with room to spare

Mark = tuple[int, int]  # number of an image, number of the draw of a view of it


class Seen(TypedDict):
    """One call of a watched model.

    Attributes:
        numbers: Numbers of the images, int64 ``(n,)``; ``UNREADABLE`` where an image was changed.
        draws: Numbers of the draws, int64 ``(n,)``.
        training: Whether the model, or any part of it, was in train mode.
        gradients: Whether gradients were recorded.
    """

    numbers: IntVector
    draws: IntVector
    training: bool
    gradients: bool


def watermarked(n: int, *, size: int = 8, channels: int = 3, first: int = 0, seed: int = 0) -> Tensor:
    """Return images with the numbers ``first`` to ``first + n - 1``, float32 ``(n, channels, size, size)``."""
    noise = torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))
    noise[:, 0, 0, 0] = torch.arange(first, first + n)
    noise[:, 0, 0, 1] = UNDRAWN
    return noise


class Draws:
    """An augmentation of watermarked images: it numbers its draws, from 1 on, one for each image of each call.

    Each draw has its own noise, which depends on nothing but the seed, the image and the number of the draw, so that a
    check can compute what was shown (:meth:`view`).

    Args:
        seed: Seed of the noise.

    Attributes:
        made: Number of draws so far.
        drawn_from: For each draw, the number of the image and the number of the draw that it was made from:
            ``UNDRAWN`` for an image as the loader gives it, another number for a view of a view.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.made = seed, 0
        self.drawn_from: list[list[int]] = []

    def __call__(self, images: Tensor) -> Tensor:
        """Return a view of every image, of the same shape; the images stay as they are."""
        numbers, draws = read(images)
        views = []
        for number, draw, image in zip(numbers.tolist(), draws.tolist(), images, strict=True):
            self.made += 1
            self.drawn_from.append([number, draw])
            views.append(self.view(image, number, self.made))
        return torch.stack(views) if views else images.clone()

    def view(self, image: Tensor, number: int, draw: int) -> Tensor:
        """Return the view that a draw makes of an image, float32 of its shape."""
        generator = torch.Generator().manual_seed(derive(self.seed, str(number), str(draw)))
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        noise[0, 0, 0], noise[0, 0, 1] = image[0, 0, 0], draw
        return noise


def read(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of images and of draws, both int64 ``(n,)``; ``UNREADABLE`` where there is none.

    A number is a whole number from 0 to ``LARGEST``. Images that were scaled, mirrored or mixed have none.
    """
    if images.ndim != 4 or images.shape[3] < 2 or not images.is_floating_point():
        nothing = torch.full((len(images) if images.ndim else 0,), UNREADABLE)
        return nothing, nothing.clone()
    pixels = images.detach()[:, 0, 0, :2].float().cpu()
    whole = (pixels == pixels.round()) & (pixels >= 0) & (pixels <= LARGEST)
    numbers = torch.where(whole, pixels.nan_to_num(0, 0, 0), UNREADABLE).long()
    return numbers[:, 0], numbers[:, 1]


def marks(numbers: Tensor, draws: Tensor) -> list[Mark]:
    """Return the marks of views."""
    return list(zip(numbers.tolist(), draws.tolist(), strict=True))


def outputs_of_views(
    calls: Iterable[Mapping[str, Any]], *, equal_nan: bool = False
) -> tuple[dict[Mark, Tensor], dict[Mark, Tensor]]:
    """Return the first outputs of a network for each view, and the sum of their gradients, both float64.

    An optimizer may evaluate a batch again with other weights: only the same outputs have the same gradients.

    Args:
        calls: ``numbers``, ``draws``, ``outputs`` and ``gradients`` of each call of the network.
        equal_nan: Whether outputs that are NaN are the same.
    """
    outputs: dict[Mark, Tensor] = {}
    gradients: dict[Mark, Tensor] = {}
    for done in calls:
        names = marks(done["numbers"], done["draws"])
        for mark, output, gradient in zip(names, done["outputs"], done["gradients"], strict=False):
            first = outputs.setdefault(mark, output.double())
            if torch.allclose(first, output.double(), atol=1e-6, equal_nan=equal_nan):
                gradients[mark] = gradients.get(mark, torch.zeros_like(first)) + gradient.double()
    return outputs, gradients


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Seen]]:
    """Yield a list that gets an entry for each call of a model with images, also of copies of it."""
    calls: list[Seen] = []
    kind = type(model)

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is kind and inputs and isinstance(inputs[0], Tensor):
            numbers, draws = read(inputs[0])
            training = any(part.training for part in module.modules())
            calls.append(
                {"numbers": numbers, "draws": draws, "training": training, "gradients": torch.is_grad_enabled()}
            )

    # a hook for all modules, because a training may work with a copy of the model
    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield calls
    finally:
        handle.remove()
