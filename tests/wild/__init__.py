"""Submissions in the styles of public code: training loops, freezing and head swapping, correct ones and wrong ones.

Each was graded in writing by the contract (:class:`~tests.wild.submission.Wild`) before any check ran on it.
"""

from tests.wild.averages import AVERAGES
from tests.wild.checkpoints import CHECKPOINTS
from tests.wild.estimators import ESTIMATORS
from tests.wild.freezing import FREEZING
from tests.wild.heads import HEADS
from tests.wild.mistakes_before_training import IN_BUILD, IN_FREEZE
from tests.wild.mistakes_in_training import HOW_IT_TRAINS, WHAT_IT_REPORTS, WHEN_IT_STOPS
from tests.wild.optimizers import OPTIMIZERS
from tests.wild.recipes import RECIPES
from tests.wild.submission import Wild
from tests.wild.trainers import TRAINERS
from tests.wild.tutorials import TUTORIALS

CORRECT = [*FREEZING, *HEADS, *TUTORIALS, *TRAINERS, *ESTIMATORS, *RECIPES, *AVERAGES, *CHECKPOINTS, *OPTIMIZERS]
WRONG = [*IN_FREEZE, *IN_BUILD, *HOW_IT_TRAINS, *WHAT_IT_REPORTS, *WHEN_IT_STOPS]

__all__ = ["CORRECT", "WRONG", "Wild"]
