"""Probes of lab 2: the questions that checks can ask a submission.

Each probe calls the submission's functions and returns plain data. It observes and does not judge.
"""

from __future__ import annotations

from amllab.checks.self_supervised_learning.accuracy_probes import fit
from amllab.checks.self_supervised_learning.loss_probes import loss, printed
from amllab.checks.self_supervised_learning.pretrain_probes import pretrained_watermarks
from amllab.checks.self_supervised_learning.probe_probes import probed

# a check asks for a probe by its name in this module
__all__ = ["fit", "loss", "pretrained_watermarks", "printed", "probed"]
