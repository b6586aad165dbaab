"""The table ``[accuracy]`` of lab 1's settings: the training whose accuracy is worth points."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from autograder.labs.settings import Count, Table

TABLE = "accuracy"


Name = Annotated[str, Field(min_length=1)]
Layers = Annotated[int, Field(ge=0)]
Rates = Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]


def _ours(data: str) -> str:
    """Reject a folder: students get ``lab.toml``, and do not have the folder."""
    if data not in ("drawn", "cifar100"):
        raise PydanticCustomError(
            "data", "must be drawn or cifar100; for your own images, run 'autograder use-data transfer-learning FOLDER'"
        )
    return data


class Photographs(Table):
    """The table ``[accuracy.photographs]``: values that replace those of ``[accuracy]`` if ``data`` are photographs."""

    max_epochs: Count | None = None
    train_images: Count | None = None
    val_images: Count | None = None
    test_images: Count | None = None
    batch_size: Count | None = None


class Budget(Table):
    """The table ``[accuracy]``; see :mod:`amllab.checks.transfer_learning.accuracy`."""

    data: Annotated[str, AfterValidator(_ours)]
    backbone: Name
    n_trainable: Layers
    max_epochs: Count
    learning_rates: Rates
    train_images: Count
    val_images: Count
    test_images: Count
    batch_size: Count
    photographs: Photographs | None = None


class Own(Table):
    """What an instructor's own images and backbone replace; see :mod:`autograder.labs.own`."""

    data: Name | None = None
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    classes: Annotated[int, Field(ge=2, le=100)] | None = None
    side: Annotated[int, Field(ge=16, le=224)] | None = None
    backbone: Name | None = None
    n_trainable: Layers | None = None
    max_epochs: Count | None = None
    learning_rates: Rates | None = None
    train_images: Count | None = None
    val_images: Count | None = None
    test_images: Count | None = None
    batch_size: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        images = (self.data, self.digest, self.classes)
        if any(value is not None for value in images) and None in images:
            raise PydanticCustomError(
                "own", "needs data, digest and classes together, as 'autograder use-data' writes them"
            )
        return self
