"""A training with frozen layers: what it leaves as it was, and what learns."""

import torch

from amllab.checks.transfer_learning.distinct_gradients import steps_run
from amllab.checks.transfer_learning.training_runs import plain_answer, wait_for_history
from amllab.protocol.submission import SubmissionError

IDEA_2 = "Exercise 3, Idea 2: a frozen layer must come out as it went in"
HINT_4 = "Exercise 3, Hint 4: BatchNorm of frozen layers"


def _statistics_of_trainable(layers, trainable, state):
    """Return the names of the BatchNorm statistics in those layers that are trainable as a whole."""
    whole = (layer for layer in layers if set(layer) <= set(trainable))
    names = {name.rpartition(".")[0] for layer in whole for name in layer}
    return [name for name in state if "running" in name and name.rpartition(".")[0] in names]


def _train_frozen(submission, **arguments):
    """Return the answer of the probe ``train_frozen``; skip the check if every training raises an error."""
    try:
        return submission.ask("train_frozen", **arguments)
    except SubmissionError as error:
        if error.kind == "raised" and "error" in plain_answer(submission):
            wait_for_history()
        raise


def _by_one_factor(pairs):
    """Return whether tensors are the old ones, all multiplied by the same factor below 1."""
    pairs = [
        (before, after) for before, after in pairs if after is not None and before.shape == after.shape and before.any()
    ]
    factors = torch.cat(
        [(after / before)[before != 0].flatten().double() for before, after in pairs] or [torch.ones(1)]
    )
    return bool(factors.max() < 1 and factors.max() - factors.min() < 1e-3)


def _learns(submission, rng):
    """Return whether the weight of the scripted model moves."""
    return any(map(any, steps_run(submission, rng).journal.moved().values()))
