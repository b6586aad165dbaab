"""Public checks of exercise 4: the functions together learn from images without labels."""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning.accuracy_task import PretrainingTask
from amllab.kit.task import measured, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


@pytest.mark.points(8)
def test_learns(submission, lab_settings, run_seed):
    """Pretrained with your functions, an encoder tells new images apart better than an untrained one."""
    task = PretrainingTask(lab_settings)
    start, reached = thresholds(task)["start"], measured(submission, task, run_seed)
    expect(
        task.score.beats(reached.best, start),
        expected=f"a gain of more than {task.score.text(start)} over the untrained encoder after "
        f"{task.budget_in_words}",
        seen=str(reached),
        why="views of one image, and images of one species, have to become more similar than others",
        symptom="no better than untrained",
    )
