"""Submissions in the styles of public code: training loops, freezing and head swapping, correct ones and wrong ones.

Each was graded in writing by the contract before any check ran on it.
"""

from autograder.checks.transfer_learning.corpus.public.averages import AVERAGES
from autograder.checks.transfer_learning.corpus.public.checkpoints import CHECKPOINTS
from autograder.checks.transfer_learning.corpus.public.estimators import ESTIMATORS
from autograder.checks.transfer_learning.corpus.public.freezing import FREEZING
from autograder.checks.transfer_learning.corpus.public.heads import HEADS
from autograder.checks.transfer_learning.corpus.public.mistakes_before_training import IN_BUILD, IN_FREEZE
from autograder.checks.transfer_learning.corpus.public.mistakes_in_training import (
    HOW_IT_TRAINS,
    WHAT_IT_REPORTS,
    WHEN_IT_STOPS,
)
from autograder.checks.transfer_learning.corpus.public.optimizers import OPTIMIZERS
from autograder.checks.transfer_learning.corpus.public.recipes import RECIPES
from autograder.checks.transfer_learning.corpus.public.trainers import TRAINERS
from autograder.checks.transfer_learning.corpus.public.tutorials import TUTORIALS

PUBLIC_CORRECT = [*FREEZING, *HEADS, *TUTORIALS, *TRAINERS, *ESTIMATORS, *RECIPES, *AVERAGES, *CHECKPOINTS, *OPTIMIZERS]
PUBLIC_WRONG = [*IN_FREEZE, *IN_BUILD, *HOW_IT_TRAINS, *WHAT_IT_REPORTS, *WHEN_IT_STOPS]
