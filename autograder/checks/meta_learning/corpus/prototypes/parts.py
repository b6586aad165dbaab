"""The means to write solutions of exercise 2: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.plain_prototypes import PROTOTYPES
from autograder.labs.exercise import Exercise

CELL = "prototypical_loss"
SIGNATURE = "def prototypical_loss(support, support_labels, query, query_labels):\n"
GUARD = """\
    if not torch.isin(query_labels, support_labels).all():
        raise ValueError("every query label needs support")
"""

# texts of the plain function
CHECK = (
    "    if not set(query_labels.tolist()) <= set(support_labels.tolist()):\n"
    '        raise ValueError("a query label without support")\n'
)
WAY = "int(support_labels.max()) + 1"
MEANS = "torch.stack([support[support_labels == label].mean(dim=0) for label in range(n_way)])"
LOGITS = "-difference.square().sum(dim=2)"
LOSS = "F.cross_entropy(logits, query_labels)"
RETURN = f"return {LOSS}, logits"

# checks that do not pass if all values are wrong, and if the logits or the loss alone are
IN_LOGITS = "logits_at_known_distances logits_of_random_embeddings"
IN_LOSS = "loss_at_known_distances loss_of_random_embeddings"
IN_VALUES = f"{IN_LOGITS} {IN_LOSS}"
IN_RANDOM = "logits_of_random_embeddings loss_of_random_embeddings"

EXERCISE = Exercise("prototypes", CELL, PROTOTYPES, SIGNATURE + GUARD)
of_body, changed, wrong, correct = EXERCISE.of_body, EXERCISE.changed, EXERCISE.wrong, EXERCISE.correct
