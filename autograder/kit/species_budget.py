"""The table ``[accuracy]`` of labs whose training is a :class:`amllab.kit.species_task.SpeciesTask`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autograder.labs.settings import Count, Table

Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SpeciesBudget(Table):
    """What such a table contains."""

    species: Annotated[int, Field(ge=2)]
    species_seed: Seed
    network_seed: Seed
    side: Annotated[int, Field(ge=16)]
    images: Count
    test_images: Annotated[int, Field(ge=2)]
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    temperature: Positive
