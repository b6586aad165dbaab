"""Random views of images for self-supervised learning: crop, flip, colour distortion and greyscale of whole batches.

The views are those of Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations* (2020),
without blur. All changes of place of an image are one affine map, and all changes of colour are one 3x3 matrix and an
offset, so that a batch takes one interpolation and one matrix product. Hue is changed by a rotation about the axis of
greys (Haeberli, *Matrix Operations for Image Processing*, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.backbones import CIFAR10_MEAN, CIFAR10_STD

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)
RATIO = 4 / 3  # largest ratio of the sides of a crop
TRIES = 10  # crops to choose from: the first that lies within the image
JITTER = 0.4  # largest change of brightness, contrast and saturation at full strength, as a share
HUE = 0.1  # largest change of hue at full strength, as a share of the circle
DISTORTED = 0.8  # share of the images whose colours are distorted


def normalise(images: Tensor, mean: Sequence[float] = CIFAR10_MEAN, std: Sequence[float] = CIFAR10_STD) -> Tensor:
    """Normalise uint8 images ``(n, 3, h, w)`` by means and deviations of their channels; float32, channels last."""
    means, deviations = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (mean, std))
    return ((images / 255 - means) / deviations).contiguous(memory_format=torch.channels_last)


class RandomViews:
    """Returns random views of images; every image of every call gets its own.

    Args:
        generator: source of all randomness, on the CPU; by default, PyTorch's global generator.
        crop: smallest and largest area of a crop, as shares of the image; ``None`` for no crops.
        shift: largest shift of an image in both directions, in whole pixels. Pixels of the border fill what is left.
        flip: probability of a horizontal flip.
        colour: strength of the distortion of brightness, contrast, saturation and hue: 1 is that of SimCLR at half
            strength, 0 is none.
        grey: probability of an image in grey.
        mean: means of the red, green and blue channels with which the views are normalised, for values in [0, 1].
        std: standard deviations of the same channels.

    Raises:
        ValueError: an argument is out of range.

    >>> from amllab import draw_species
    >>> views = RandomViews(torch.Generator().manual_seed(0))
    >>> views(draw_species(2, 4, seed=0).images).shape
    torch.Size([8, 3, 32, 32])
    """

    def __init__(
        self,
        generator: torch.Generator | None = None,
        *,
        crop: tuple[float, float] | None = (0.3, 1.0),
        shift: int = 0,
        flip: float = 0.5,
        colour: float = 1.0,
        grey: float = 0.2,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
    ) -> None:
        if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"crop must be two shares of the area in (0, 1], the smaller one first, not {crop}")
        if shift < 0:
            raise ValueError(f"shift is a number of pixels, at least 0, not {shift}")
        if not 0 <= flip <= 1 or not 0 <= grey <= 1:
            raise ValueError(f"flip and grey are probabilities in [0, 1], not {flip} and {grey}")
        if not 0 <= colour <= 1 / JITTER:
            raise ValueError(f"colour must be at least 0 and at most {1 / JITTER}, not {colour}")
        self.generator, self.crop, self.shift = generator, crop, shift
        self.flip, self.colour, self.grey = flip, colour, grey
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, images: Tensor) -> Tensor:
        """Return one view of each image.

        Args:
            images: ``(n, 3, h, w)``, uint8, or float with values in [0, 1].

        Returns:
            Normalised views, float32 ``(n, 3, h, w)``, in PyTorch's channels-last memory format.
        """
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        x = self._placed(images.float())
        matrix, offset = self._colour_maps(x, unit)
        coloured = torch.baddbmm(offset.view(-1, 1, 1), matrix / unit, x.flatten(2)).view_as(x).clamp_(0, 1)
        mean, std = (values.to(x.device).view(3, 1, 1) for values in (self.mean, self.std))
        return coloured.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=self.generator)

    def _happens(self, probability: float, n: int) -> Tensor:
        return torch.rand(n, generator=self.generator) < probability

    def _placed(self, images: Tensor) -> Tensor:
        """Crop, shift and flip images, by one affine map of the coordinates in [-1, 1] each."""
        n, _, high, wide = images.shape
        if not n or not (self.crop or self.shift or self.flip):
            return images
        ones = torch.ones(n)
        scale_x, scale_y = self._crop_sides(n, high / wide) if self.crop else (ones, ones)
        shift_x, shift_y = (self._uniform(-1, 1, n) * (1 - scale) for scale in (scale_x, scale_y))
        if self.shift:
            pixels = torch.randint(-self.shift, self.shift + 1, (2, n), generator=self.generator)
            shift_x, shift_y = shift_x + 2 / wide * pixels[0], shift_y + 2 / high * pixels[1]
        mirror = torch.where(self._happens(self.flip, n), -1.0, 1.0)
        maps = torch.zeros(n, 2, 3)
        maps[:, 0, 0], maps[:, 0, 2] = scale_x * mirror, shift_x
        maps[:, 1, 1], maps[:, 1, 2] = scale_y, shift_y
        coordinates = F.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
        return F.grid_sample(images, coordinates, padding_mode="border", align_corners=False)

    def _crop_sides(self, n: int, shape: float) -> tuple[Tensor, Tensor]:
        """Return width and height of ``n`` crops as shares of the image, whose height is ``shape`` times its width."""
        assert self.crop is not None
        area = self._uniform(*self.crop, n, TRIES)
        ratio = self._uniform(-math.log(RATIO), math.log(RATIO), n, TRIES).exp()
        sides = torch.stack([(area * ratio * shape).sqrt(), (area / ratio / shape).sqrt()])
        fits = (sides <= 1).all(0)
        first = fits.float().argmax(1)
        wide, high = torch.where(fits, sides, 1.0)[:, torch.arange(n), first]  # the whole image if none fits
        return wide, high

    def _colour_maps(self, x: Tensor, unit: float) -> tuple[Tensor, Tensor]:
        """Return a matrix ``(n, 3, 3)`` and an offset ``(n,)`` of all channels; white is ``unit`` before, 1 after."""
        n = len(x)
        eye, luma = torch.eye(3), torch.tensor(LUMA)
        matrix, offset = eye.expand(n, 3, 3), torch.zeros(n)
        to_grey = luma.expand(3, 3)
        if self.colour:
            on = self._happens(DISTORTED, n)
            spread = JITTER * self.colour
            factors = torch.where(on, self._uniform(1 - spread, 1 + spread, 3, n), 1.0)
            brightness, contrast, saturation = factors.view(3, n, 1, 1)
            turn = torch.where(on, self._uniform(-HUE, HUE, n), 0.0) * self.colour * 2 * math.pi
            saturate = saturation * eye + (1 - saturation) * to_grey
            matrix = brightness * contrast * (_rotation(turn) @ saturate)
            middle = (x.mean((2, 3)).cpu() @ luma) / unit
            offset = ((1 - contrast) * brightness).flatten() * middle
        if self.grey:
            matrix = torch.where(self._happens(self.grey, n).view(n, 1, 1), to_grey @ matrix, matrix)
        return matrix.to(x.device), offset.to(x.device)


def _rotation(angle: Tensor) -> Tensor:
    """Return the rotations ``(n, 3, 3)`` by ``angle (n,)`` about the axis of greys (Rodrigues' formula)."""
    along = torch.full((3, 3), 1 / 3)
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return cos * torch.eye(3) + (1 - cos) * along + sin * across
