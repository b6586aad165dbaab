"""Trainings of small networks: what a check asked, what it was answered, the call as a student can repeat it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from amllab.kit.expectations import Call
from amllab.kit.loss_history import losses_in

TINY = 1e-12  # a learning rate with which the weights stay what they are


@dataclass(frozen=True)
class Training(ABC):
    """A training.

    Attributes:
        asked: The arguments of the probe but for those of the submission's function.
        arguments: The arguments of that function.
        got: The answer of the probe.
    """

    asked: dict[str, Any]
    arguments: dict[str, Any]
    got: dict[str, Any]

    @property
    @abstractmethod
    def call(self) -> Call:
        """The call as a student can repeat it."""

    @property
    def epochs(self) -> int:
        """The number of epochs that was asked for."""
        return int(self.arguments.get("epochs", 10))

    @property
    def losses(self) -> list[float] | None:
        """The returned losses; ``None`` if there are none."""
        return losses_in(self.got["history"])


def named(arguments: Mapping[str, Any]) -> str:
    """Return numbers as named arguments that follow others in a call, such as ``", epochs=3, lr=0.001"``."""
    return "".join(f", {name}={value:g}" for name, value in arguments.items())


def randomise_norms(net: nn.Module) -> None:
    """Give all BatchNorm layers random weights and statistics, other than those of a new network."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.get_buffer("running_mean").uniform_(-0.5, 0.5)
            module.get_buffer("running_var").uniform_(0.5, 2.0)
