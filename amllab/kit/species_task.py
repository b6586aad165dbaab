"""A training on drawn species as a task: what labs with such a training share.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

from amllab.kit.task import Task
from amllab.protocol.submission import Submission


class SpeciesTask(Task):
    """A training on images of drawn species without labels, with one of several learning rates.

    Attributes:
        not_yours: The remark if a loss of the checks replaces that of the submission.
    """

    table = "accuracy"
    data_word = "Images"
    not_yours: ClassVar[str]

    @property
    @abstractmethod
    def trainings(self) -> ModuleType:
        """The module that trains, loaded on first use: ``has_the_loss``, ``fit`` and ``keeps_to_the_budget``."""

    @property
    def budget(self) -> dict[str, Any]:
        """The table of ``lab.toml``."""
        return dict(self.lab.settings[self.table])

    @property
    def budget_in_words(self) -> str:
        """What a submission may use."""
        budget = self.budget
        return f"{budget['epochs']} epochs on {budget['species'] * budget['images']:,} images without labels"

    @property
    def data(self) -> str:
        """Drawn species: always the same species, and new individuals in every run."""
        return "species"

    @property
    def spread(self) -> float:
        """Half of what random ranks of the test images alone give."""
        return math.sqrt(1 / 12 / (self.budget["species"] * self.budget["test_images"])) / 2

    @property
    def attempts(self) -> Sequence[str]:
        """Learning rates: one does not suit all optimizers."""
        return [f"lr={lr:g}" for lr in self.budget["learning_rates"]]

    def prepare(self, submission: Submission) -> str:
        """Look whether the loss of the submission can be taken; if not, another loss replaces it."""
        return "" if self.trainings.has_the_loss(submission) else self.not_yours

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Any:
        """Train with one learning rate."""
        return self.trainings.fit(submission, self.budget, seed, attempt, with_own_loss=not remark)

    def verify(self, trained: Any, *, earns: bool) -> None:
        """Fail the check if the training exceeded its budget."""
        self.trainings.keeps_to_the_budget(trained)
