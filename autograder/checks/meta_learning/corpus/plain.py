"""Plain correct functions of lab 3, which the wrong solutions of the corpus change in one place each."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.plain_episode import EPISODE
from autograder.checks.meta_learning.corpus.plain_maml import MAML
from autograder.checks.meta_learning.corpus.plain_prototypes import PROTOTYPES

PLAIN = {"sample_episode": EPISODE, "prototypical_loss": PROTOTYPES, "maml_adapt": MAML}
