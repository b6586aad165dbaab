"""Public checks of exercise 4: what the functions are worth on new species and new sinusoids."""

import pytest

from amllab.checks import expect
from amllab.checks.meta_learning.accuracy_tasks import PrototypeTask, SinusoidTask
from amllab.kit.task import measured, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


def episodes_in_words(budget):
    """Describe the training with episodes."""
    return f"{budget['steps']} episodes with images of {budget['species']} species"


def sinusoids_in_words(budget):
    """Describe the training on sinusoids."""
    return f"{budget['steps']} steps with {budget['tasks']} sinusoids each"


@pytest.mark.points(4)
def test_learns_from_episodes(submission, lab_settings, run_seed):
    """Trained with your episodes and your loss, an encoder tells new species apart better than an untrained one."""
    task = PrototypeTask(lab_settings)
    start, reached = thresholds(task)["start"], measured(submission, task, run_seed)
    expect(
        task.score.beats(reached.best, start),
        expected=f"a gain of more than {task.score.text(start)} over the untrained encoder after "
        f"{episodes_in_words(task.budget)}",
        seen=str(reached),
        why="images of one species have to become more similar than images of different species",
        symptom="no better than untrained",
    )


@pytest.mark.points(4)
def test_learns_to_adapt(submission, lab_settings, run_seed):
    """Trained through your `maml_adapt`, a network adapts to new sinusoids in one step."""
    task = SinusoidTask(lab_settings)
    start, reached = thresholds(task)["start"], measured(submission, task, run_seed)
    expect(
        task.score.beats(reached.best, start),
        expected=f"a mean squared error below {task.score.text(start)} on new sinusoids, one step after "
        f"{sinusoids_in_words(task.budget)}",
        seen=str(reached),
        why="the weights have to become a good start for one step, which takes the gradient through that step",
        symptom="one step helps too little",
    )
