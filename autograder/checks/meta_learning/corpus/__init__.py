"""The corpus of lab 3: correct solutions in many styles, and wrong ones with one mistake each."""

from __future__ import annotations

from dataclasses import replace

from autograder.checks.meta_learning.corpus.episode import EPISODE_CORRECT, EPISODE_WRONG
from autograder.checks.meta_learning.corpus.maml import MAML_CORRECT, MAML_WRONG
from autograder.checks.meta_learning.corpus.plain import PLAIN
from autograder.checks.meta_learning.corpus.prototypes import PROTOTYPE_CORRECT, PROTOTYPE_WRONG

__all__ = ["CORRECT", "DEMO", "PLAIN", "WRONG"]

CORRECT = [*EPISODE_CORRECT, *PROTOTYPE_CORRECT, *MAML_CORRECT]
# with these mistakes nothing is learned, so that the audit sees each check of the accuracy fail
_WITHOUT_EFFECT = {
    "prototypes_wrong_axis": {"test_learns_from_episodes", "test_gains_on_new_species"},
    "maml_ascent": {"test_learns_to_adapt", "test_error_after_one_step"},
}
WRONG = [
    replace(wrong, fails=(wrong.recorded or frozenset()) | _WITHOUT_EFFECT[wrong.name])
    if wrong.name in _WITHOUT_EFFECT
    else wrong
    for wrong in (*EPISODE_WRONG, *PROTOTYPE_WRONG, *MAML_WRONG)
]
DEMO = (
    "prototypes_linear_classifier",
    "maml_func_grad",
    "episode_query_labels_repeated",
    "prototypes_wrong_axis",
    "maml_create_graph_missing",
    "maml_detached_at_the_end",
)
