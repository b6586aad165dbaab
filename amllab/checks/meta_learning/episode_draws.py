"""Many draws of a submission, to count what occurs in them.

A submission that cannot handle some data set loses points for that once: its draws are then those from one that it can
handle, if there is any.
"""

import random

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning import episode_fairness
from amllab.checks.meta_learning import episode_questions as public
from amllab.checks.meta_learning.episode_faults import Question, of_classes
from amllab.checks.meta_learning.episode_questions import (
    IMAGES,
    QUERIES,
    SHOT,
    WAY,
    answer,
    read,
    readable,
    seeds,
    shuffled,
)
from amllab.seeds import derive

MANY = 400  # draws in which classes, labels and images are counted
ENOUGH = SHOT + QUERIES
NO_CLASSES = "episodes whose images are those of classes"


def source(run_seed, purpose):
    """Return a generator of random numbers for data sets that several checks share."""
    return random.Random(derive(run_seed, f"{purpose} of sample_episode"))


def ordinary(run_seed, *, in_order=False):
    """Return a question about classes of one size, the same in all checks of a run."""
    return public.usual(source(run_seed, "labels"), in_order=in_order)


def varied(run_seed):
    """Return a question about labels with gaps, in random order: one class is large, and one small."""
    rng = source(run_seed, "labels with gaps")
    # neither the first class nor the last one is of another size
    inner = [IMAGES] * 4 + [70, ENOUGH + 1]
    rng.shuffle(inner)
    sizes = [IMAGES, *inner, IMAGES]
    values = sorted(rng.sample(range(10, 60), len(sizes)))
    setup = "labels = torch.tensor([10] * 7 + [15] * 70 + [12] * 6 + [40] * 7)[torch.randperm(90)]"
    return Question(shuffled(rng, sizes, values), WAY, SHOT, QUERIES, setup)


def about_classes(question, got):
    """Return whether an answer has episodes that have to do with classes."""
    return "error" not in got and readable(got) and of_classes(question, read(question, got))


def handled(submission, run_seed):
    """Return the question about equal classes that a submission handles: in random order, or by class; else skip."""
    for in_order in (False, True):
        question = ordinary(run_seed, in_order=in_order)
        got = submission.ask("episodes", **question.arguments, seeds=seeds(source(run_seed, "seeds")))
        if about_classes(question, got):
            return question, in_order
    pytest.skip(NO_CLASSES)


def sampled(submission, run_seed):
    """Return a question and its episodes in many draws: about varied labels, if the submission handles these."""
    question, in_order = handled(submission, run_seed)
    drawn = seeds(source(run_seed, "seeds of many draws"), MANY)
    if not in_order:
        other = varied(run_seed)
        got = submission.ask("episodes", **other.arguments, seeds=drawn)
        if about_classes(other, got):
            return other, read(other, got)
    return question, read(question, answer(submission, question, drawn))


def expect_fair(counts, question, *, expected, why):
    """Fail the check if a count is not what a fair draw gives."""
    count = episode_fairness.unfair(counts)
    expect(
        count is None,
        expected=expected,
        seen=str(count),
        why=why,
        symptom=count.symptom if count else "",
        reproduce=question.call.lines,
    )
