"""The means to write solutions of exercise 1: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.plain_episode import EPISODE
from autograder.labs.exercise import Exercise

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

EXERCISE = Exercise("episode", CELL, EPISODE, SIGNATURE + GUARD)
of_body, changed, wrong, correct = EXERCISE.of_body, EXERCISE.changed, EXERCISE.wrong, EXERCISE.correct
