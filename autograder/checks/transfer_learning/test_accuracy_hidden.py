"""Hidden checks of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.accuracy_task import TransferTask
from amllab.checks.transfer_learning.test_accuracy import budget_in_words
from amllab.kit.accuracy import percent
from amllab.kit.task import measured, share_of_points, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


@pytest.mark.points(12)
@pytest.mark.needs("test_learns")
def test_transfers(submission, lab_settings, run_seed):
    """In so few epochs only the pretrained weights can reach this accuracy, and yours carry over."""
    task = TransferTask(lab_settings)
    budget, wanted = task.budget, thresholds(task)
    reached = measured(submission, task, run_seed)
    learned = "on CIFAR-10" if budget["backbone"] in ("net6", "net12") else f"by {budget['backbone']}"
    expect(
        reached.best >= wanted["full"],
        expected=f"at least {percent(wanted['full'])} of {budget['test_images']} new images after {budget_in_words(budget)}",
        seen=f"{reached}; between {percent(wanted['start'])} and {percent(wanted['full'])} there is a part of the points",
        why=f"a network that starts from random weights stays below: what was learned {learned} has to arrive",
        symptom="too little carries over",
        share=share_of_points(reached.best, wanted),
    )
