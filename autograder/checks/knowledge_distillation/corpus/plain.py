"""Plain correct functions of lab 4, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.plain_calibration_error import CALIBRATION
from autograder.checks.knowledge_distillation.corpus.plain_distill import DISTILL
from autograder.checks.knowledge_distillation.corpus.plain_loss import LOSS

PLAIN = {"distillation_loss": LOSS, "distill": DISTILL, "calibration_error": CALIBRATION}
