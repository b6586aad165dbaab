"""Solutions of exercise 1, the contrastive loss."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.loss.correct import LOSS_CORRECT
from autograder.checks.self_supervised_learning.corpus.loss.wrong_elsewhere import ELSEWHERE
from autograder.checks.self_supervised_learning.corpus.loss.wrong_values import VALUES

__all__ = ["LOSS_CORRECT", "LOSS_WRONG"]

LOSS_WRONG = [*VALUES, *ELSEWHERE]
