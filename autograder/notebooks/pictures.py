"""Pictures and text in a notebook's fields, validated by their content whatever type they declare."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from amllab.matching import joined

MOST_PIXELS = 50_000_000  # of one picture: a few kilobytes can expand to gigabytes in a browser

_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
_INLINE_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")

# JPEG markers of a frame header, which has the size; the other markers in this range do not
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def picture(kind: str, value: Any) -> str:
    """Validate a picture in base64 and return it without line breaks.

    Raises:
        ValueError: if it is not a picture of this kind, or larger than a browser can show.
    """
    text = "".join(joined(value).split())
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"no base64 of {kind}") from None
    if kind not in _MAGIC or not content.startswith(_MAGIC[kind]):
        raise ValueError(f"no {kind}")
    width, height = _size(kind, content)
    if width * height > MOST_PIXELS:
        raise ValueError(f"no {kind} of a size to be shown: {width} x {height}")
    return text


def _size(kind: str, content: bytes) -> tuple[int, int]:
    """Return the width and height that the picture declares, 0 if it declares none."""
    if kind == "image/png":
        return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    if kind == "image/gif":
        return int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
    place = 2
    while place + 9 < len(content) and content[place] == 0xFF:
        if content[place + 1] in _FRAMES:
            return int.from_bytes(content[place + 7 : place + 9]), int.from_bytes(content[place + 5 : place + 7])
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return 0, 0


def without_pictures(source: str, instead: str = "") -> str:
    """Replace the pictures that are embedded in markdown as data URLs."""
    return _INLINE_PICTURE.sub(instead, source)
