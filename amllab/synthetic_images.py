"""Synthetic images of five reptile-like classes, in any number from a seed, without network or files.

An animal is a set of tapered capsules (two circles and the area between them). Their signed distances to each pixel
determine outline, height and shading; cf. Quilez, *2D distance functions*. The functions ``_crocodile`` ...
``_turtle`` define the shapes of the classes. Everything else is sampled from the same distributions for all classes:
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

from amllab.images import LabelledImages

Array = NDArray[np.float32]
Rng = np.random.Generator

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
CHUNK = 32  # images drawn at a time
RASTERISED = 8  # images rasterised at a time: the distances of all pixels to all parts fit into a processor's cache
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
            images[chunk] = _render(builder, len(chunk), rng, size)
    return LabelledImages(
        torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), CLASSES, "drawn reptiles"
    )


# Animals. Each builder returns parts (n, k, 8), in a frame where the animal faces right, is about 2 long and centred
# near 0, and a flag for each image: an animal that is seen from above may be turned by any angle.
# Columns of a part: x and y of both ends, radius at both ends, brightness, whether its lower half is cut off.

AX, AY, BX, BY, RA, RB, TONE, CUT = range(8)


def _f(values: object) -> Array:
    return np.asarray(values, dtype=np.float32)


def _u(rng: Rng, low: float, high: float, *shape: int) -> Array:
    return rng.uniform(low, high, shape).astype(np.float32)


def _maybe(rng: Rng, probability: float, *shape: int) -> NDArray[np.bool_]:
    return rng.random(shape) < probability


def _points(*pairs: tuple[Array | float, Array | float], n: int) -> Array:
    """Return points ``(n, len(pairs), 2)`` from pairs of coordinates, each a number or ``(n,)``."""
    columns = [np.stack([np.broadcast_to(np.float32(v), n) for v in pair], -1) for pair in pairs]
    return np.stack(columns, 1).astype(np.float32)


def _chain(points: Array, radii: Array, tone: float = 1.0, cut: float = 0.0) -> Array:
    """Return parts ``(n, m, 8)`` along ``points (n, m + 1, 2)`` with ``radii (n, m + 1)``."""
    n, m = points.shape[0], points.shape[1] - 1
    radii = np.broadcast_to(radii, (n, m + 1))
    rest = np.broadcast_to(_f([tone, cut]), (n, m, 2))
    ends = (points[:, :-1], points[:, 1:], radii[:, :-1, None], radii[:, 1:, None], rest)
    return np.concatenate(ends, -1).astype(np.float32)


def _walk(start: Array, heading: Array, step: Array) -> Array:
    """Return the points ``(n, m + 1, 2)`` of a path from ``start (n, 2)``.

    The path has ``m`` steps of lengths ``step (n, m)`` and directions ``heading (n, m)``, in radians.
    """
    moves = np.stack([np.cos(heading), np.sin(heading)], -1) * step[..., None]
    return np.concatenate([start[:, None], start[:, None] + moves.cumsum(1)], 1).astype(np.float32)


def _tail(rng: Rng, start: Array, heading: Array, length: Array, bend: float, radii: Array, m: int = 6) -> Array:
    """Build a tail of ``m`` parts that bends by up to ``bend`` radians in total, more towards its tip."""
    n = len(start)
    turn = _u(rng, -bend, bend, n, 1) * (np.arange(m) + 1) ** 1.5 / m**1.5
    return _chain(_walk(start, heading[:, None] + turn, np.broadcast_to(length[:, None] / m, (n, m))), radii)


def _legs_from_above(rng: Rng, x: Array, side: Array, thigh: Array, shin: Array, radius: Array) -> Array:
    """Build legs of two parts at ``x (n, 2)``, on both sides of the body axis at distance ``side (n,)``."""
    n = len(x)
    legs = []
    for pair in (0, 1):
        for sign in (-1.0, 1.0):
            out = sign * (np.pi / 2 + _u(rng, -0.6, 0.6, n))
            bend = out + sign * _u(rng, -0.9, 0.9, n)
            start = np.stack([x[:, pair], sign * side], -1)
            points = _walk(start, np.stack([out, bend], -1), np.stack([thigh, shin], -1))
            legs.append(_chain(points, np.stack([radius, radius * 0.8, radius * 0.7], -1), tone=0.9))
    return np.concatenate(legs, 1)


def _legs_from_side(rng: Rng, x: Array, y: Array, length: Array, radius: Array, swing: float = 0.5) -> Array:
    """Build a near and a far leg of two parts at each of ``x (n, 2)``, hanging from height ``y (n,)``."""
    n = len(x)
    legs = []
    for pair in (0, 1):
        for tone in (0.6, 1.0):
            down = -np.pi / 2 + _u(rng, -swing, swing, n)
            knee = down + _u(rng, -swing, swing, n)
            start = np.stack([x[:, pair] + _u(rng, -0.05, 0.05, n), y], -1)
            points = _walk(start, np.stack([down, knee], -1), np.stack([length / 2, length / 2], -1))
            legs.append(_chain(points, np.stack([radius, radius * 0.8, radius * 0.8], -1), tone=tone))
    return np.concatenate(legs, 1)


def _choose(which: NDArray[np.bool_], first: Array, second: Array) -> Array:
    """Select ``first`` where ``which`` is true, else ``second``; the one with fewer parts repeats its last part."""
    k = max(first.shape[1], second.shape[1])
    first, second = (np.pad(p, ((0, 0), (0, k - p.shape[1]), (0, 0)), mode="edge") for p in (first, second))
    return np.where(which[:, None, None], first, second)


def _crocodile(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build crocodiles: long and flat, with a long narrow snout, a heavy body, short legs and a tapering tail.

    From the side, the tail is ridged and the snout is sometimes open.
    """
    above = _maybe(rng, 0.45, n)
    girth = _u(rng, 0.17, 0.23, n)
    x = _points((1.0, 0.0), (0.72, 0.0), (0.5, 0.0), (0.35, 0.0), (0.1, 0.0), (-0.2, 0.0), n=n)
    bend = _u(rng, -0.25, 0.25, n)[:, None]
    x[..., 1] = bend * (x[..., 0] - 0.2) ** 2
    profile = _f([0.3, 0.36, 0.7, 0.62, 1.0, 0.9])
    trunk = _chain(x, girth[:, None] * profile)
    taper = girth[:, None] * np.linspace(0.85, 0.08, 7, dtype=np.float32)
    tail = _tail(rng, x[:, -1], np.pi + _u(rng, -0.15, 0.15, n), _u(rng, 0.75, 0.95, n), 1.0, taper)
    reach = _u(rng, 0.1, 0.15, n)
    hips = np.stack([_u(rng, 0.2, 0.32, n), _u(rng, -0.25, -0.1, n)], -1)
    legs = _legs_from_above(rng, hips, girth * 0.8, reach, reach * 0.8, girth * 0.33)
    top = np.concatenate([legs, tail, trunk], 1)

    jaw = _walk(_points((0.52, 0.0), n=n)[:, 0], _u(rng, 0.0, 0.5, n, 1), np.full((n, 1), 0.45, np.float32))
    upper = _chain(jaw, girth[:, None] * _f([0.5, 0.22]))
    ridges = []
    for at in (1, 2, 3, 4, 5):  # upright scutes along the tail and the back
        root = tail[:, at, :2]
        tip = root + np.stack([-0.03 + 0 * girth, tail[:, at, RA] + 0.09], -1)
        ridges.append(_chain(np.stack([root, tip], 1), _f([[0.05, 0.005]]), tone=0.8))
    short = _legs_from_side(rng, hips, -girth * 0.5, _u(rng, 0.18, 0.26, n), girth * 0.36)
    side = np.concatenate([short[:, :2], short[:, 4:6], tail, trunk, upper, *ridges, short[:, 2:4], short[:, 6:]], 1)
    return _choose(above, top, side), above


def _dinosaur(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build dinosaurs on long legs: a barrel with a long raised neck, or an upright biped with a big head."""
    girth = _u(rng, 0.2, 0.3, n)
    body = _chain(_points((0.2, 0.02), (-0.25, 0.0), n=n), np.stack([girth * 0.9, girth], -1))
    rise = _u(rng, 0.5, 1.3, n)[:, None] + _u(rng, -0.8, 0.2, n)[:, None] * np.linspace(0, 1, 4, dtype=np.float32)
    spine = _walk(_points((0.3, 0.1), n=n)[:, 0], rise, np.broadcast_to(_u(rng, 0.16, 0.24, n, 1), (n, 4)))
    neck = _chain(spine, girth[:, None] * _f([0.6, 0.4, 0.32, 0.28, 0.26]))
    snout = _walk(spine[:, -1], _u(rng, -0.6, 0.2, n, 1), np.full((n, 1), 0.14, np.float32))
    head = _chain(snout, girth[:, None] * _f([0.38, 0.26]))
    taper = girth[:, None] * np.linspace(0.75, 0.06, 7, dtype=np.float32)
    start = _points((-0.3, 0.0), n=n)[:, 0]
    tail = _tail(rng, start, np.pi + _u(rng, -0.2, 0.5, n), _u(rng, 0.6, 0.9, n), 0.7, taper)
    hips = np.stack([np.full(n, 0.22), np.full(n, -0.28)], -1).astype(np.float32)
    legs = _legs_from_side(rng, hips, -girth * 0.5, _u(rng, 0.4, 0.55, n), girth * 0.36, 0.25)
    sauropod = np.concatenate([legs[:, :2], legs[:, 4:6], tail, neck, head, body, legs[:, 2:4], legs[:, 6:]], 1)

    lean = _u(rng, 0.3, 1.1, n)
    hip = _points((-0.1, 0.0), n=n)[:, 0]
    chest = _walk(hip, np.stack([lean, lean + _u(rng, -0.1, 0.6, n)], -1), np.full((n, 2), 0.3, np.float32))
    torso = _chain(chest, girth[:, None] * _f([0.85, 0.75, 0.42]))
    jaw = _walk(chest[:, -1], _u(rng, -0.4, 0.25, n, 1), _u(rng, 0.24, 0.34, n, 1))
    skull = _chain(jaw, girth[:, None] * _f([0.58, 0.32]))
    lower = _chain(
        _walk(chest[:, -1] - _f([0, 0.05]), _u(rng, -0.8, -0.3, n, 1), np.full((n, 1), 0.26, np.float32)),
        girth[:, None] * _f([0.35, 0.14]),
    )
    behind = _tail(rng, hip, np.pi + _u(rng, -0.3, 0.5, n), _u(rng, 0.7, 0.95, n), 0.6, taper)
    two = _legs_from_side(rng, hips * 0 - 0.1, -girth * 0.3, _u(rng, 0.6, 0.75, n), girth * 0.42, 0.5)
    arm = _walk(chest[:, 1], np.stack([lean - 1.6, lean - 0.8], -1), np.full((n, 2), 0.12, np.float32))
    arms = _chain(arm, _f([[0.05, 0.04, 0.03]]), tone=0.85)
    biped = np.concatenate([two[:, :2], behind, torso, skull, lower, arms, two[:, 2:4]], 1)
    return _choose(_maybe(rng, 0.5, n), sauropod, biped), np.zeros(n, bool)


def _lizard(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build lizards: slim, with a short round head, four long splayed legs with bent knees and a thin tail.

    The tail is whip-like and longer than the body.
    """
    above = _maybe(rng, 0.7, n)
    girth = _u(rng, 0.085, 0.13, n)
    x = _points((0.92, 0.0), (0.78, 0.0), (0.62, 0.0), (0.35, 0.0), (0.05, 0.0), n=n)
    x[..., 1] = _u(rng, -0.5, 0.5, n)[:, None] * (x[..., 0] - 0.4) ** 2
    trunk = _chain(x, girth[:, None] * _f([0.5, 0.95, 0.6, 1.0, 0.8]))
    taper = girth[:, None] * np.linspace(0.75, 0.1, 9, dtype=np.float32)
    tail = _tail(rng, x[:, -1], np.pi + _u(rng, -0.3, 0.3, n), _u(rng, 0.95, 1.3, n), 2.8, taper, m=8)
    hips = np.stack([_u(rng, 0.48, 0.56, n), _u(rng, 0.08, 0.18, n)], -1)
    reach = _u(rng, 0.16, 0.24, n)
    legs = _legs_from_above(rng, hips, girth * 0.6, reach, reach * 0.9, girth * 0.38)
    low = _legs_from_side(rng, hips, -girth * 0.3, _u(rng, 0.28, 0.38, n), girth * 0.38, 1.0)
    return _choose(above, np.concatenate([legs, tail, trunk], 1), np.concatenate([low, tail, trunk], 1)), above


def _snake(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build snakes: no limbs, a long body of even width in waves or in a coil, a slightly wider head, a thin tail."""
    m = 20
    along = np.linspace(0, 1, m, dtype=np.float32)
    waves, swing, phase = _u(rng, 0.8, 2.2, n, 1), _u(rng, 0.6, 1.5, n, 1), _u(rng, 0, 2 * np.pi, n, 1)
    wave = swing * np.sin(2 * np.pi * waves * along + phase)
    coil = _u(rng, 4.0, 9.5, n, 1) * along ** _u(rng, 0.8, 1.3, n, 1)
    coiled = _maybe(rng, 0.45, n, 1)
    heading = np.where(coiled, coil, wave)
    grow = np.where(coiled, 0.5 + 1.2 * (1 - along), 1.0)
    path = _walk(np.zeros((n, 2), np.float32), heading.astype(np.float32), (grow / m).astype(np.float32))
    path -= (path.max(1, keepdims=True) + path.min(1, keepdims=True)) / 2
    path *= _u(rng, 1.5, 1.95, n, 1, 1) / np.ptp(path, axis=1).max(-1)[:, None, None]
    girth = _u(rng, 0.06, 0.12, n, 1)
    profile = _f([0.9, 1.2, 0.8, *[1.0] * (m - 8), 0.95, 0.85, 0.7, 0.5, 0.35, 0.15])
    return _chain(path, girth * profile), _maybe(rng, 0.8, n)


def _turtle(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build turtles: a big domed oval shell, a small head and four stubs (from above, sometimes flippers)."""
    above = _maybe(rng, 0.5, n)
    shell = _u(rng, 0.42, 0.52, n)
    half = _u(rng, 0.08, 0.2, n)
    oval = _chain(_points((half, 0.0), (-half, 0.0), n=n), np.stack([shell * 0.95, shell], -1), tone=0.85)
    nose = _walk(np.stack([half + shell * 0.8, 0 * half], -1), _u(rng, -0.4, 0.4, n, 1), _u(rng, 0.18, 0.34, n, 1))
    head = _chain(nose, _f([[0.09, 0.12]]))
    hips = np.stack([half + shell * 0.5, -half - shell * 0.5], -1)
    flipper = np.where(_maybe(rng, 0.35, n), 0.36, 0.16).astype(np.float32)
    legs = _legs_from_above(rng, hips, shell * 0.65, flipper, flipper * 0.5, _u(rng, 0.09, 0.13, n))
    stub = _chain(_points((-half - shell * 0.8, 0.0), (-half - shell - 0.15, 0.0), n=n), _f([[0.06, 0.01]]))
    top = np.concatenate([legs, head, stub, oval], 1)

    dome = _chain(_points((half, -0.15), (-half, -0.15), n=n), np.stack([shell, shell], -1), tone=0.85, cut=1.0)
    rim = _chain(_points((half + shell * 0.8, -0.15), (-half - shell * 0.8, -0.15), n=n), _f([[0.08, 0.08]]))
    start = np.stack([half + shell * 0.8, 0 * half - 0.12], -1)
    reach = _walk(
        start, np.stack([_u(rng, -0.2, 0.9, n), _u(rng, -0.3, 0.3, n)], -1), np.full((n, 2), 0.16, np.float32)
    )
    neck = _chain(reach, _f([[0.08, 0.09, 0.11]]))
    feet = _legs_from_side(rng, hips, 0 * half - 0.2, _u(rng, 0.2, 0.3, n), _u(rng, 0.09, 0.13, n))
    side = np.concatenate([feet, neck, stub - _f([0, 0.15, 0, 0.15, 0, 0, 0, 0]), rim, dome], 1)
    return _choose(above, top, side), above


BUILDERS: tuple[Callable[[Rng, int], tuple[Array, NDArray[np.bool_]]], ...] = (
    _crocodile,
    _dinosaur,
    _lizard,
    _snake,
    _turtle,
)


# Rendering. Images are (n, size, size) or (n, 3, size, size) in [0, 1]; coordinates run from -1 to 1, y upwards.


def _render(builder: Callable, n: int, rng: Rng, size: int, hard: Difficulty = DIFFICULTY) -> NDArray[np.uint8]:
    """Render ``n`` finished images of one class, uint8 ``(n, 3, size, size)``."""
    picture = _background(n, rng, size, hard)
    picture = _strew(picture, rng, hard.behind, size, stones=True)
    parts, above = builder(rng, n)
    cover, height, tone = _rasterise(_place(parts, above, rng, hard), size)
    light = _u(rng, 0, 2 * np.pi, n)
    shadow = np.roll(_blur(cover, np.full(n, 0.06, np.float32)), (size // 16, size // 32), (1, 2))
    picture = picture * (1 - _u(rng, 0, 0.5, n, 1, 1, 1) * shadow[:, None])
    coat = _coat(rng, n, size, picture.mean((2, 3)), hard)
    body = coat * tone[:, None] * _shading(height, light, size)[:, None]
    picture = picture + cover[:, None] * (body - picture)
    picture = _strew(picture, rng, hard.before, size, stones=False)
    return _expose(picture, rng, size, hard)


def _place(parts: Array, above: NDArray[np.bool_], rng: Rng, hard: Difficulty) -> Array:
    """Mirror, squeeze, turn, scale and shift parts at random, into the coordinates of the image."""
    n = len(parts)
    points = parts[..., :4].reshape(n, -1, 2)
    middle = (points.max(1, keepdims=True) + points.min(1, keepdims=True)) / 2
    mirror = np.where(_maybe(rng, 0.5, n), -1.0, 1.0)
    points = (points - middle) * np.stack([mirror, _u(rng, *hard.squeeze, n)], -1)[:, None]
    angle = np.where(above, _u(rng, -np.pi, np.pi, n), _u(rng, -hard.turn, hard.turn, n))
    scale = _u(rng, *hard.length, n)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    placed = parts.copy()
    placed[..., :4] = (points @ turn + _u(rng, -hard.shift, hard.shift, n, 1, 2)).reshape(n, -1, 4)
    placed[..., [RA, RB]] *= scale[:, None, None]
    return placed


def _grid(size: int) -> tuple[Array, Array]:
    centre = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return centre[None, :], -centre[:, None]


def _rasterise(parts: Array, size: int) -> tuple[Array, ...]:
    """Return coverage in [0, 1], height above ground and brightness of the nearest part, each ``(n, size, size)``."""
    # at least one piece, so that zero images also give arrays
    some = [_rasterise_some(parts[i : i + RASTERISED], size) for i in range(0, max(len(parts), 1), RASTERISED)]
    return tuple(map(np.concatenate, zip(*some, strict=True)))


def _rasterise_some(parts: Array, size: int) -> tuple[Array, Array, Array]:
    """Rasterise all images at once; see :func:`_rasterise`."""
    x, y = _grid(size)
    p = parts[..., None, None]
    ax, ay, ra = p[:, :, AX], p[:, :, AY], p[:, :, RA]
    dx, dy = p[:, :, BX] - ax, p[:, :, BY] - ay
    ux, uy = x - ax, y - ay
    length = dx * dx + dy * dy + 1e-9
    along = np.clip((ux * dx + uy * dy) / length, 0, 1)
    off = (ux - along * dx) ** 2 + (uy - along * dy) ** 2
    radius = ra + along * (p[:, :, RB] - ra)
    distance = np.sqrt(off) - radius
    for part in np.flatnonzero(parts[..., CUT].any(0)):
        x_part, y_part = dx[:, part], dy[:, part]
        below = (x_part * uy[:, part] - y_part * ux[:, part]) / np.sqrt(length[:, part]) * -np.sign(x_part)
        cut = p[:, part, CUT] > 0
        distance[:, part] = np.where(cut, np.maximum(distance[:, part], below), distance[:, part])
    nearest = distance.min(1)
    tone = np.where(distance <= nearest[:, None], p[:, :, TONE], 0).max(1)
    height = np.sqrt(np.maximum((radius * radius - off).max(1), 0))
    return np.clip(0.5 - nearest * size / 2, 0, 1), height, tone


def _shading(height: Array, light: Array, size: int) -> Array:
    """Return the brightness by Lambert's law for light from direction ``light``, plus ambient light from the sky."""
    slope_y, slope_x = np.gradient(height, 2 / size, axis=(1, 2))
    norm = np.sqrt(slope_x**2 + slope_y**2 + 1)
    towards = np.cos(light)[:, None, None] * slope_x + np.abs(np.sin(light))[:, None, None] * -slope_y
    return np.clip(0.75 + 0.45 * (0.5 - towards) / norm, 0.35, 1.4).astype(np.float32)


def _noise(rng: Rng, shape: tuple[int, ...], size: int, slope: Array, stretch: Array | float = 1.0) -> Array:
    """Return noise ``(*shape, size, size)`` of unit variance, with amplitude ~ 1 / frequency**slope.

    A ``stretch`` above 1 elongates its structures horizontally.
    """
    fy, fx = np.fft.fftfreq(size, 1 / size)[:, None], np.fft.rfftfreq(size, 1 / size)[None]
    slope, stretch = (np.asarray(v, np.float32)[..., None, None] for v in (slope, stretch))
    frequency = np.sqrt((fx * np.sqrt(stretch)) ** 2 + (fy / np.sqrt(stretch)) ** 2)
    amplitude = np.where(frequency > 0, np.maximum(frequency, 0.5) ** -slope, 0).astype(np.float32)
    white = np.fft.rfft2(rng.standard_normal((*shape, size, size), dtype=np.float32))
    field = np.fft.irfft2(white * amplitude, (size, size))
    return (field / (field.std((-2, -1), keepdims=True) + 1e-6)).astype(np.float32)


def _colours(rng: Rng, *shape: int) -> Array:
    """Return random colours ``(*shape, 3)``: slightly perturbed mixtures of two palette colours."""
    first, second = (PALETTE[rng.integers(len(PALETTE), size=shape)] for _ in range(2))
    mixed = first + _u(rng, 0, 0.6, *shape, 1) * (second - first)
    return np.clip(mixed * _u(rng, 0.7, 1.25, *shape, 1) + _u(rng, -0.05, 0.05, *shape, 3), 0.02, 0.98)


def _background(n: int, rng: Rng, size: int, hard: Difficulty) -> Array:
    """Paint backgrounds: two areas (like sand, water, foliage, sky) that meet at a horizon or in patches."""
    slope, stretch = _u(rng, 0.7, 1.8, n, 1), np.exp2(rng.uniform(-1.5, 3, (n, 1))).astype(np.float32)
    relief = _noise(rng, (n, 4), size, slope, stretch) * _u(rng, *hard.relief, n, 1, 1, 1)
    patches = _noise(rng, (n,), size, np.full(n, 1.8))
    _, y = _grid(size)
    horizon = _u(rng, -0.6, 1.2, n, 1, 1)
    scene = _maybe(rng, 0.6, n, 1, 1)
    share = np.where(scene, (y - horizon + 0.06 * patches) * 8, patches * 2)
    share = 1 / (1 + np.exp(-np.clip(share, -20, 20)))
    low, high = _colours(rng, 2, n, 1, 1).transpose(0, 1, 4, 2, 3)
    ground = low + share[:, None] * (high - low)
    return ground * np.exp(0.6 * relief[:, :1] + 0.25 * relief[:, 1:])


def _strew(picture: Array, rng: Rng, most: int, size: int, *, stones: bool) -> Array:
    """Paint up to ``most`` objects: grass from below, leaves and, if ``stones`` is set, also stones and stems."""
    n = len(picture)
    number = rng.integers(0, most + 1, n)
    tint = _colours(rng, n, 1)
    for i in range(most):
        start = _u(rng, -1, 1, n, 2)
        grass = _maybe(rng, 0.5, n)
        start[:, 1] = np.where(grass, _u(rng, -1.1, -0.7, n), start[:, 1])
        heading = np.where(grass, np.pi / 2 + _u(rng, -0.5, 0.5, n), _u(rng, 0, 2 * np.pi, n))
        length = np.where(grass, _u(rng, 0.3, 1.1, n), _u(rng, 0.1, 0.5, n))
        bend = _u(rng, -0.7, 0.7, n)
        path = _walk(start, np.stack([heading, heading + bend], -1), np.stack([length, length * 0.7], -1))
        thick = np.where(grass, _u(rng, 0.02, 0.07, n), _u(rng, 0.04, 0.16 if stones else 0.11, n))
        if stones:
            thick = _f(thick * _f(np.where(_maybe(rng, 0.25, n), 2.2, 1.0)))
        parts = _chain(path, thick[:, None] * _f([0.7, 1.0, 0.3]))
        own = 0.5 * tint[:, 0] + 0.5 * _colours(rng, n)
        there = i < number
        cover, height, _ = _rasterise(parts[there], size)
        colour = _f(own[there][:, :, None, None] * (0.8 + 2 * np.minimum(height, 0.2))[:, None])
        picture[there] += cover[:, None] * (colour - picture[there])
    return picture


def _coat(rng: Rng, n: int, size: int, ground: Array, hard: Difficulty) -> Array:
    """Return the colours of the animals, ``(n, 3, size, size)``.

    Two tones form stripes, spots or fine scales; the base tone is mixed with the colour of the ground.
    """
    x, y = _grid(size)
    angle, period = _u(rng, 0, np.pi, n, 1, 1), _u(rng, 0.15, 0.5, n, 1, 1)
    ripple = np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y))
    spots = _noise(rng, (n,), size, _u(rng, 0.2, 1.5, n))
    kind = rng.integers(0, 3, (n, 1, 1))
    pattern = np.where(kind == 0, np.clip(3 * ripple, -1, 1), np.where(kind == 1, np.clip(3 * spots, -1, 1), spots / 2))
    first, second, marks = _colours(rng, 3, n)
    nearer = np.abs(first - ground).sum(1) < np.abs(second - ground).sum(1)
    base = np.where(nearer[:, None], second, first)  # the colour that stands out more from the ground
    mix = _u(rng, *hard.camouflage, n, 1)
    base = base + mix * (ground - base)
    coat = base[..., None, None] + (_u(rng, *hard.coat, n, 1) * (marks - base))[..., None, None] * pattern[:, None]
    return np.clip(coat, 0, 1).astype(np.float32)


def _blur(field: Array, sigma: Array) -> Array:
    """Blur ``field (n, ..., size, size)`` with a Gaussian of ``sigma (n,)`` in half image sides."""
    size = field.shape[-1]
    step = np.arange(size, dtype=np.float32) * 2 / size
    kernel = np.exp(-0.5 * ((step[:, None] - step) / np.maximum(sigma, 1e-3)[:, None, None]) ** 2)
    kernel /= kernel.sum(-1, keepdims=True)
    kernel = kernel.reshape(len(field), *(1,) * (field.ndim - 3), size, size)
    return kernel @ field @ kernel.swapaxes(-1, -2)


def _expose(picture: Array, rng: Rng, size: int, hard: Difficulty) -> NDArray[np.uint8]:
    """Turn pictures into photographs: patchy light, colour cast, contrast, blur, noise and eight bits."""
    n = len(picture)
    light = _noise(rng, (n,), size, np.full(n, 2.0))[:, None] * _u(rng, 0, hard.shade, n, 1, 1, 1)
    picture = picture * np.exp(0.5 * light) * _u(rng, 0.88, 1.12, n, 3, 1, 1)
    middle = picture.mean((1, 2, 3), keepdims=True)
    target = 0.47 + _u(rng, -hard.brightness, hard.brightness, n, 1, 1, 1)
    picture = target + (picture - middle) * _u(rng, *hard.contrast, n, 1, 1, 1)
    picture = _blur(picture.astype(np.float32), _u(rng, *hard.blur, n))
    picture = picture + _u(rng, *hard.noise, n, 1, 1, 1) * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
