"""Hidden checks of exercise 1: fair draws, the generator, and data sets of all kinds.

A submission that cannot handle some data set loses points for that once: its fairness is then measured on one that it
can handle, if there is any.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.meta_learning import episode_questions as public
from amllab.checks.meta_learning.episode_draws import (
    ENOUGH,
    MANY,
    expect_fair,
    handled,
    ordinary,
    sampled,
    source,
    varied,
)
from amllab.checks.meta_learning.episode_faults import Question, episodes_in, faults
from amllab.checks.meta_learning.episode_questions import (
    IMAGES,
    NO_EPISODE,
    QUERIES,
    SHOT,
    WAY,
    answer,
    read,
    readable,
    seeds,
    shuffled,
)
from amllab.kit.expectations import returns, some, unchanged
from autograder.checks.meta_learning import episode_fairness

pytestmark = pytest.mark.cell("check_sample_episode", section="Exercise 1: an episode")

TINY = [ENOUGH - 1, ENOUGH - 1, ENOUGH - 2, SHOT, SHOT, 1]  # numbers of images that are not enough


@pytest.mark.points(1)
def test_classes_are_equally_likely(submission, run_seed):
    """All classes with enough images are equally likely, however many images they have."""
    question, episodes = sampled(submission, run_seed)
    expect_fair(
        episode_fairness.of_classes(question, episodes),
        question,
        expected=f"{WAY} of {len(episode_fairness.able_classes(question))} classes in each draw, each as likely as another",
        why="a network learns from the classes that it sees, and a score over a part of them says nothing of the others",
    )


@pytest.mark.points(1)
def test_images_are_equally_likely(submission, run_seed):
    """All images of a class are equally likely, in the support and in the query."""
    question, episodes = sampled(submission, run_seed)
    expect_fair(
        episode_fairness.of_images(question, episodes),
        question,
        expected="every image of a class in support and query, each as likely as another",
        why="images that never occur teach nothing, and the same support each time can be learned by heart",
    )


@pytest.mark.points(1)
def test_generator_alone(submission, run_seed, rng):
    """Each draw advances the generator, another state gives another episode, and no other generator is touched."""
    question = ordinary(run_seed)
    several = seeds(rng, 4)
    row = answer(submission, question, several[:1], calls=4)
    start = answer(submission, question, several)
    later = answer(submission, question, several, used=3)
    touched = sorted({name for got in (row, start, later) for name in got["touched"]})
    expect(
        not touched,
        expected="random numbers from `generator` alone; the global generators stay as they are",
        seen=f"used or changed: {some(touched)}",
        why="other parts of a program draw from the global generators, and would get other numbers",
        symptom=f"uses {', '.join(touched)}",
        reproduce=question.call.lines,
    )
    said = {
        "several calls in a row with one generator": zip(episodes_in(row)[:-1], episodes_in(row)[1:], strict=True),
        "generators with different seeds": zip(episodes_in(start)[:-1], episodes_in(start)[1:], strict=True),
        "a new generator and one from which numbers were drawn": zip(
            episodes_in(start), episodes_in(later), strict=True
        ),
    }
    if not readable(row):
        pytest.skip(NO_EPISODE)
    for words, pairs in said.items():
        alike = all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
        expect(
            not alike,
            expected=f"different episodes from {words}",
            seen="the same episode",
            why="a training needs one episode after the other, each a new one",
            symptom=f"the same episode from {words}",
            reproduce=question.call.lines,
        )


@pytest.mark.points(1)
def test_small_classes_are_left_out(submission, run_seed, rng):
    """Classes with fewer than `k_shot + n_query` images are left out, and those with just as many are not."""
    base, in_order = handled(submission, run_seed)
    if in_order:  # labels in random order have cost points already
        return
    # neither the first class nor the last one has just enough images
    inner = [*TINY, ENOUGH, IMAGES, IMAGES + 1, IMAGES + 1]
    rng.shuffle(inner)
    sizes = [IMAGES, *inner, IMAGES]
    setup = "labels = torch.tensor([0] * 7 + [1] * 4 + [2] * 5 + [3] * 7 + [4] * 2 + [5])[torch.randperm(26)]"
    question = Question(shuffled(rng, sizes), WAY, SHOT, QUERIES, setup)
    episodes = read(question, answer(submission, question, seeds(rng, 60)))
    drawn = {c for one in episodes for c in classes_of(question, one)}
    small = sorted(sizes[c] for c in drawn if sizes[c] < ENOUGH)
    expect(
        not small,
        expected=f"classes with at least {ENOUGH} images, for k_shot={SHOT} and n_query={QUERIES}",
        seen=f"a class with {small[-1]} images" if small else "",
        why="a class with too few images has less support or fewer queries than the others, or images in both",
        symptom="draws small classes",
        reproduce=question.call.lines,
    )
    others = {c for c, size in enumerate(sizes) if size > ENOUGH}
    expect(
        sizes.index(ENOUGH) in drawn or others - drawn,
        expected=f"a class with {ENOUGH} images in some of 60 draws, for k_shot={SHOT} and n_query={QUERIES}",
        seen="it was in none",
        why="that many images are enough, and with few images no class can be spared",
        symptom="leaves out classes with just enough images",
        reproduce=question.call.lines,
    )
    expect_no_new_faults(submission, run_seed, base, question, episodes)


def classes_of(question, episode):
    """Return the classes of the images of an episode."""
    index = [i for part in (0, 2) for i in episode[part].tolist() if 0 <= i < len(question.labels)]
    return set(question.labels[index].tolist())


def expect_no_new_faults(submission, run_seed, base, question, episodes):
    """Fail the check if episodes have faults of other kinds than those of ordinary classes, which have cost points."""
    usual = faults(base, read(base, answer(submission, base, seeds(source(run_seed, "seeds")))))
    for kind, (symptom, said) in faults(question, episodes).items():
        expect(
            kind in usual,
            expected="episodes as for any other data set",
            seen=said,
            why="data sets come in any order, with classes of any size, and labels are names that need not be consecutive",
            symptom=symptom,
            reproduce=question.call.lines,
        )


@pytest.mark.points(1)
def test_labels_of_any_kind(submission, run_seed, rng):
    """Works for labels with gaps and classes of unequal sizes, for one class and for all; labels are not changed."""
    base, in_order = handled(submission, run_seed)
    question = varied(run_seed)
    if not in_order:
        got = answer(submission, question, seeds(source(run_seed, "seeds of many draws"), MANY))
        unchanged(
            ["labels"] * got["changed"], question.call, why="the labels belong to the caller, who goes on with them"
        )
        expect_no_new_faults(submission, run_seed, base, question, read(question, got))
    # the sizes of an episode, on a data set that is no problem by itself
    for way, shot, queries in ((1, 1, 1), (2, 1, IMAGES - 2), (2, IMAGES - 2, 1), (public.CLASSES, SHOT, QUERIES)):
        other = Question(base.labels, way, shot, queries, base.setup)
        got = returns(submission.ask("episodes", **other.arguments, seeds=seeds(rng, 5)), other.call)
        unchanged(["labels"] * got["changed"], other.call, why="the labels belong to the caller, who goes on with them")
        expect_no_new_faults(submission, run_seed, base, other, read(other, got))
