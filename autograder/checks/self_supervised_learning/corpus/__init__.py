"""The corpus of lab 2: correct solutions in many styles, and wrong ones with one mistake each."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe import PROBE_CORRECT, PROBE_WRONG
from autograder.checks.self_supervised_learning.corpus.loss import LOSS_CORRECT, LOSS_WRONG
from autograder.checks.self_supervised_learning.corpus.plain import PLAIN
from autograder.checks.self_supervised_learning.corpus.pretrain import PRETRAIN_CORRECT, PRETRAIN_WRONG

__all__ = ["CORRECT", "DEMO", "PLAIN", "WRONG"]

CORRECT = [*LOSS_CORRECT, *PRETRAIN_CORRECT, *PROBE_CORRECT]
WRONG = [*LOSS_WRONG, *PRETRAIN_WRONG, *PROBE_WRONG]
DEMO = (
    "pretrain_functional",
    "probe_batch_norm_folded",
    "loss_itself_not_masked",
    "pretrain_eval_mode",
    "pretrain_zeroes_before_step",
    "probe_features_shuffled",
)
