"""Hidden checks of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.accuracy import measured, percent

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


@pytest.mark.points(12)
@pytest.mark.needs("test_learns")
def test_transfers(submission, lab_settings, run_seed):
    """In so few epochs only the pretrained weights can reach this accuracy, and yours carry over."""
    budget = lab_settings.settings["accuracy"]
    reached = measured(submission, lab_settings, run_seed)
    expect(
        reached >= budget["transferred"],
        expected=f"at least {percent(budget['transferred'])} of {budget['test_images']} new drawn images",
        seen=percent(reached),
        why="a network that starts from random weights stays below: what was learned on CIFAR-10 has to arrive",
    )
