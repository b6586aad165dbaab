"""The training of exercise 4 as a task: its budget, its data and its score.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amllab.kit.task import Score, Task
from amllab.protocol.submission import Submission

if TYPE_CHECKING:
    from amllab.checks.self_supervised_learning.accuracy import Trained

NOT_YOURS = "with a loss of the checks, as yours is not the contrastive loss"
GAIN = Score("gain", worst=-1.0, step=0.005, factor=100, unit=" points", digits=1)


class PretrainingTask(Task):
    """Pretraining with a submission's functions, and what it gains over the untrained encoder on new images."""

    table = "accuracy"
    score = GAIN
    data_word = "Images"

    @property
    def budget(self) -> dict[str, Any]:
        """The table of ``lab.toml``."""
        return dict(self.lab.settings[self.table])

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
        """Look whether the loss is the contrastive one; if not, another loss replaces it."""
        from amllab.checks.self_supervised_learning.accuracy import has_the_loss

        return "" if has_the_loss(submission) else NOT_YOURS

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Trained:
        """Pretrain with one learning rate."""
        from amllab.checks.self_supervised_learning.accuracy import fit

        return fit(submission, self.budget, seed, attempt, with_own_loss=not remark)

    def rate(self, trained: Trained) -> float:
        """Return the gain over the untrained encoder, as a share of the pairs."""
        from amllab.checks.self_supervised_learning.accuracy import gain

        return gain(trained)

    def verify(self, trained: Trained, *, earns: bool) -> None:
        """Fail the check if the training exceeded its budget."""
        from amllab.checks.self_supervised_learning.accuracy import keeps_to_the_budget

        keeps_to_the_budget(trained)
