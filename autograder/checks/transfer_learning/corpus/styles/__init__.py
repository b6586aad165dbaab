"""Correct solutions, written independently of one another and of the reference, as varied as those of good students.

Each fulfils the contract to the letter and must get full marks: a style that loses points is a false alarm.
"""

from autograder.checks.transfer_learning.corpus.styles.before_training import MODEL_STYLES
from autograder.checks.transfer_learning.corpus.styles.closures import CLOSURE, RECURSIVE
from autograder.checks.transfer_learning.corpus.styles.gradients import FUNCTIONAL, GRADIENTS_BY_HAND
from autograder.checks.transfer_learning.corpus.styles.loops import LISTS_FIRST, SAVED_IN_MEMORY, SMALL_FUNCTIONS
from autograder.checks.transfer_learning.corpus.styles.optimizers import OWN_OPTIMIZER, QUASI_NEWTON, SHARPNESS_AWARE
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.checks.transfer_learning.corpus.styles.schedules import MIXED_PRECISION, ONE_CYCLE, RATES_BY_LAYER
from autograder.checks.transfer_learning.corpus.styles.trainers import TRAIN_OVERRIDDEN, TRAINER_CLASS, TRAINS_A_COPY

TRAINING_STYLES = [
    TRAINER_CLASS,
    FUNCTIONAL,
    GRADIENTS_BY_HAND,
    SAVED_IN_MEMORY,
    OWN_OPTIMIZER,
    ONE_CYCLE,
    RATES_BY_LAYER,
    TRAIN_OVERRIDDEN,
    SMALL_FUNCTIONS,
    TRAINS_A_COPY,
    LISTS_FIRST,
    MIXED_PRECISION,
    CLOSURE,
    RECURSIVE,
    SHARPNESS_AWARE,
    QUASI_NEWTON,
]
STYLES = [*CORRECT, *TRAINING_STYLES, *MODEL_STYLES]
