"""Solutions of exercise 1, the distillation loss."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.loss.correct import LOSS_CORRECT
from autograder.checks.knowledge_distillation.corpus.loss.wrong_elsewhere import ELSEWHERE
from autograder.checks.knowledge_distillation.corpus.loss.wrong_values import VALUES

__all__ = ["LOSS_CORRECT", "LOSS_WRONG"]

LOSS_WRONG = [*VALUES, *ELSEWHERE]
