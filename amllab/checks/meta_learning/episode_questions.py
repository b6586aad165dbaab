"""Questions about episodes: the data set, the draws, and the answers in the contract's order."""

import pytest
import torch

from amllab.checks.meta_learning.episode_faults import Question, episodes_in, in_order, order_of
from amllab.checks.meta_learning.episode_probes import PARTS
from amllab.kit.expectations import returns

NO_EPISODE = "an episode to look at"
DRAWS = 20
WAY, SHOT, QUERIES = 3, 2, 3
CLASSES, IMAGES = 8, 7  # of the data set; images of each class
SETUP = f"labels = torch.arange({CLASSES}).repeat({IMAGES})"


def shuffled(rng, sizes, values=None):
    """Return labels in random order, int64 ``(n,)``: so many of each class, by default of classes 0, 1, 2 and so on."""
    values = range(len(sizes)) if values is None else values
    labels = [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
    rng.shuffle(labels)
    return torch.tensor(labels)


def usual(rng, *, in_order=False):
    """Return a question about a data set with classes of one size, whose images come in random order, or by class."""
    labels = shuffled(rng, [IMAGES] * CLASSES)
    return Question(labels.sort().values if in_order else labels, WAY, SHOT, QUERIES, SETUP)


def answer(submission, question, seeds, **more):
    """Return the answer to draws with these seeds of the generator; fail the check if one raises an error."""
    return returns(submission.ask("episodes", **question.arguments, seeds=seeds, **more), question.call)


def seeds(rng, number=DRAWS):
    """Return seeds for that many generators."""
    return [rng.getrandbits(62) for _ in range(number)]


def read(question, got):
    """Return the episodes of an answer in the contract's order; skip the check if there is nothing to look at."""
    if not readable(got):
        pytest.skip(NO_EPISODE)
    episodes = episodes_in(got)
    return in_order(episodes, order_of(question, episodes))


def readable(got):
    """Return whether an answer has four entries, the first of which has numbers."""
    return len(got["entries"]) >= len(PARTS) and bool(got["counts"][0, 0])
