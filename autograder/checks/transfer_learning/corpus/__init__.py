"""The corpus of lab 1: plain functions, typical mistakes, styles of good students, and styles of public code.

What a mistake should cost is in ``costs.toml``, written down before it was measured.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from autograder.checks.transfer_learning.corpus.before_training import BUILDING, FREEZING
from autograder.checks.transfer_learning.corpus.in_training import TRAINING
from autograder.checks.transfer_learning.corpus.plain import BUILD, FREEZE, PLAIN, TRAIN
from autograder.checks.transfer_learning.corpus.public import PUBLIC_CORRECT, PUBLIC_WRONG
from autograder.checks.transfer_learning.corpus.styles import STYLES
from autograder.checks.transfer_learning.corpus.typical import TYPICAL

__all__ = ["BUILD", "CORRECT", "DEMO", "FREEZE", "MISTAKES", "PLAIN", "TRAIN", "WRONG"]

_COSTS = tomllib.loads(Path(__file__).with_name("costs.toml").read_text(encoding="utf-8"))
MISTAKES = [
    replace(mistake, cost=tuple(_COSTS.get(mistake.cell, {}).get(mistake.name, ())) or None)
    for mistake in (*TYPICAL, *FREEZING, *BUILDING, *TRAINING)
]
WRONG = [*MISTAKES, *PUBLIC_WRONG]
CORRECT = [*STYLES, *PUBLIC_CORRECT]
DEMO = (
    "with_the_library",
    "batchnorm_in_freeze",
    "statistics_drift",
    "best_by_reference",
    "not_pretrained",
    "never_thaws",
)
