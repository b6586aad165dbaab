"""The means to write solutions of exercise 1: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.failed_checks import note
from autograder.checks.meta_learning.corpus.plain_episode import EPISODE
from autograder.labs.corpus import Solution, replaced

CELL = "sample_episode"
SIGNATURE = "def sample_episode(labels, n_way, k_shot, n_query, generator):\n"
GUARD = """\
    if min(n_way, k_shot, n_query) < 1:
        raise ValueError("all numbers must be positive")
"""
GUARD_OF_CLASSES = """\
    if len(able) < n_way:
        raise ValueError("too few classes")
"""

# texts of the plain function
CLASSES = "able[torch.randperm(len(able), generator=generator)[:n_way]]"
SHUFFLE = "        images = images[torch.randperm(len(images), generator=generator)]\n"
SUPPORT = "images[:k_shot]"
QUERY = "images[k_shot : k_shot + n_query]"
SUPPORT_LABELS = "torch.arange(n_way).repeat_interleave(k_shot)"
QUERY_LABELS = "torch.arange(n_way).repeat_interleave(n_query)"
RETURN = "return torch.cat(support), support_labels, torch.cat(query), query_labels"
NUMBERS = (
    "    if n_way < 1 or k_shot < 1 or n_query < 1:\n"
    '        raise ValueError("n_way, k_shot and n_query must be at least 1")\n'
)
TOO_FEW = '    if len(able) < n_way:\n        raise ValueError("too few classes have enough images")\n'


def of_body(body: str, before: str = "") -> str:
    """Return the source of a function that refuses numbers below 1, and then does something else."""
    return f"{before}\n{SIGNATURE}{GUARD}{body.strip(chr(10))}\n"


def changed(name: str, text: str, cost: tuple[float, float], fails: str, *texts: str) -> Solution:
    """Return the plain solution with texts replaced: old, new, old, new, ..."""
    return wrong(name, text, cost, fails, replaced(EPISODE, *texts))


def wrong(name: str, text: str, cost: tuple[float, float], fails: str, source: str) -> Solution:
    """Return a solution with one mistake.

    Args:
        name: Its name, to follow that of the exercise.
        text: The mistake.
        cost: The fewest and the most points that it should cost.
        fails: Names of the checks that do not pass, without ``test_``, separated by spaces; empty if not listed.
        source: The source.
    """
    note(f"episode_{name}", fails)
    return Solution(f"episode_{name}", {CELL: source}, text, CELL, cost=cost)


def correct(name: str, text: str, source: str) -> Solution:
    """Return a correct solution in a style of its own."""
    return Solution(f"episode_{name}", {CELL: source}, text)
