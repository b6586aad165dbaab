"""Seeds that do not tell of one another."""

from __future__ import annotations

import hashlib

BITS = 63  # what every generator takes, and nobody tries through


def derive(seed: int, *purpose: str) -> int:
    """A seed for one purpose, from the seed of a run.

    The same again for the same seed. Who learns one of them learns neither the run's seed nor the others.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - BITS)
