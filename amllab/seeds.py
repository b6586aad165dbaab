"""Seeds for separate purposes, none of which reveals another."""

from __future__ import annotations

import hashlib

BITS = 63  # every generator accepts this many, and nobody can try them all


def derive(seed: int, *purpose: str) -> int:
    """Derive a seed for one purpose from the seed of a run.

    The same seed and purpose always give the same result. A derived seed reveals neither the seed of the run nor any
    other derived seed.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - BITS)
