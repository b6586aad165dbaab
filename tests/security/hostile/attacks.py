"""All attack and fault submissions; ``python -m bench.integrity --list`` prints them."""

from __future__ import annotations

from tests.security.hostile import (
    attacks_answering,
    attacks_cheating,
    attacks_forging,
    attacks_malformed,
    attacks_resources,
    attacks_stealing,
    attacks_subverting,
)
from tests.security.hostile.attack_base import Attack

ATTACKS: list[Attack] = [
    *attacks_forging.ATTACKS,
    *attacks_answering.ATTACKS,
    *attacks_stealing.ATTACKS,
    *attacks_subverting.ATTACKS,
    *attacks_cheating.ATTACKS,
    *attacks_resources.ATTACKS,
    *attacks_malformed.ATTACKS,
]
BY_NAME = {attack.name: attack for attack in ATTACKS}
assert len(BY_NAME) == len(ATTACKS), "two attacks have one name"
