"""Probes of lab 4: the questions that checks can ask a submission.

Each probe calls the submission's functions and returns plain data. It observes and does not judge.
"""

from __future__ import annotations

from amllab.checks.knowledge_distillation.accuracy_probes import fit
from amllab.checks.knowledge_distillation.distill_probes import distilled_watermarks
from amllab.checks.knowledge_distillation.ece_probes import calibration_error
from amllab.checks.knowledge_distillation.loss_probes import loss, loss_slopes, printed

# a check asks for a probe by its name in this module
__all__ = ["calibration_error", "distilled_watermarks", "fit", "loss", "loss_slopes", "printed"]
