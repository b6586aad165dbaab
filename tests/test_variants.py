"""Mistakes cost points in their cell and nowhere else; correct styles lose none: over the real command line.

A choice of the mistakes, some of each cell: all of them, and many more, are checked without a notebook in ``test_fairness.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ASSIGNMENT, nbgrader, new_course, report, scores, submit
from nbformat import NotebookNode
from variants import CORRECT, WRONG, Variant, notebook_of

POINTS = {
    "check_freeze_layers": 20,
    "check_build_transfer_model": 20,
    "check_train_with_early_stopping": 30,
    "check_accuracy": 20,
}


CHOSEN = (
    "off_by_one",
    "returns_nothing",
    "misses_root_parameters",
    "old_head_kept_for_ten_classes",
    "not_pretrained",
    "one_model_for_all",
    "freezes_before_new_head",
    "patience_one_too_many",
    "last_weights",
    "means_over_batches",
    "gradients_pile_up",
    "tensors_in_history",
    "statistics_drift",
    "learning_rate_ignored",
)
VARIANTS = [*CORRECT, *(variant for variant in WRONG if variant.name in CHOSEN)]


@pytest.fixture(scope="module")
def graded_class(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> dict[str, Path]:
    """Course of each student. Two courses are graded side by side, one thread each: faster than one with two."""
    submissions = {variant.name: notebook_of(variant, release) for variant in VARIANTS} | {"untouched": release}
    names = sorted(submissions)
    courses = {new_course(tmp_path_factory.mktemp("course")): half for half in (names[::2], names[1::2])}
    for course, students in courses.items():
        for student in students:
            submit(course, student, submissions[student])
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda course: nbgrader(course, "autograde", ASSIGNMENT, OMP_NUM_THREADS="1"), courses):
            assert done.returncode == 0, done.stderr[-4000:]
    return {student: course for course, students in courses.items() for student in students}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_points_are_lost_where_the_mistake_is(graded_class: dict[str, Path], variant: Variant) -> None:
    got = scores(graded_class[variant.name], variant.name)
    lost = {cell for cell, points in POINTS.items() if got[cell] < points}
    reports = "\n\n".join(report(graded_class[variant.name], variant.name, cell) for cell in lost | variant.loses)
    assert lost == variant.loses, reports
    assert all("! " not in report(graded_class[variant.name], variant.name, cell) for cell in POINTS), (
        "a check itself broke"
    )


def test_the_untouched_release_scores_zero(graded_class: dict[str, Path]) -> None:
    assert set(scores(graded_class["untouched"], "untouched").values()) == {0}


def test_the_reflection_waits_for_a_person(graded_class: dict[str, Path]) -> None:
    assert scores(graded_class["plain"], "plain")["reflection"] is None
