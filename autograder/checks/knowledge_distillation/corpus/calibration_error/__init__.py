"""Solutions of exercise 3, the calibration error."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.calibration_error.correct import CALIBRATION_CORRECT
from autograder.checks.knowledge_distillation.corpus.calibration_error.wrong_elsewhere import ELSEWHERE
from autograder.checks.knowledge_distillation.corpus.calibration_error.wrong_values import VALUES

__all__ = ["CALIBRATION_CORRECT", "CALIBRATION_WRONG"]

CALIBRATION_WRONG = [*VALUES, *ELSEWHERE]
