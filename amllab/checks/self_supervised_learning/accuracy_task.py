"""The training of exercise 4 as a task: its budget, its data and its score.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from amllab.kit.species_task import SpeciesTask
from amllab.kit.task import Score

if TYPE_CHECKING:
    from amllab.checks.self_supervised_learning.accuracy import Trained

NOT_YOURS = "with a loss of the checks, as yours is not the contrastive loss"
GAIN = Score("gain", worst=-1.0, step=0.005, factor=100, unit=" points", digits=1)


class PretrainingTask(SpeciesTask):
    """Pretraining with a submission's functions, and what it gains over the untrained encoder on new images."""

    score = GAIN
    not_yours = NOT_YOURS

    @property
    def trainings(self) -> ModuleType:
        """The module that trains, loaded on first use."""
        from amllab.checks.self_supervised_learning import accuracy

        return accuracy

    def rate(self, trained: Trained) -> float:
        """Return the gain over the untrained encoder, as a share of the pairs."""
        from amllab.checks.self_supervised_learning.accuracy import gain

        return gain(trained)
