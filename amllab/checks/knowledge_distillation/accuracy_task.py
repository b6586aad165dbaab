"""The training of exercise 4 as a task: its budget, its data and its score.

This module loads no PyTorch, since a lab's settings are compared with its thresholds by processes that do not need it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from amllab.kit.species_task import SpeciesTask
from amllab.kit.task import Score

if TYPE_CHECKING:
    from amllab.checks.knowledge_distillation.accuracy import Trained

NOT_YOURS = "with a loss of the checks, as yours does not follow the teacher as it should"
KNOWLEDGE = Score("score", worst=0.0, step=0.005, factor=100, unit=" %", digits=1)


class DistillationTask(SpeciesTask):
    """Learning from a teacher alone with a submission's functions, and what the student knows of new images."""

    score = KNOWLEDGE
    not_yours = NOT_YOURS

    @property
    def trainings(self) -> ModuleType:
        """The module that trains, loaded on first use."""
        from amllab.checks.knowledge_distillation import accuracy

        return accuracy

    def rate(self, trained: Trained) -> float:
        """Return how often the right species gets a higher logit than another one."""
        from amllab.checks.knowledge_distillation.accuracy import knowledge

        return knowledge(trained)
