"""Hidden check of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning.accuracy_task import PretrainingTask
from amllab.kit.task import measured, share_of_points, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


@pytest.mark.points(12)
def test_gains(submission, lab_settings, run_seed):
    """What the encoder has learned from views carries over to new images and to their species."""
    task = PretrainingTask(lab_settings)
    wanted, reached = thresholds(task), measured(submission, task, run_seed)
    expect(
        task.score.reaches(reached.best, wanted["full"]),
        expected=f"a gain of at least {task.score.text(wanted['full'])} over the untrained encoder after "
        f"{task.budget_in_words}",
        seen=f"{reached}; between {task.score.text(wanted['start'])} and {task.score.text(wanted['full'])} there is a "
        "part of the points",
        why="two views of one image have to come together, and those of different images have to part",
        symptom="too little is gained",
        share=max(0.0, share_of_points(reached.best, wanted)),
    )
