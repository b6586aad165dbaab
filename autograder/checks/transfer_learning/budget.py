"""The table ``[accuracy]`` of lab 1's settings: the training whose accuracy is worth points."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autograder.labs.settings import Count, Table

TABLE = "accuracy"


class Photographs(Table):
    """The table ``[accuracy.photographs]``: values that replace those of ``[accuracy]`` if ``data`` are photographs."""

    max_epochs: Count | None = None
    train_images: Count | None = None
    val_images: Count | None = None
    test_images: Count | None = None
    batch_size: Count | None = None


class Budget(Table):
    """The table ``[accuracy]``; see :mod:`amllab.checks.transfer_learning.accuracy`."""

    data: Annotated[str, Field(min_length=1)]
    backbone: Annotated[str, Field(min_length=1)]
    n_trainable: Annotated[int, Field(ge=0)]
    max_epochs: Count
    learning_rates: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    train_images: Count
    val_images: Count
    test_images: Count
    batch_size: Count
    photographs: Photographs | None = None
