"""Public checks of exercise 4: the three functions together learn new classes."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.accuracy_task import TransferTask
from amllab.kit.accuracy import percent
from amllab.kit.task import measured, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


def budget_in_words(budget):
    """Describe what a submission may use to reach an accuracy."""
    return (
        f"{budget['max_epochs']} epochs on {budget['train_images']} images, {budget['n_trainable']} of "
        f"{budget['backbone']}'s layers trainable"
    )


@pytest.mark.points(8)
def test_learns(submission, lab_settings, run_seed):
    """Built and trained with your functions, the model recognises images it has never seen."""
    task = TransferTask(lab_settings)
    budget, start = task.budget, thresholds(task)["start"]
    reached = measured(submission, task, run_seed)
    expect(
        reached.best > start,
        expected=f"more than {percent(start)} of {budget['test_images']} new images after {budget_in_words(budget)}",
        seen=f"{reached} (guessing: {percent(1 / task.classes)})",
        why="this is what all the parts are for",
        symptom="no better than guessing",
    )
