"""Solutions of exercise 2, the loss of a prototypical network."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.prototypes.correct import PROTOTYPE_CORRECT
from autograder.checks.meta_learning.corpus.prototypes.wrong_elsewhere import ELSEWHERE
from autograder.checks.meta_learning.corpus.prototypes.wrong_values import VALUES

__all__ = ["PROTOTYPE_CORRECT", "PROTOTYPE_WRONG"]

PROTOTYPE_WRONG = [*VALUES, *ELSEWHERE]
