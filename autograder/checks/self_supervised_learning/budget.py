"""The table ``[accuracy]`` of lab 2's settings: the pretraining whose gain is worth points."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autograder.kit.species_budget import SpeciesBudget

TABLE = "accuracy"


class Budget(SpeciesBudget):
    """The table ``[accuracy]``; see :mod:`amllab.checks.self_supervised_learning.accuracy`."""

    crop: Annotated[float, Field(gt=0, le=1)]
