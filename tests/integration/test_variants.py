"""Mistakes cost points in their own cell only, and correct styles lose none: with the real command line.

These are some mistakes of each cell; the mutation study (``autograder study``) checks all of them and many more
without a notebook.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat import NotebookNode

from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from autograder.labs.corpus import Solution
from tests.conftest import ASSIGNMENT, nbgrader, new_course, report, sampled, scores, selected, submit
from tests.helpers.notebooks import notebook_of

pytestmark = [pytest.mark.full_training, pytest.mark.slow]

POINTS = {
    "check_freeze_layers": 20,
    "check_build_transfer_model": 20,
    "check_train_with_early_stopping": 30,
    "check_accuracy": 20,
}


CHOSEN = (
    "off_by_one",
    "not_pretrained",
    "freezes_before_new_head",
    "last_weights",
    "statistics_drift",
    "learning_rate_ignored",
)
VARIANTS = [*CORRECT, *(variant for variant in TYPICAL if variant.name in CHOSEN)]


@pytest.fixture(scope="module")
def graded_class(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, release: NotebookNode
) -> Path:
    course = new_course(tmp_path_factory.mktemp("course"))
    with (course / "nbgrader_config.py").open("a") as config:
        config.write("c.GradeChecks.jobs = 2\n")
    for variant in selected(request, "variant"):
        submit(course, variant.name, notebook_of(variant, release))
    submit(course, "untouched", release)
    done = nbgrader(course, "autograde", ASSIGNMENT, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-4000:]
    return course


@pytest.mark.parametrize("variant", sampled(VARIANTS, 10), ids=lambda variant: variant.name)
def test_variant_points_lost_per_cell(graded_class: Path, variant: Solution) -> None:
    """A mistake costs points in its own cell only."""
    got = scores(graded_class, variant.name)
    lost = {cell for cell, points in POINTS.items() if got[cell] < points}
    reports = "\n\n".join(report(graded_class, variant.name, cell) for cell in lost | variant.loses)
    assert lost == variant.loses, reports
    assert all("! " not in report(graded_class, variant.name, cell) for cell in POINTS), "a check itself broke"


def test_release_untouched_scores_zero(graded_class: Path) -> None:
    """The untouched release gets no points."""
    assert set(scores(graded_class, "untouched").values()) == {0}


def test_reflection_awaits_manual_score(graded_class: Path) -> None:
    """The reflection gets no automatic score."""
    assert scores(graded_class, "plain")["reflection"] is None
