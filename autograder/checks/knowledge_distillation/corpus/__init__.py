"""The corpus of lab 4: correct solutions in many styles, and wrong ones with one mistake each."""

from __future__ import annotations

from dataclasses import replace

from autograder.checks.knowledge_distillation.corpus.calibration_error import CALIBRATION_CORRECT, CALIBRATION_WRONG
from autograder.checks.knowledge_distillation.corpus.distill import DISTILL_CORRECT, DISTILL_WRONG
from autograder.checks.knowledge_distillation.corpus.loss import LOSS_CORRECT, LOSS_WRONG
from autograder.checks.knowledge_distillation.corpus.plain import PLAIN

__all__ = ["CORRECT", "DEMO", "PLAIN", "WRONG"]

CORRECT = [*LOSS_CORRECT, *DISTILL_CORRECT, *CALIBRATION_CORRECT]
# with this mistake nothing is learned, so that the audit sees each check of the accuracy fail
_WITHOUT_EFFECT = {"distill_never_steps": {"test_learns_from_the_teacher", "test_knows_new_images"}}
WRONG = [
    replace(wrong, fails=(wrong.recorded or frozenset()) | _WITHOUT_EFFECT[wrong.name])
    if wrong.name in _WITHOUT_EFFECT
    else wrong
    for wrong in (*LOSS_WRONG, *DISTILL_WRONG, *CALIBRATION_WRONG)
]
DEMO = (
    "loss_log_target",
    "distill_copied_teacher",
    "loss_mean_reduction",
    "distill_teacher_in_train_mode",
    "calibration_mean_over_filled_bins",
    "distill_never_steps",
)
