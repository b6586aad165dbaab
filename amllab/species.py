"""Drawn species: a family of animals without end, for labs that need many classes.

A species is a vector of traits of body and coat (:class:`Traits`), sampled from a seed. Its individuals differ in their
proportions, by a few per cent, and in pose, place, light and background, as the drawn reptiles do. Images are rendered
by :mod:`amllab.synthetic_images`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amllab.animals import (
    Array,
    Builder,
    Rng,
    as_floats,
    chain,
    legs_from_above,
    legs_from_side,
    points_of,
    tail_parts,
    uniform,
    walk,
)
from amllab.images import LabelledImages
from amllab.seeds import derive
from amllab.synthetic_images import EASY, Coat, Difficulty, grid, noise, random_colours, render

CHUNK = 20  # individuals drawn at a time, always as many: how many are requested does not change any of them
VARIATION = 0.06  # of lengths and widths between individuals, as a share
STRIPES, SPOTS, MOTTLED, PLAIN = range(4)


@dataclass(frozen=True)
class Traits:
    """What distinguishes a species. Lengths are in units of about half the animal, angles in radians.

    Parts whose number or length is 0 are missing.
    """

    above: bool  # whether it is seen from above
    length: float  # half of the trunk
    girth: float  # radius of the trunk; the next three and most widths are shares of it
    front: float
    middle: float
    rear: float
    leg_pairs: int
    leg_length: float
    leg_width: float
    tail_length: float
    tail_root: float
    tail_tip: float
    tail_bend: float
    neck_length: float
    neck_rise: float
    neck_width: float
    head: float  # radius
    snout_length: float
    snout_width: float  # share of the head's radius
    shell: float
    crest: int  # number of spikes
    crest_height: float
    horns: int
    horn_length: float
    horn_angle: float
    pattern: int  # of the coat: STRIPES, SPOTS, MOTTLED or PLAIN
    period: float  # of stripes
    angle: float  # of stripes
    slope: float  # of spots: high for large ones
    contrast: float  # between base and marks
    base: tuple[float, ...]
    marks: tuple[float, ...]


def sample_traits(rng: Rng) -> Traits:
    """Sample the traits of a species."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def sometimes(probability: float, low: float, high: float) -> float:
        return between(low, high) if rng.random() < probability else 0.0

    base, marks = random_colours(rng, 2)
    return Traits(
        above=bool(rng.random() < 0.35),
        length=between(0.25, 0.95),
        girth=between(0.07, 0.3),
        front=between(0.5, 1.1),
        middle=between(0.7, 1.25),
        rear=between(0.5, 1.1),
        leg_pairs=int(rng.choice([0, 2, 2, 2, 3, 4])),
        leg_length=between(0.12, 0.55),
        leg_width=between(0.2, 0.5),
        tail_length=sometimes(0.85, 0.25, 1.2),
        tail_root=between(0.25, 0.95),
        tail_tip=between(0.05, 0.5),
        tail_bend=between(0.3, 2.5),
        neck_length=sometimes(0.65, 0.15, 0.75),
        neck_rise=between(-0.1, 1.3),
        neck_width=between(0.25, 0.6),
        head=between(0.08, 0.22),
        snout_length=sometimes(0.7, 0.1, 0.45),
        snout_width=between(0.25, 0.8),
        shell=sometimes(0.25, 1.2, 2.0),
        crest=int(rng.choice([0, 0, 4, 6])),
        crest_height=between(0.08, 0.25),
        horns=int(rng.choice([0, 0, 1, 2])),
        horn_length=between(0.12, 0.35),
        horn_angle=between(0.6, 2.4),
        pattern=int(rng.integers(4)),
        period=between(0.15, 0.5),
        angle=between(0, np.pi),
        slope=between(0.2, 1.5),
        contrast=between(0.25, 0.7),
        base=tuple(map(float, base)),
        marks=tuple(map(float, marks)),
    )


def draw_species(
    n_species: int,
    per_species: int,
    seed: int,
    size: int = 32,
    difficulty: Difficulty = EASY,
    *,
    individuals: int = 0,
) -> LabelledImages:
    """Draw images of species, equally many of each.

    Images are stored, so that repeated calls take no time.

    Args:
        n_species: number of species; with more of them, the first ones stay the same.
        per_species: number of images of each species; with more of them, the first ones stay the same.
        seed: seed of the species and their individuals; the same seed gives the same images on the same machine.
        size: side length in pixels.
        difficulty: settings of backgrounds, light, camouflage and pose.
        individuals: another number gives other individuals of the same species, for example for testing.

    Returns:
        Images, uint8 ``(n_species * per_species, 3, size, size)``, with their labels, int64
        ``(n_species * per_species,)``. Images of a species follow each other, and species are in the order of their
        labels ``0 ... n_species - 1``.

    Raises:
        ValueError: ``n_species`` or ``per_species`` is negative, or ``size`` below 8.

    >>> data = draw_species(3, 2, seed=1)
    >>> data.images.shape, data.labels.tolist()
    (torch.Size([6, 3, 32, 32]), [0, 0, 1, 1, 2, 2])
    """
    if n_species < 0 or per_species < 0 or size < 8:
        raise ValueError(
            "draw_species() needs n_species >= 0, per_species >= 0 and size >= 8, not "
            f"n_species={n_species}, per_species={per_species} and size={size}"
        )
    images = _drawn(int(n_species), int(per_species), int(seed), int(size), difficulty, int(individuals))
    labels = torch.arange(n_species).repeat_interleave(per_species)
    names = tuple(f"species {label}" for label in range(n_species))
    # a copy: changes of the images must not reach the next call
    return LabelledImages(torch.from_numpy(images.copy()), labels, names, "drawn species")


@lru_cache(maxsize=4)
def _drawn(
    n_species: int, per_species: int, seed: int, size: int, difficulty: Difficulty, individuals: int
) -> NDArray[np.uint8]:
    images = np.empty((n_species, per_species, 3, size, size), np.uint8)
    for species, own in enumerate(images):
        traits = sample_traits(_generator(seed, "traits", species))
        for chunk, start in enumerate(range(0, per_species, CHUNK)):
            rng = _generator(seed, "individuals", species, individuals, chunk)
            rendered = render(builder_of(traits), CHUNK, rng, size, difficulty, coat_of(traits))
            own[start : start + CHUNK] = rendered[: per_species - start]
    return images.reshape(-1, 3, size, size)


def _generator(seed: int, purpose: str, *numbers: int) -> Rng:
    return np.random.default_rng(derive(seed, "species", purpose, *map(str, numbers)))


def builder_of(traits: Traits) -> Builder:
    """Return the builder of a species; see :mod:`amllab.animals`."""

    def build(rng: Rng, n: int) -> tuple[Array, NDArray[np.bool_]]:
        parts = [part for group in _parts(traits, rng, n) for part in group]
        return np.concatenate(parts, 1), np.full(n, traits.above)

    return build


def _varied(rng: Rng, value: float, n: int) -> Array:
    """Return a length or width for each of ``n`` individuals."""
    return as_floats(value * uniform(rng, 1 - VARIATION, 1 + VARIATION, n))


def _parts(traits: Traits, rng: Rng, n: int) -> list[list[Array]]:
    """Build trunk, limbs, neck and head, and ornaments, each a list of parts ``(n, k, 8)``."""
    length, girth = _varied(rng, traits.length, n), _varied(rng, traits.girth, n)
    spine = points_of((length, 0.0), (0.0, 0.0), (-length, 0.0), n=n)
    spine[:, [0, 2], 1] = uniform(rng, -0.08, 0.08, n, 1)
    trunk = chain(spine, girth[:, None] * as_floats([traits.front, traits.middle, traits.rear]))
    limbs = []
    if traits.leg_pairs:
        limbs.append(_legs(traits, rng, length, girth))
    if traits.tail_length:
        taper = girth[:, None] * np.linspace(traits.tail_root, traits.tail_tip, 7, dtype=np.float32)
        heading, reach = as_floats(np.pi + uniform(rng, -0.3, 0.3, n)), _varied(rng, traits.tail_length, n)
        limbs.append(tail_parts(rng, spine[:, -1], heading, reach, traits.tail_bend, taper))
    neck, throat = _neck(traits, rng, spine[:, 0], girth)
    ornaments = []
    if traits.shell:
        dome = points_of((length * 0.5, 0.0), (-length * 0.5, 0.0), n=n)
        ornaments.append(chain(dome, girth[:, None] * traits.shell, tone=0.85, cut=0.0 if traits.above else 1.0))
    for x in np.linspace(1, -1, traits.crest):
        root = np.stack([length * x, girth * traits.middle * 0.8], -1)
        tip = root + np.stack([np.full(n, -0.04), _varied(rng, traits.crest_height, n)], -1)
        ornaments.append(chain(np.stack([root, tip], 1), as_floats([[0.05, 0.005]]), tone=0.8))
    head = _varied(rng, traits.head, n)
    face = walk(throat, uniform(rng, -0.35, 0.15, n, 1), _varied(rng, max(traits.snout_length, 0.02), n)[:, None])
    for horn in range(traits.horns):
        # from above on both sides of the head, from the side behind each other
        angle = traits.horn_angle * (-1.0) ** horn if traits.above else traits.horn_angle + 0.35 * horn
        points = walk(throat, np.full((n, 1), angle, np.float32), _varied(rng, traits.horn_length, n)[:, None])
        ornaments.append(chain(points, head[:, None] * as_floats([0.5, 0.1]), tone=1.1))
    skull = chain(face, head[:, None] * as_floats([1.0, traits.snout_width]))
    return [[trunk], limbs, [*neck, skull], ornaments]


def _legs(traits: Traits, rng: Rng, length: Array, girth: Array) -> Array:
    """Build the legs, evenly spaced along the trunk."""
    at = length[:, None] * np.linspace(0.8, -0.8, traits.leg_pairs, dtype=np.float32)
    reach, width = _varied(rng, traits.leg_length, len(length)), girth * np.float32(traits.leg_width)
    if traits.above:
        half = as_floats(reach / 2)
        return legs_from_above(rng, at, girth * 0.8, half, half, width)
    return legs_from_side(rng, at, -girth * 0.5, as_floats(reach + girth * 0.3), width, 0.35)


def _neck(traits: Traits, rng: Rng, shoulder: Array, girth: Array) -> tuple[list[Array], Array]:
    """Build the neck, if there is one; return also the points ``(n, 2)`` where the head begins."""
    n = len(girth)
    if not traits.neck_length:
        return [], as_floats(shoulder + np.stack([girth * traits.front * 0.8, 0 * girth], -1))
    rise = (0.0 if traits.above else traits.neck_rise) + uniform(rng, -0.2, 0.2, n, 1)
    steps = np.repeat(_varied(rng, traits.neck_length / 3, n)[:, None], 3, 1)
    path = walk(shoulder, np.repeat(rise, 3, 1), steps)
    width = traits.neck_width
    return [chain(path, girth[:, None] * as_floats([traits.front, 1.2 * width, width, width]))], path[:, -1]


def coat_of(traits: Traits) -> Coat:
    """Return the coat of a species, for :func:`amllab.synthetic_images.render`."""

    def coat(rng: Rng, n: int, size: int, ground: Array, hard: Difficulty) -> Array:
        base, marks = (
            colour * uniform(rng, 0.85, 1.15, n, 1) for colour in map(as_floats, (traits.base, traits.marks))
        )
        base = base + uniform(rng, *hard.camouflage, n, 1) * (ground - base)
        contrast = traits.contrast * uniform(rng, 0.7, 1.3, n, 1)
        pattern = _pattern(traits, rng, n, size)[:, None]
        coloured: Any = base[..., None, None] + (contrast * (marks - base))[..., None, None] * pattern
        return as_floats(np.clip(coloured, 0, 1))

    return coat


def _pattern(traits: Traits, rng: Rng, n: int, size: int) -> Array:
    """Return where the marks are, ``(n, size, size)``; -1 to 1 except for mottled coats."""
    if traits.pattern == PLAIN:
        return np.zeros((n, size, size), np.float32)
    if traits.pattern == STRIPES:
        x, y = grid(size)
        angle = traits.angle + uniform(rng, -0.2, 0.2, n, 1, 1)
        frequency = 2 * np.pi / traits.period / uniform(rng, 0.85, 1.15, n, 1, 1)
        phase = uniform(rng, 0, 2 * np.pi, n, 1, 1)
        return as_floats(np.clip(3 * np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase), -1, 1))
    field = noise(rng, (n,), size, np.full(n, traits.slope, np.float32))
    return as_floats(np.clip(3 * field, -1, 1) if traits.pattern == SPOTS else field / 2)
