"""Folders of class images drawn with Pillow: polygons and stars of some colours, on noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = ((230, 60, 60), (60, 200, 80), (80, 110, 240), (230, 210, 60), (200, 80, 220))
# by kind: classes, images of each, sizes, colour modes
SETS: dict[str, tuple[int, int, Sequence[tuple[int, int]], Sequence[str]]] = {
    "two": (2, 60, [(16, 16)], ["L"]),
    "six": (6, 30, [(32, 32)], ["RGB"]),
    "twelve": (12, 30, [(64, 64), (90, 70), (64, 120)], ["RGB", "L", "RGBA", "P", "CMYK"]),
    "hundred": (100, 5, [(32, 32), (40, 48)], ["RGB"]),
}


def drawn_folder(folder: Path, name: str) -> Path:
    """Draw one of the sets into a folder."""
    classes, n, sizes, modes = SETS[name]
    rng = np.random.default_rng(0)
    for kind in range(classes):
        place = folder / f"klasse {kind:03d} ä"
        place.mkdir(parents=True)
        for i in range(n):
            mode = modes[i % len(modes)]
            image = _drawing(rng, kind, sizes[i % len(sizes)]).convert(mode)
            image.save(place / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}")
    return folder


def _drawing(rng: np.random.Generator, kind: int, size: tuple[int, int]) -> Image.Image:
    wide, high = size
    image = Image.fromarray(rng.integers(0, 90, (high, wide, 3), dtype=np.uint8))
    corners, star = 3 + kind // 5 % 4, kind // 20 % 2
    colour = np.clip(np.array(COLOURS[kind % 5]) + rng.integers(-40, 40, 3), 0, 255)
    x, y = wide * (0.5 + rng.uniform(-0.12, 0.12)), high * (0.5 + rng.uniform(-0.12, 0.12))
    radius, turn = min(size) * rng.uniform(0.28, 0.42), rng.uniform(0, 2 * math.pi)
    points = []
    for i in range(corners * (1 + star)):
        r, angle = radius * (0.45 if star and i % 2 else 1.0), turn + 2 * math.pi * i / (corners * (1 + star))
        points.append((x + r * math.cos(angle), y + r * math.sin(angle)))
    draw = ImageDraw.Draw(image)
    draw.polygon(points, fill=tuple(int(value) for value in colour))
    stripes = kind // 40
    for stripe in range(stripes and stripes + 1):
        level = high * (stripe + 1) // (stripes + 2)
        draw.line([(0, level), (wide, level)], fill=(255, 255, 255), width=max(1, high // 24))
    return image
