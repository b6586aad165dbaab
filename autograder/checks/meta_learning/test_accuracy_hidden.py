"""Hidden checks of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning.accuracy_tasks import PrototypeTask, SinusoidTask
from amllab.checks.meta_learning.test_accuracy import episodes_in_words, sinusoids_in_words
from amllab.kit.task import measured, share_of_points, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


def expect_full_points(submission, task, run_seed, *, expected, after, why, symptom):
    """Give a share of the points for a score between both thresholds, and all from the better one on."""
    wanted, reached = thresholds(task), measured(submission, task, run_seed)
    start, full = (task.score.text(wanted[name]) for name in ("start", "full"))
    expect(
        task.score.reaches(reached.best, wanted["full"]),
        expected=f"{expected} {full} {after}",
        seen=f"{reached}; between {start} and {full} there is a part of the points",
        why=why,
        symptom=symptom,
        share=max(0.0, share_of_points(reached.best, wanted)),
    )


@pytest.mark.points(6)
def test_gains_on_new_species(submission, lab_settings, run_seed):
    """What the encoder has learned from episodes carries over to species that it has not seen."""
    task = PrototypeTask(lab_settings)
    expect_full_points(
        submission,
        task,
        run_seed,
        expected="a gain of at least",
        after=f"over the untrained encoder after {episodes_in_words(task.budget)}",
        why="the episodes of the training are there to teach what carries over to other species",
        symptom="too little is gained",
    )


@pytest.mark.points(6)
def test_error_after_one_step(submission, lab_settings, run_seed):
    """One step from the trained weights fits a new sinusoid as well as the second-order gradient allows."""
    task = SinusoidTask(lab_settings)
    expect_full_points(
        submission,
        task,
        run_seed,
        expected="a mean squared error of at most",
        after=f"on new sinusoids, one step after {sinusoids_in_words(task.budget)}",
        why="the gradient has to pass through the step that adapts, with its second derivatives",
        symptom="one step leaves too much error",
    )
