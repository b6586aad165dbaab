"""Solutions of exercise 3, the adaptation by gradient descent."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.maml.correct import CORRECT
from autograder.checks.meta_learning.corpus.maml.correct_elsewhere import MORE_CORRECT
from autograder.checks.meta_learning.corpus.maml.wrong_elsewhere import ELSEWHERE
from autograder.checks.meta_learning.corpus.maml.wrong_gradients import GRADIENTS
from autograder.checks.meta_learning.corpus.maml.wrong_steps import WRONG_STEPS

__all__ = ["MAML_CORRECT", "MAML_WRONG"]

MAML_CORRECT = [*CORRECT, *MORE_CORRECT]
MAML_WRONG = [*WRONG_STEPS, *GRADIENTS, *ELSEWHERE]
