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
    from amllab.checks.knowledge_distillation.accuracy import Trained

NOT_YOURS = "with a loss of the checks, as yours does not follow the teacher as it should"
KNOWLEDGE = Score("score", worst=0.0, step=0.005, factor=100, unit=" %", digits=1)


class DistillationTask(Task):
    """Learning from a teacher alone with a submission's functions, and what the student knows of new images."""

    table = "accuracy"
    score = KNOWLEDGE
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
        """Look whether the loss follows the teacher; if not, another loss replaces it."""
        from amllab.checks.knowledge_distillation.accuracy import has_the_loss

        return "" if has_the_loss(submission) else NOT_YOURS

    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Trained:
        """Distill with one learning rate."""
        from amllab.checks.knowledge_distillation.accuracy import fit

        return fit(submission, self.budget, seed, attempt, with_own_loss=not remark)

    def rate(self, trained: Trained) -> float:
        """Return how often the right species gets a higher logit than another one."""
        from amllab.checks.knowledge_distillation.accuracy import knowledge

        return knowledge(trained)

    def verify(self, trained: Trained, *, earns: bool) -> None:
        """Fail the check if the training exceeded its budget."""
        from amllab.checks.knowledge_distillation.accuracy import keeps_to_the_budget

        keeps_to_the_budget(trained)
