"""The corpus of exercise 2, ``pretrain``: correct styles, and wrong solutions with one mistake each."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.pretrain.loops import LOOPS
from autograder.checks.self_supervised_learning.corpus.pretrain.mistakes_in_results import IN_RESULTS
from autograder.checks.self_supervised_learning.corpus.pretrain.mistakes_in_training import IN_TRAINING
from autograder.checks.self_supervised_learning.corpus.pretrain.mistakes_in_views import IN_VIEWS
from autograder.checks.self_supervised_learning.corpus.pretrain.optimizers import OPTIMIZERS
from autograder.checks.self_supervised_learning.corpus.pretrain.own_losses import OWN_LOSSES, WRONG_OWN_LOSSES

__all__ = ["PRETRAIN_CORRECT", "PRETRAIN_WRONG"]

PRETRAIN_CORRECT = [*LOOPS, *OPTIMIZERS, *OWN_LOSSES]
PRETRAIN_WRONG = [*IN_VIEWS, *IN_TRAINING, *IN_RESULTS, *WRONG_OWN_LOSSES]
