"""The table ``[accuracy]`` of lab 4's settings: the distillation whose result is worth points."""

from __future__ import annotations

from autograder.kit.species_budget import SpeciesBudget

TABLE = "accuracy"


class Budget(SpeciesBudget):
    """The table ``[accuracy]``; see :mod:`amllab.checks.knowledge_distillation.accuracy`."""
