"""Solutions of exercise 3, the linear probe."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.linear_probe.correct import CHANGED
from autograder.checks.self_supervised_learning.corpus.linear_probe.correct_encoders import ENCODERS
from autograder.checks.self_supervised_learning.corpus.linear_probe.correct_layers import LAYERS
from autograder.checks.self_supervised_learning.corpus.linear_probe.wrong_encoders import WRONG_ENCODERS
from autograder.checks.self_supervised_learning.corpus.linear_probe.wrong_layers import WRONG_LAYERS
from autograder.checks.self_supervised_learning.corpus.linear_probe.wrong_training import WRONG_TRAINING

__all__ = ["PROBE_CORRECT", "PROBE_WRONG"]

PROBE_CORRECT = [*CHANGED, *ENCODERS, *LAYERS]
PROBE_WRONG = [*WRONG_ENCODERS, *WRONG_TRAINING, *WRONG_LAYERS]
