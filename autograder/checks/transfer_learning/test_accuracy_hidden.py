"""Hidden checks of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.test_accuracy import accuracy, fit, percent

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


@pytest.mark.points(12)
@pytest.mark.needs("test_learns")
def test_transfers(submission, lab_settings, run_seed):
    """In so few epochs only the pretrained weights can reach this accuracy, and yours carry over."""
    budget = lab_settings.settings["accuracy"]
    answer, labels = fit(submission, lab_settings, run_seed)
    reached = accuracy(answer["test_logits"], labels[2])
    expect(
        reached >= budget["transferred"],
        expected=f"at least {percent(budget['transferred'])} of {len(labels[2])} new drawn images",
        seen=percent(reached),
        why="a network that starts from random weights stays below: what was learned on CIFAR-10 has to arrive",
    )
