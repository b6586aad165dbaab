"""All attack and fault submissions; ``python bench/integrity.py --list`` prints them."""

from __future__ import annotations

import attacks_cheating
import attacks_forging
import attacks_malformed
import attacks_resources
import attacks_stealing
import attacks_subverting
from attack_base import Attack

ATTACKS: list[Attack] = [
    *attacks_forging.ATTACKS,
    *attacks_stealing.ATTACKS,
    *attacks_subverting.ATTACKS,
    *attacks_cheating.ATTACKS,
    *attacks_resources.ATTACKS,
    *attacks_malformed.ATTACKS,
]
BY_NAME = {attack.name: attack for attack in ATTACKS}
assert len(BY_NAME) == len(ATTACKS), "two attacks have one name"
