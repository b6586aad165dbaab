"""The corpus of lab 2: correct solutions in many styles, and wrong ones with one mistake each."""

from __future__ import annotations

from dataclasses import replace

from autograder.checks.self_supervised_learning.corpus.linear_probe import PROBE_CORRECT, PROBE_WRONG
from autograder.checks.self_supervised_learning.corpus.loss import LOSS_CORRECT, LOSS_WRONG
from autograder.checks.self_supervised_learning.corpus.plain import PLAIN
from autograder.checks.self_supervised_learning.corpus.pretrain import PRETRAIN_CORRECT, PRETRAIN_WRONG

__all__ = ["CORRECT", "DEMO", "PLAIN", "WRONG"]

# with this mistake nothing is learned, so that the audit sees both checks of the accuracy fail
_NEVER_STEPS = {
    "test_encoder_learns",
    "test_projector_learns",
    "test_losses",
    "test_gradients_of_both_views",
    "test_steps",
    "test_temperature_and_defaults",
    "test_learns",
    "test_gains",
}
CORRECT = [*LOSS_CORRECT, *PRETRAIN_CORRECT, *PROBE_CORRECT]
WRONG = [
    replace(wrong, fails=frozenset(_NEVER_STEPS)) if wrong.name == "pretrain_never_steps" else wrong
    for wrong in (*LOSS_WRONG, *PRETRAIN_WRONG, *PROBE_WRONG)
]
DEMO = (
    "pretrain_functional",
    "probe_batch_norm_folded",
    "loss_itself_not_masked",
    "pretrain_eval_mode",
    "pretrain_zeroes_before_step",
    "probe_features_shuffled",
)
