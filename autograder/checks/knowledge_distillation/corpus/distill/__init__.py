"""Solutions of exercise 2, the distillation."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.distill.correct import CORRECT
from autograder.checks.knowledge_distillation.corpus.distill.more_correct import MORE_CORRECT
from autograder.checks.knowledge_distillation.corpus.distill.optimizers import OPTIMIZERS
from autograder.checks.knowledge_distillation.corpus.distill.own_losses import OWN_LOSSES, WRONG_OWN_LOSSES
from autograder.checks.knowledge_distillation.corpus.distill.wrong_students import WRONG_STUDENTS
from autograder.checks.knowledge_distillation.corpus.distill.wrong_teachers import WRONG_TEACHERS

__all__ = ["DISTILL_CORRECT", "DISTILL_WRONG"]

DISTILL_CORRECT = [*CORRECT, *MORE_CORRECT, *OPTIMIZERS, *OWN_LOSSES]
DISTILL_WRONG = [*WRONG_TEACHERS, *WRONG_STUDENTS, *WRONG_OWN_LOSSES]
