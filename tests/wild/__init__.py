"""Submissions in the styles of public code: training loops, freezing and head swapping, correct ones and wrong ones.

Each was graded by the contract in writing (:class:`~wild.submission.Wild`) before any check saw it.
"""

from wild.averages import AVERAGES
from wild.checkpoints import CHECKPOINTS
from wild.estimators import ESTIMATORS
from wild.freezing import FREEZING
from wild.heads import HEADS
from wild.mistakes_before_training import IN_BUILD, IN_FREEZE
from wild.mistakes_in_training import HOW_IT_TRAINS, WHAT_IT_REPORTS, WHEN_IT_STOPS
from wild.optimizers import OPTIMIZERS
from wild.recipes import RECIPES
from wild.submission import Wild
from wild.trainers import TRAINERS
from wild.tutorials import TUTORIALS

CORRECT = [*FREEZING, *HEADS, *TUTORIALS, *TRAINERS, *ESTIMATORS, *RECIPES, *AVERAGES, *CHECKPOINTS, *OPTIMIZERS]
WRONG = [*IN_FREEZE, *IN_BUILD, *HOW_IT_TRAINS, *WHAT_IT_REPORTS, *WHEN_IT_STOPS]

__all__ = ["CORRECT", "WRONG", "Wild"]
