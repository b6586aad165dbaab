"""The table ``[accuracy]`` of lab 3's settings: the two trainings whose results are worth points."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autograder.labs.settings import Count, Table

TABLE = "accuracy"

Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Prototypes(Table):
    """An encoder that learns from episodes; see :mod:`amllab.checks.meta_learning.prototype_accuracy`."""

    species: Annotated[int, Field(ge=2)]
    test_species: Annotated[int, Field(ge=2)]
    species_seed: Seed
    network_seed: Seed
    side: Annotated[int, Field(ge=16)]
    images: Annotated[int, Field(ge=2)]
    test_images: Annotated[int, Field(ge=2)]
    steps: Count
    n_way: Annotated[int, Field(ge=2)]
    k_shot: Count
    n_query: Count
    learning_rate: Positive


class Sinusoids(Table):
    """A network that learns to adapt in one step; see :mod:`amllab.checks.meta_learning.sinusoid_accuracy`."""

    network_seed: Seed
    steps: Count
    tasks: Count
    shots: Count
    queries: Count
    outer_rate: Positive
    inner_rate: Positive
    test_tasks: Annotated[int, Field(ge=2)]


class Budget(Table):
    """The table ``[accuracy]``, with one table for each training."""

    prototypes: Prototypes
    sinusoids: Sinusoids
