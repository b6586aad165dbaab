"""The training of exercise 4 as a task: its budget, its data and its score.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amllab.kit.task import ACCURACY, Task
from amllab.lab import Lab
from amllab.protocol.submission import Submission

if TYPE_CHECKING:
    from amllab.checks.transfer_learning.accuracy import Trained

NOT_YOURS = "with a model of the checks, as yours cannot be taken"
OURS = {"classes": 5, "side": 32}  # of the synthetic images and of CIFAR-100's reptiles


def budget_of(lab: Lab) -> dict[str, Any]:
    """Return ``[accuracy]`` of the lab's settings, with overrides of ``[accuracy.photographs]`` for photographs."""
    budget = dict(lab.settings["accuracy"])
    photographs = budget.pop("photographs", {})
    return budget if kind_of_data(budget["data"]) == "drawn" else budget | photographs


def kind_of_data(source: str) -> str:
    """Return ``"drawn"`` for synthetic images, or ``"reptiles"`` for those of CIFAR-100."""
    return "drawn" if source == "drawn" else "reptiles"


class TransferTask(Task):
    """Building and training with a submission's functions, and its accuracy on images that it has never seen."""

    table = "accuracy"
    score = ACCURACY
    data_word = "Images"

    @property
    def budget(self) -> dict[str, Any]:
        """The settings in force, without the place of the data."""
        return {name: value for name, value in budget_of(self.lab).items() if name != "data"}

    @property
    def source(self) -> str:
        """Where the images come from: ``"drawn"``, ``"cifar100"``, or a folder of the instructor."""
        return str(self.lab.settings["accuracy"]["data"])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.budget.get("classes", OURS["classes"]))

    @property
    def side(self) -> int:
        """Side of the images, in pixels."""
        return int(self.budget.get("side", OURS["side"]))

    @property
    def data(self) -> str:
        """The kind of data; an instructor's own images or backbone have a name of their own."""
        return self.lab.own or kind_of_data(self.source)

    @property
    def spread(self) -> float:
        """Half of what counting hits alone gives."""
        return math.sqrt(0.25 / self.budget["test_images"]) / 2

    @property
    def attempts(self) -> Sequence[str]:
        """Learning rates: one does not suit all optimizers."""
        return [f"lr={lr:g}" for lr in self.budget["learning_rates"]]

    def prepare(self, submission: Submission) -> str:
        """Look whether the submission builds the backbone; if not, another model is trained."""
        from amllab.checks.transfer_learning.accuracy import builds_the_backbone

        return "" if builds_the_backbone(submission, self) else NOT_YOURS

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Trained:
        """Train with one learning rate and predict the test images."""
        from amllab.checks.transfer_learning.accuracy import fit_and_predict

        return fit_and_predict(submission, self, seed, attempt, with_own_model=not remark)

    def rate(self, trained: Trained) -> float:
        """Return the share of test images that were recognised."""
        from amllab.kit.accuracy import accuracy

        return accuracy(trained.predicted["logits"], trained.test.labels)

    def verify(self, trained: Trained, *, earns: bool) -> None:
        """Fail the check if the training exceeded its budget, or if the predictions are not those of its model."""
        from amllab.checks.transfer_learning.accuracy import verify

        verify(trained, self.budget, earns=earns)
