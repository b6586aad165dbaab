"""Solutions of exercise 1, the sampling of an episode."""

from __future__ import annotations

from autograder.checks.meta_learning.corpus.episode.correct import EPISODE_CORRECT
from autograder.checks.meta_learning.corpus.episode.wrong_draws import DRAWS
from autograder.checks.meta_learning.corpus.episode.wrong_elsewhere import ELSEWHERE

__all__ = ["EPISODE_CORRECT", "EPISODE_WRONG"]

EPISODE_WRONG = [*DRAWS, *ELSEWHERE]
