"""The means to write solutions of exercise 2: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.failed_checks import note
from autograder.checks.meta_learning.corpus.plain_prototypes import PROTOTYPES
from autograder.labs.corpus import Solution, replaced

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


def of_body(body: str, before: str = "") -> str:
    """Return the source of a function that checks its labels as it should, and then does something else."""
    return f"{before}\n{SIGNATURE}{GUARD}{body.strip(chr(10))}\n"


def changed(name: str, text: str, cost: tuple[float, float], fails: str, *texts: str) -> Solution:
    """Return the plain solution with texts replaced: old, new, old, new, ..."""
    return wrong(name, text, cost, fails, replaced(PROTOTYPES, *texts))


def wrong(name: str, text: str, cost: tuple[float, float], fails: str, source: str) -> Solution:
    """Return a solution with one mistake.

    Args:
        name: Its name, to follow that of the exercise.
        text: The mistake.
        cost: The fewest and the most points that it should cost.
        fails: Names of the checks that do not pass, without ``test_``, separated by spaces; empty if not listed.
        source: The source.
    """
    note(f"prototypes_{name}", fails)
    return Solution(f"prototypes_{name}", {CELL: source}, text, CELL, cost=cost)


def correct(name: str, text: str, source: str) -> Solution:
    """Return a correct solution in a style of its own."""
    return Solution(f"prototypes_{name}", {CELL: source}, text)
