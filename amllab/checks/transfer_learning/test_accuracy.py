"""Public checks of exercise 4: the three functions together learn the reptiles."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.accuracy import measured, percent

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: all together")


@pytest.mark.points(8)
def test_learns(submission, lab_settings, run_seed):
    """Built and trained with your functions, the model recognises reptiles it has never seen."""
    budget = lab_settings.settings["accuracy"]
    reached = measured(submission, lab_settings, run_seed)
    expect(
        reached >= budget["learned"],
        expected=f"at least {percent(budget['learned'])} of {budget['test_images']} new drawn images after "
        f"{budget['max_epochs']} epochs on {budget['train_images']}, with {budget['n_trainable']} of net12's 12 layers "
        "trainable",
        seen=f"{percent(reached)} (guessing: {percent(0.2)})",
        why="this is what all the parts are for",
    )
