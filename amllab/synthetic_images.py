"""Synthetic images of five reptile-like classes, in any number from a seed, without network or files.

An animal is a set of tapered capsules (two circles and the area between them). Their signed distances to each pixel
determine outline, height and shading; cf. Quilez, *2D distance functions*. The shapes of the
classes are in :mod:`amllab.animals`. Everything else is sampled from the same distributions for all classes:
pose, colours, coat, background, objects behind and in front, light, blur and noise. Textures are noise whose spectrum
falls with frequency as that of photographs does (Field, *Relations between the statistics of natural images and the
response properties of cortical cells*, 1987).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from amllab.animals import (
    BUILDERS,
    RA,
    RB,
    Array,
    Builder,
    Rng,
    as_floats,
    chain,
    maybe,
    uniform,
    walk,
)
from amllab.images import LabelledImages

CLASSES = ("crocodile", "dinosaur", "lizard", "snake", "turtle")


@dataclass(frozen=True)
class Difficulty:
    """Settings that determine how hard the classes are to distinguish.

    Pairs are the bounds of a uniform distribution. Lengths are in half image sides.
    """

    length: tuple[float, float] = (0.72, 1.05)  # of the animal
    shift: float = 0.18  # of its centre, at most
    turn: float = 0.5  # in the image plane, in radians, of animals seen from the side
    squeeze: tuple[float, float] = (0.75, 1.15)  # factor of its height: foreshortening
    camouflage: tuple[float, float] = (0.0, 0.4)  # share of the background colour in its colours
    coat: tuple[float, float] = (0.0, 0.5)  # contrast of stripes, spots or scales
    behind: int = 3  # largest number of stones, stems and leaves behind it
    before: int = 3  # largest number of blades of grass and leaves in front of it
    relief: tuple[float, float] = (0.08, 0.35)  # contrast of the background's texture
    contrast: tuple[float, float] = (0.6, 1.15)
    brightness: float = 0.15
    shade: float = 0.5  # contrast of patchy light, at most
    blur: tuple[float, float] = (0.0, 0.02)  # standard deviation
    noise: tuple[float, float] = (0.0, 0.03)  # standard deviation; white is 1


DIFFICULTY = Difficulty()
EASY = Difficulty(
    shift=0.12,
    turn=0.3,
    camouflage=(0.0, 0.15),
    coat=(0.0, 0.35),
    behind=1,
    before=0,
    relief=(0.04, 0.18),
    contrast=(0.85, 1.15),
    shade=0.2,
    noise=(0.0, 0.015),
)

# from generator, number of images, their side, their mean colours (n, 3) and the difficulty to (n, 3, size, size)
Coat = Callable[[Rng, int, int, Array, Difficulty], Array]
CHUNK = 32  # images drawn at a time
RASTERISED = 1 << 14  # pixels rasterised at a time: a few arrays of this size fit into a processor's cache
PALETTE = np.array(  # of animals and backgrounds: greens, browns, sand, greys, rust, blue-greys
    [
        [0.30, 0.42, 0.18],
        [0.45, 0.55, 0.25],
        [0.20, 0.30, 0.20],
        [0.42, 0.33, 0.20],
        [0.60, 0.48, 0.30],
        [0.78, 0.70, 0.52],
        [0.45, 0.45, 0.42],
        [0.70, 0.70, 0.68],
        [0.55, 0.28, 0.18],
        [0.35, 0.45, 0.52],
        [0.62, 0.72, 0.80],
        [0.18, 0.16, 0.14],
        [0.75, 0.65, 0.25],
    ],
    dtype=np.float32,
)


def draw(n: int, seed: int, size: int = 32) -> LabelledImages:
    """Draw synthetic images of the five classes in random order, equally many of each (to within one).

    Args:
        n: number of images.
        seed: seed of all images; the same seed gives the same images on the same machine.
        size: side length in pixels.

    Returns:
        Images, uint8 ``(n, 3, size, size)``, with their labels, int64 ``(n,)``.

    Raises:
        ValueError: ``n`` is negative or ``size`` below 8.

    >>> draw(10, seed=0).labels.bincount().tolist()
    [2, 2, 2, 2, 2]
    """
    if n < 0 or size < 8:
        raise ValueError(f"draw() needs n >= 0 and size >= 8, not n={n} and size={size}")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % len(CLASSES))
    images = np.empty((n, 3, size, size), dtype=np.uint8)
    for label, builder in enumerate(BUILDERS):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), CHUNK):
            chunk = members[start : start + CHUNK]
            images[chunk] = render(builder, len(chunk), rng, size)
    return LabelledImages(
        torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), CLASSES, "drawn reptiles"
    )


# Rendering. Images are (n, size, size) or (n, 3, size, size) in [0, 1]; coordinates run from -1 to 1, y upwards.


def render(
    builder: Builder, n: int, rng: Rng, size: int, hard: Difficulty = DIFFICULTY, coat: Coat | None = None
) -> NDArray[np.uint8]:
    """Render ``n`` finished images of one class, uint8 ``(n, 3, size, size)``.

    Args:
        builder: builds the shapes of the animals.
        n: number of images.
        rng: source of all randomness.
        size: side length in pixels.
        hard: settings that determine how hard the images are.
        coat: returns the colours of the animals; by default, they are sampled from the same distribution for all.
    """
    picture = _background(n, rng, size, hard)
    picture = _strew(picture, rng, hard.behind, size, stones=True)
    parts, above = builder(rng, n)
    cover, height, tone = _rasterise(_place(parts, above, rng, hard), size)
    light = uniform(rng, 0, 2 * np.pi, n)
    shadow = np.roll(_blur(cover, np.full(n, 0.06, np.float32)), (size // 16, size // 32), (1, 2))
    picture = picture * (1 - uniform(rng, 0, 0.5, n, 1, 1, 1) * shadow[:, None])
    colours = (coat or _coat)(rng, n, size, picture.mean((2, 3)), hard)
    body = colours * tone[:, None] * _shading(height, light, size)[:, None]
    picture = picture + cover[:, None] * (body - picture)
    picture = _strew(picture, rng, hard.before, size, stones=False)
    return _expose(picture, rng, size, hard)


def _place(parts: Array, above: NDArray[np.bool_], rng: Rng, hard: Difficulty) -> Array:
    """Mirror, squeeze, turn, scale and shift parts at random, into the coordinates of the image."""
    n = len(parts)
    points = parts[..., :4].reshape(n, -1, 2)
    middle = (points.max(1, keepdims=True) + points.min(1, keepdims=True)) / 2
    mirror = np.where(maybe(rng, 0.5, n), -1.0, 1.0)
    points = (points - middle) * np.stack([mirror, uniform(rng, *hard.squeeze, n)], -1)[:, None]
    angle = np.where(above, uniform(rng, -np.pi, np.pi, n), uniform(rng, -hard.turn, hard.turn, n))
    scale = uniform(rng, *hard.length, n)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    placed = parts.copy()
    placed[..., :4] = (points @ turn + uniform(rng, -hard.shift, hard.shift, n, 1, 2)).reshape(n, -1, 4)
    placed[..., [RA, RB]] *= scale[:, None, None]
    return placed


def grid(size: int) -> tuple[Array, Array]:
    """Return the coordinates of the pixels: x ``(1, size)`` and y ``(size, 1)``."""
    centre = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return centre[None, :], -centre[:, None]


def _rasterise(parts: Array, size: int) -> tuple[Array, ...]:
    """Return coverage in [0, 1], height above ground and brightness of the nearest part, each ``(n, size, size)``."""
    step = max(1, RASTERISED // size**2)
    # at least one piece, so that zero images also give arrays
    some = [_rasterise_some(parts[i : i + step], size) for i in range(0, max(len(parts), 1), step)]
    return tuple(map(np.concatenate, zip(*some, strict=True)))


def _rasterise_some(parts: Array, size: int) -> tuple[Array, Array, Array]:
    """Rasterise all images at once, part by part; see :func:`_rasterise`."""
    x, y = grid(size)
    shape = len(parts), size, size
    nearest, tone = np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32)
    depth = np.full(shape, -np.inf, np.float32)
    across = np.empty(shape, np.float32)
    for part in np.moveaxis(parts, (1, 2), (0, 1))[..., None, None]:
        ax, ay, bx, by, ra, rb, own_tone, cut = part
        dx, dy = bx - ax, by - ay
        ux, uy = x - ax, y - ay
        length = dx * dx + dy * dy + 1e-9
        along = ux * dx + uy * dy
        along /= length
        np.clip(along, 0, 1, out=along)
        off = along * dx
        np.subtract(ux, off, out=off)
        off *= off
        np.multiply(along, dy, out=across)
        np.subtract(uy, across, out=across)
        across *= across
        off += across
        along *= rb - ra
        along += ra  # now the radius
        distance = np.sqrt(off, out=across)
        distance -= along
        if cut.any():
            below = (dx * uy - dy * ux) / np.sqrt(length) * -np.sign(dx)
            np.maximum(distance, below, out=distance, where=cut > 0)
        # of parts at the same distance, the brightest counts
        # (products, because np.where takes much longer)
        tone *= nearest <= distance
        np.maximum(tone, own_tone * (distance <= nearest), out=tone)
        np.minimum(nearest, distance, out=nearest)
        along *= along
        along -= off
        np.maximum(depth, along, out=depth)
    return np.clip(0.5 - nearest * size / 2, 0, 1), np.sqrt(np.maximum(depth, 0)), tone


def _shading(height: Array, light: Array, size: int) -> Array:
    """Return the brightness by Lambert's law for light from direction ``light``, plus ambient light from the sky."""
    slope_y, slope_x = np.gradient(height, 2 / size, axis=(1, 2))
    norm = np.sqrt(slope_x**2 + slope_y**2 + 1)
    towards = np.cos(light)[:, None, None] * slope_x + np.abs(np.sin(light))[:, None, None] * -slope_y
    brightness: Array = np.clip(0.75 + 0.45 * (0.5 - towards) / norm, 0.35, 1.4).astype(np.float32)
    return brightness


def noise(rng: Rng, shape: tuple[int, ...], size: int, slope: Array, stretch: Array | float = 1.0) -> Array:
    """Return noise ``(*shape, size, size)`` of unit variance, with amplitude ~ 1 / frequency**slope.

    A ``stretch`` above 1 elongates its structures horizontally.
    """
    fy, fx = np.fft.fftfreq(size, 1 / size)[:, None], np.fft.rfftfreq(size, 1 / size)[None]
    slope, stretch = (np.asarray(v, np.float32)[..., None, None] for v in (slope, stretch))
    frequency = np.sqrt((fx * np.sqrt(stretch)) ** 2 + (fy / np.sqrt(stretch)) ** 2)
    amplitude = np.where(frequency > 0, np.maximum(frequency, 0.5) ** -slope, 0).astype(np.float32)
    white = np.fft.rfft2(rng.standard_normal((*shape, size, size), dtype=np.float32))
    field = np.fft.irfft2(white * amplitude, (size, size))
    scaled: Array = (field / (field.std((-2, -1), keepdims=True) + 1e-6)).astype(np.float32)
    return scaled


def random_colours(rng: Rng, *shape: int) -> Array:
    """Return random colours ``(*shape, 3)``: slightly perturbed mixtures of two palette colours."""
    first, second = (PALETTE[rng.integers(len(PALETTE), size=shape)] for _ in range(2))
    mixed = first + uniform(rng, 0, 0.6, *shape, 1) * (second - first)
    varied = mixed * uniform(rng, 0.7, 1.25, *shape, 1) + uniform(rng, -0.05, 0.05, *shape, 3)
    colours: Array = np.clip(varied, 0.02, 0.98)
    return colours


def _background(n: int, rng: Rng, size: int, hard: Difficulty) -> Array:
    """Paint backgrounds: two areas (like sand, water, foliage, sky) that meet at a horizon or in patches."""
    slope, stretch = uniform(rng, 0.7, 1.8, n, 1), np.exp2(rng.uniform(-1.5, 3, (n, 1))).astype(np.float32)
    relief = noise(rng, (n, 4), size, slope, stretch) * uniform(rng, *hard.relief, n, 1, 1, 1)
    patches = noise(rng, (n,), size, np.full(n, 1.8))
    _, y = grid(size)
    horizon = uniform(rng, -0.6, 1.2, n, 1, 1)
    scene = maybe(rng, 0.6, n, 1, 1)
    share = np.where(scene, (y - horizon + 0.06 * patches) * 8, patches * 2)
    share = 1 / (1 + np.exp(-np.clip(share, -20, 20)))
    low, high = random_colours(rng, 2, n, 1, 1).transpose(0, 1, 4, 2, 3)
    ground = low + share[:, None] * (high - low)
    lit: Array = ground * np.exp(0.6 * relief[:, :1] + 0.25 * relief[:, 1:])
    return lit


def _strew(picture: Array, rng: Rng, most: int, size: int, *, stones: bool) -> Array:
    """Paint up to ``most`` objects: grass from below, leaves and, if ``stones`` is set, also stones and stems."""
    n = len(picture)
    number = rng.integers(0, most + 1, n)
    tint = random_colours(rng, n, 1)
    for i in range(most):
        start = uniform(rng, -1, 1, n, 2)
        grass = maybe(rng, 0.5, n)
        start[:, 1] = np.where(grass, uniform(rng, -1.1, -0.7, n), start[:, 1])
        heading = np.where(grass, np.pi / 2 + uniform(rng, -0.5, 0.5, n), uniform(rng, 0, 2 * np.pi, n))
        length = np.where(grass, uniform(rng, 0.3, 1.1, n), uniform(rng, 0.1, 0.5, n))
        bend = uniform(rng, -0.7, 0.7, n)
        path = walk(start, np.stack([heading, heading + bend], -1), np.stack([length, length * 0.7], -1))
        thick = np.where(grass, uniform(rng, 0.02, 0.07, n), uniform(rng, 0.04, 0.16 if stones else 0.11, n))
        if stones:
            thick = as_floats(thick * as_floats(np.where(maybe(rng, 0.25, n), 2.2, 1.0)))
        parts = chain(path, thick[:, None] * as_floats([0.7, 1.0, 0.3]))
        own = 0.5 * tint[:, 0] + 0.5 * random_colours(rng, n)
        there = i < number
        cover, height, _ = _rasterise(parts[there], size)
        colour = as_floats(own[there][:, :, None, None] * (0.8 + 2 * np.minimum(height, 0.2))[:, None])
        picture[there] += cover[:, None] * (colour - picture[there])
    return picture


def _coat(rng: Rng, n: int, size: int, ground: Array, hard: Difficulty) -> Array:
    """Return the colours of the animals, ``(n, 3, size, size)``.

    Two tones form stripes, spots or fine scales; the base tone is mixed with the colour of the ground.
    """
    x, y = grid(size)
    angle, period = uniform(rng, 0, np.pi, n, 1, 1), uniform(rng, 0.15, 0.5, n, 1, 1)
    ripple = np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y))
    spots = noise(rng, (n,), size, uniform(rng, 0.2, 1.5, n))
    kind = rng.integers(0, 3, (n, 1, 1))
    pattern = np.where(kind == 0, np.clip(3 * ripple, -1, 1), np.where(kind == 1, np.clip(3 * spots, -1, 1), spots / 2))
    first, second, marks = random_colours(rng, 3, n)
    nearer = np.abs(first - ground).sum(1) < np.abs(second - ground).sum(1)
    base = np.where(nearer[:, None], second, first)  # the colour that stands out more from the ground
    mix = uniform(rng, *hard.camouflage, n, 1)
    base = base + mix * (ground - base)
    coat = base[..., None, None] + (uniform(rng, *hard.coat, n, 1) * (marks - base))[..., None, None] * pattern[:, None]
    coloured: Array = np.clip(coat, 0, 1).astype(np.float32)
    return coloured


def _blur(field: Array, sigma: Array) -> Array:
    """Blur ``field (n, ..., size, size)`` with a Gaussian of ``sigma (n,)`` in half image sides."""
    size = field.shape[-1]
    step = np.arange(size, dtype=np.float32) * 2 / size
    kernel = np.exp(-0.5 * ((step[:, None] - step) / np.maximum(sigma, 1e-3)[:, None, None]) ** 2)
    kernel /= kernel.sum(-1, keepdims=True)
    kernel[kernel < np.finfo(np.float32).tiny] = 0  # sums with subnormal numbers are slow
    kernel = kernel.reshape(len(field), *(1,) * (field.ndim - 3), size, size)
    blurred: Array = kernel @ field @ kernel.swapaxes(-1, -2)
    return blurred


def _expose(picture: Array, rng: Rng, size: int, hard: Difficulty) -> NDArray[np.uint8]:
    """Turn pictures into photographs: patchy light, colour cast, contrast, blur, noise and eight bits."""
    n = len(picture)
    light = noise(rng, (n,), size, np.full(n, 2.0))[:, None] * uniform(rng, 0, hard.shade, n, 1, 1, 1)
    picture = picture * np.exp(0.5 * light) * uniform(rng, 0.88, 1.12, n, 3, 1, 1)
    middle = picture.mean((1, 2, 3), keepdims=True)
    target = 0.47 + uniform(rng, -hard.brightness, hard.brightness, n, 1, 1, 1)
    picture = target + (picture - middle) * uniform(rng, *hard.contrast, n, 1, 1, 1)
    picture = _blur(picture.astype(np.float32), uniform(rng, *hard.blur, n))
    picture = picture + uniform(rng, *hard.noise, n, 1, 1, 1) * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
