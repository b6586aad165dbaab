"""Shapes of the animals in the synthetic images, and the parts that species are made of.

Each builder returns parts ``(n, k, 8)``, in a frame where the animal faces right, is about 2 long and centred near 0,
and a flag for each image: an animal that is seen from above may be turned by any angle. Columns of a part: x and y of
both ends, radius at both ends, brightness, whether its lower half is cut off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


Rng = np.random.Generator
Builder = Callable[[Rng, int], tuple[Array, NDArray[np.bool_]]]


AX, AY, BX, BY, RA, RB, TONE, CUT = range(8)


def as_floats(values: object) -> Array:
    """Return values as an array of float32."""
    return np.asarray(values, dtype=np.float32)


def uniform(rng: Rng, low: float, high: float, *shape: int) -> Array:
    """Draw float32 numbers from a uniform distribution."""
    return rng.uniform(low, high, shape).astype(np.float32)


def maybe(rng: Rng, probability: float, *shape: int) -> NDArray[np.bool_]:
    """Draw flags, each true with the given probability."""
    return rng.random(shape) < probability


def points_of(*pairs: tuple[Array | float, Array | float], n: int) -> Array:
    """Return points ``(n, len(pairs), 2)`` from pairs of coordinates, each a number or ``(n,)``."""
    columns = [np.stack([np.broadcast_to(np.float32(v), n) for v in pair], -1) for pair in pairs]
    return np.stack(columns, 1).astype(np.float32)


def chain(points: Array, radii: Array, tone: float = 1.0, cut: float = 0.0) -> Array:
    """Return parts ``(n, m, 8)`` along ``points (n, m + 1, 2)`` with ``radii (n, m + 1)``."""
    n, m = points.shape[0], points.shape[1] - 1
    radii = np.broadcast_to(radii, (n, m + 1))
    rest = np.broadcast_to(as_floats([tone, cut]), (n, m, 2))
    ends = (points[:, :-1], points[:, 1:], radii[:, :-1, None], radii[:, 1:, None], rest)
    return np.concatenate(ends, -1).astype(np.float32)


def walk(start: Array, heading: Array, step: Array) -> Array:
    """Return the points ``(n, m + 1, 2)`` of a path from ``start (n, 2)``.

    The path has ``m`` steps of lengths ``step (n, m)`` and directions ``heading (n, m)``, in radians.
    """
    moves = np.stack([np.cos(heading), np.sin(heading)], -1) * step[..., None]
    return np.concatenate([start[:, None], start[:, None] + moves.cumsum(1)], 1).astype(np.float32)


def tail_parts(rng: Rng, start: Array, heading: Array, length: Array, bend: float, radii: Array, m: int = 6) -> Array:
    """Build a tail of ``m`` parts that bends by up to ``bend`` radians in total, more towards its tip."""
    n = len(start)
    turn = uniform(rng, -bend, bend, n, 1) * (np.arange(m) + 1) ** 1.5 / m**1.5
    return chain(walk(start, heading[:, None] + turn, np.broadcast_to(length[:, None] / m, (n, m))), radii)


def legs_from_above(rng: Rng, x: Array, side: Array, thigh: Array, shin: Array, radius: Array) -> Array:
    """Build legs of two parts at each of ``x (n, pairs)``, on both sides of the body axis at distance ``side (n,)``."""
    n, pairs = x.shape
    legs = []
    for pair in range(pairs):
        for sign in (-1.0, 1.0):
            out = sign * (np.pi / 2 + uniform(rng, -0.6, 0.6, n))
            bend = out + sign * uniform(rng, -0.9, 0.9, n)
            start = np.stack([x[:, pair], sign * side], -1)
            points = walk(start, np.stack([out, bend], -1), np.stack([thigh, shin], -1))
            legs.append(chain(points, np.stack([radius, radius * 0.8, radius * 0.7], -1), tone=0.9))
    return np.concatenate(legs, 1)


def legs_from_side(rng: Rng, x: Array, y: Array, length: Array, radius: Array, swing: float = 0.5) -> Array:
    """Build a far and a near leg of two parts at each of ``x (n, pairs)``, hanging from height ``y (n,)``."""
    n, pairs = x.shape
    legs = []
    for pair in range(pairs):
        for tone in (0.6, 1.0):
            down = -np.pi / 2 + uniform(rng, -swing, swing, n)
            knee = down + uniform(rng, -swing, swing, n)
            start = np.stack([x[:, pair] + uniform(rng, -0.05, 0.05, n), y], -1)
            points = walk(start, np.stack([down, knee], -1), np.stack([length / 2, length / 2], -1))
            legs.append(chain(points, np.stack([radius, radius * 0.8, radius * 0.8], -1), tone=tone))
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
    above = maybe(rng, 0.45, n)
    girth = uniform(rng, 0.17, 0.23, n)
    x = points_of((1.0, 0.0), (0.72, 0.0), (0.5, 0.0), (0.35, 0.0), (0.1, 0.0), (-0.2, 0.0), n=n)
    bend = uniform(rng, -0.25, 0.25, n)[:, None]
    x[..., 1] = bend * (x[..., 0] - 0.2) ** 2
    profile = as_floats([0.3, 0.36, 0.7, 0.62, 1.0, 0.9])
    trunk = chain(x, girth[:, None] * profile)
    taper = girth[:, None] * np.linspace(0.85, 0.08, 7, dtype=np.float32)
    tail = tail_parts(rng, x[:, -1], np.pi + uniform(rng, -0.15, 0.15, n), uniform(rng, 0.75, 0.95, n), 1.0, taper)
    reach = uniform(rng, 0.1, 0.15, n)
    hips = np.stack([uniform(rng, 0.2, 0.32, n), uniform(rng, -0.25, -0.1, n)], -1)
    legs = legs_from_above(rng, hips, girth * 0.8, reach, reach * 0.8, girth * 0.33)
    top = np.concatenate([legs, tail, trunk], 1)

    jaw = walk(points_of((0.52, 0.0), n=n)[:, 0], uniform(rng, 0.0, 0.5, n, 1), np.full((n, 1), 0.45, np.float32))
    upper = chain(jaw, girth[:, None] * as_floats([0.5, 0.22]))
    ridges = []
    for at in (1, 2, 3, 4, 5):  # upright scutes along the tail and the back
        root = tail[:, at, :2]
        tip = root + np.stack([-0.03 + 0 * girth, tail[:, at, RA] + 0.09], -1)
        ridges.append(chain(np.stack([root, tip], 1), as_floats([[0.05, 0.005]]), tone=0.8))
    short = legs_from_side(rng, hips, -girth * 0.5, uniform(rng, 0.18, 0.26, n), girth * 0.36)
    side = np.concatenate([short[:, :2], short[:, 4:6], tail, trunk, upper, *ridges, short[:, 2:4], short[:, 6:]], 1)
    return _choose(above, top, side), above


def _dinosaur(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build dinosaurs on long legs: a barrel with a long raised neck, or an upright biped with a big head."""
    girth = uniform(rng, 0.2, 0.3, n)
    body = chain(points_of((0.2, 0.02), (-0.25, 0.0), n=n), np.stack([girth * 0.9, girth], -1))
    rise = uniform(rng, 0.5, 1.3, n)[:, None] + uniform(rng, -0.8, 0.2, n)[:, None] * np.linspace(
        0, 1, 4, dtype=np.float32
    )
    spine = walk(points_of((0.3, 0.1), n=n)[:, 0], rise, np.broadcast_to(uniform(rng, 0.16, 0.24, n, 1), (n, 4)))
    neck = chain(spine, girth[:, None] * as_floats([0.6, 0.4, 0.32, 0.28, 0.26]))
    snout = walk(spine[:, -1], uniform(rng, -0.6, 0.2, n, 1), np.full((n, 1), 0.14, np.float32))
    head = chain(snout, girth[:, None] * as_floats([0.38, 0.26]))
    taper = girth[:, None] * np.linspace(0.75, 0.06, 7, dtype=np.float32)
    start = points_of((-0.3, 0.0), n=n)[:, 0]
    tail = tail_parts(rng, start, np.pi + uniform(rng, -0.2, 0.5, n), uniform(rng, 0.6, 0.9, n), 0.7, taper)
    hips = np.stack([np.full(n, 0.22), np.full(n, -0.28)], -1).astype(np.float32)
    legs = legs_from_side(rng, hips, -girth * 0.5, uniform(rng, 0.4, 0.55, n), girth * 0.36, 0.25)
    sauropod = np.concatenate([legs[:, :2], legs[:, 4:6], tail, neck, head, body, legs[:, 2:4], legs[:, 6:]], 1)

    lean = uniform(rng, 0.3, 1.1, n)
    hip = points_of((-0.1, 0.0), n=n)[:, 0]
    chest = walk(hip, np.stack([lean, lean + uniform(rng, -0.1, 0.6, n)], -1), np.full((n, 2), 0.3, np.float32))
    torso = chain(chest, girth[:, None] * as_floats([0.85, 0.75, 0.42]))
    jaw = walk(chest[:, -1], uniform(rng, -0.4, 0.25, n, 1), uniform(rng, 0.24, 0.34, n, 1))
    skull = chain(jaw, girth[:, None] * as_floats([0.58, 0.32]))
    lower = chain(
        walk(chest[:, -1] - as_floats([0, 0.05]), uniform(rng, -0.8, -0.3, n, 1), np.full((n, 1), 0.26, np.float32)),
        girth[:, None] * as_floats([0.35, 0.14]),
    )
    behind = tail_parts(rng, hip, np.pi + uniform(rng, -0.3, 0.5, n), uniform(rng, 0.7, 0.95, n), 0.6, taper)
    two = legs_from_side(rng, hips * 0 - 0.1, -girth * 0.3, uniform(rng, 0.6, 0.75, n), girth * 0.42, 0.5)
    arm = walk(chest[:, 1], np.stack([lean - 1.6, lean - 0.8], -1), np.full((n, 2), 0.12, np.float32))
    arms = chain(arm, as_floats([[0.05, 0.04, 0.03]]), tone=0.85)
    biped = np.concatenate([two[:, :2], behind, torso, skull, lower, arms, two[:, 2:4]], 1)
    return _choose(maybe(rng, 0.5, n), sauropod, biped), np.zeros(n, bool)


def _lizard(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build lizards: slim, with a short round head, four long splayed legs with bent knees and a thin tail.

    The tail is whip-like and longer than the body.
    """
    above = maybe(rng, 0.7, n)
    girth = uniform(rng, 0.085, 0.13, n)
    x = points_of((0.92, 0.0), (0.78, 0.0), (0.62, 0.0), (0.35, 0.0), (0.05, 0.0), n=n)
    x[..., 1] = uniform(rng, -0.5, 0.5, n)[:, None] * (x[..., 0] - 0.4) ** 2
    trunk = chain(x, girth[:, None] * as_floats([0.5, 0.95, 0.6, 1.0, 0.8]))
    taper = girth[:, None] * np.linspace(0.75, 0.1, 9, dtype=np.float32)
    tail = tail_parts(rng, x[:, -1], np.pi + uniform(rng, -0.3, 0.3, n), uniform(rng, 0.95, 1.3, n), 2.8, taper, m=8)
    hips = np.stack([uniform(rng, 0.48, 0.56, n), uniform(rng, 0.08, 0.18, n)], -1)
    reach = uniform(rng, 0.16, 0.24, n)
    legs = legs_from_above(rng, hips, girth * 0.6, reach, reach * 0.9, girth * 0.38)
    low = legs_from_side(rng, hips, -girth * 0.3, uniform(rng, 0.28, 0.38, n), girth * 0.38, 1.0)
    return _choose(above, np.concatenate([legs, tail, trunk], 1), np.concatenate([low, tail, trunk], 1)), above


def _snake(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build snakes: no limbs, a long body of even width in waves or in a coil, a slightly wider head, a thin tail."""
    m = 20
    along = np.linspace(0, 1, m, dtype=np.float32)
    waves, swing, phase = uniform(rng, 0.8, 2.2, n, 1), uniform(rng, 0.6, 1.5, n, 1), uniform(rng, 0, 2 * np.pi, n, 1)
    wave = swing * np.sin(2 * np.pi * waves * along + phase)
    coil = uniform(rng, 4.0, 9.5, n, 1) * along ** uniform(rng, 0.8, 1.3, n, 1)
    coiled = maybe(rng, 0.45, n, 1)
    heading = np.where(coiled, coil, wave)
    grow = np.where(coiled, 0.5 + 1.2 * (1 - along), 1.0)
    path = walk(np.zeros((n, 2), np.float32), heading.astype(np.float32), (grow / m).astype(np.float32))
    path -= (path.max(1, keepdims=True) + path.min(1, keepdims=True)) / 2
    path *= uniform(rng, 1.5, 1.95, n, 1, 1) / np.ptp(path, axis=1).max(-1)[:, None, None]
    girth = uniform(rng, 0.06, 0.12, n, 1)
    profile = as_floats([0.9, 1.2, 0.8, *[1.0] * (m - 8), 0.95, 0.85, 0.7, 0.5, 0.35, 0.15])
    return chain(path, girth * profile), maybe(rng, 0.8, n)


def _turtle(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Build turtles: a big domed oval shell, a small head and four stubs (from above, sometimes flippers)."""
    above = maybe(rng, 0.5, n)
    shell = uniform(rng, 0.42, 0.52, n)
    half = uniform(rng, 0.08, 0.2, n)
    oval = chain(points_of((half, 0.0), (-half, 0.0), n=n), np.stack([shell * 0.95, shell], -1), tone=0.85)
    nose = walk(
        np.stack([half + shell * 0.8, 0 * half], -1), uniform(rng, -0.4, 0.4, n, 1), uniform(rng, 0.18, 0.34, n, 1)
    )
    head = chain(nose, as_floats([[0.09, 0.12]]))
    hips = np.stack([half + shell * 0.5, -half - shell * 0.5], -1)
    flipper = np.where(maybe(rng, 0.35, n), 0.36, 0.16).astype(np.float32)
    legs = legs_from_above(rng, hips, shell * 0.65, flipper, flipper * 0.5, uniform(rng, 0.09, 0.13, n))
    stub = chain(points_of((-half - shell * 0.8, 0.0), (-half - shell - 0.15, 0.0), n=n), as_floats([[0.06, 0.01]]))
    top = np.concatenate([legs, head, stub, oval], 1)

    dome = chain(points_of((half, -0.15), (-half, -0.15), n=n), np.stack([shell, shell], -1), tone=0.85, cut=1.0)
    rim = chain(points_of((half + shell * 0.8, -0.15), (-half - shell * 0.8, -0.15), n=n), as_floats([[0.08, 0.08]]))
    start = np.stack([half + shell * 0.8, 0 * half - 0.12], -1)
    reach = walk(
        start, np.stack([uniform(rng, -0.2, 0.9, n), uniform(rng, -0.3, 0.3, n)], -1), np.full((n, 2), 0.16, np.float32)
    )
    neck = chain(reach, as_floats([[0.08, 0.09, 0.11]]))
    feet = legs_from_side(rng, hips, 0 * half - 0.2, uniform(rng, 0.2, 0.3, n), uniform(rng, 0.09, 0.13, n))
    side = np.concatenate([feet, neck, stub - as_floats([0, 0.15, 0, 0.15, 0, 0, 0, 0]), rim, dome], 1)
    return _choose(above, top, side), above


BUILDERS: tuple[Builder, ...] = (
    _crocodile,
    _dinosaur,
    _lizard,
    _snake,
    _turtle,
)
