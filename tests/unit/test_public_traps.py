"""The traps that the notebooks' texts stress: the public checks of the exercise find them, without any hidden check."""

from __future__ import annotations

import pytest

from amllab.checks.runner import run_checks
from amllab.lab import find_lab
from autograder.course import Course
from autograder.labs.corpus import corpus_of
from tests.conftest import ROOT, sampled
from tests.helpers.labs import submission

# lab, exercise, wrong solution of the corpus -> the public check that it fails
TRAPS = {
    ("transfer_learning", "train_with_early_stopping", "best_by_reference"): "test_ends_with_the_best_epoch",
    ("transfer_learning", "train_with_early_stopping", "statistics_drift"): "test_frozen_layers_stay",
    ("meta_learning", "sample_episode", "episode_labels_in_order_of_class"): "test_new_labels_are_random",
    ("self_supervised_learning", "linear_probe", "probe_one_mode_for_all"): "test_modes_come_back",
    ("transfer_learning", "freeze_layers", "slice_from_the_end"): "test_all_and_none",
}


@pytest.mark.parametrize("trap", sampled(list(TRAPS), 4), ids="-".join)
def test_public_checks_find_traps(trap: tuple[str, str, str]) -> None:
    """A student who falls for the trap sees it in the panel: this check fails, and no other."""
    name, exercise, mistake = trap
    lab = find_lab(name)
    (wrong,) = (solution for solution in corpus_of(lab).wrong if solution.name == mistake)
    asked = submission(Course.find(ROOT), lab, **wrong.sources)
    results = run_checks(lab, [lab.folder / f"test_{exercise}.py"], asked, seed=7)
    assert [result.name for result in results if result.outcome != "passed"] == [TRAPS[trap]]
