"""Probes of lab 3: the questions that checks can ask a submission.

Each probe calls the submission's functions and returns plain data. It observes and does not judge.
"""

from __future__ import annotations

from amllab.checks.meta_learning.accuracy_probes import fit_adapting, fit_encoder, some_episodes
from amllab.checks.meta_learning.episode_probes import episodes
from amllab.checks.meta_learning.maml_probes import adapt, left, printed, query_losses
from amllab.checks.meta_learning.prototype_probes import prototypes

# a check asks for a probe by its name in this module
__all__ = [
    "adapt",
    "episodes",
    "fit_adapting",
    "fit_encoder",
    "left",
    "printed",
    "prototypes",
    "query_losses",
    "some_episodes",
]
