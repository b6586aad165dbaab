"""Common mistakes lose points in their own cell, correct styles lose none, and the page reports the study's results.

The study itself, with generated mutants and many seeds, is ``autograder study``.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch

from autograder.authoring.study.checker import Checker, Verdict
from autograder.authoring.study.operators import mutants
from autograder.authoring.study.rows import Row
from autograder.authoring.study.study import MutationStudy
from autograder.authoring.study.subjects import BY_PEOPLE, change
from autograder.checks.transfer_learning.corpus import MISTAKES, PLAIN
from autograder.checks.transfer_learning.corpus.public import PUBLIC_CORRECT, PUBLIC_WRONG
from autograder.checks.transfer_learning.corpus.styles import TRAINING_STYLES
from autograder.checks.transfer_learning.corpus.styles.before_training import MODEL_STYLES
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.course import Course
from autograder.labs.corpus import Solution
from autograder.labs.study import checks_digest, command
from tests.conftest import ROOT, examples, sampled

SEED = 7


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Use one thread: submissions run in forked processes, which need no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def study() -> MutationStudy:
    return MutationStudy(Course.find(ROOT), "transfer-learning")


@cache
def checker(*exercises: str) -> Checker:
    return Checker(study().materials, SEED, exercises or None, correct=[PLAIN])


@cache
def verdict(exercise: str, source: str) -> Verdict:
    return checker().verdict({**PLAIN, exercise: source})


@pytest.mark.parametrize(
    "mistake",
    sampled([m for m in MISTAKES if (m.name,) not in study().materials.corpus.equivalent], 384),
    ids=lambda mistake: mistake.name,
)
def test_mistake_costs_points_in_its_cell(mistake: Solution) -> None:
    """A mistake loses points in its cell and in no other."""
    found = verdict(mistake.cell, mistake.sources[mistake.cell])
    assert found.lost.keys() == {f"check_{mistake.cell}"}, found
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize(
    "style", sampled([*CORRECT, *TRAINING_STYLES, *MODEL_STYLES], 32), ids=lambda style: style.name
)
def test_correct_style_full_marks(style: Solution) -> None:
    """Correct styles lose no points."""
    found = checker().verdict({**PLAIN, **style.sources})
    assert not found.lost, found.failed
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize("submission", sampled(PUBLIC_CORRECT, 96), ids=lambda submission: submission.name)
def test_correct_public_code_full_marks(submission: Solution) -> None:
    """Correct public code loses no points."""
    found = checker().verdict({**PLAIN, **submission.sources})
    assert not found.lost, found.failed
    assert not found.broken
    assert not found.ended


# these cost a point or two less than recorded for them
CHEAPER = {
    "counts_only_clear_losses",
    "loss_of_the_last_validation_batch",
    "only_if_classes_differ",
    "skips_small_batches",
    "stopper_off_by_one",
    "stopper_without_the_end",
    "wrapped_with_a_new_head",
}


@pytest.mark.parametrize("submission", sampled(PUBLIC_WRONG, 128), ids=lambda submission: submission.name)
def test_public_mistake_costs_as_recorded(submission: Solution) -> None:
    """A mistake in public code costs what was recorded for it before grading."""
    found = checker().verdict({**PLAIN, **submission.sources})
    assert found.lost.keys() == {f"check_{submission.cell}"}, found
    (points,) = found.lost.values()
    assert points <= submission.cost[1], found
    assert (points < submission.cost[0]) == (submission.name in CHEAPER), found
    assert not found.ended


def test_public_code_is_labelled() -> None:
    """All public code has a unique name, and every wrong sample an exercise, a reason and a cost."""
    assert len(PUBLIC_CORRECT) >= 60
    assert len(PUBLIC_WRONG) >= 40
    assert len({w.name for w in (*PUBLIC_CORRECT, *PUBLIC_WRONG)}) == len(PUBLIC_CORRECT) + len(PUBLIC_WRONG)
    assert all(w.text and w.cell and w.cost and 0 < w.cost[0] <= w.cost[1] for w in PUBLIC_WRONG)
    assert not any(w.cell or w.cost for w in PUBLIC_CORRECT)


@pytest.mark.slow
def test_checker_skips_unaffected_checks() -> None:
    """Skipping checks that call none of the changed functions gives the same verdict."""
    changed = {**PLAIN, "freeze_layers": PUBLIC_WRONG[0].sources["freeze_layers"]}
    # every function differs from those of the reference solution, so all checks are run
    every = Checker(study().materials, SEED, ("freeze_layers", "build_transfer_model"))
    few = Checker(study().materials, SEED, ("freeze_layers", "build_transfer_model"), correct=[PLAIN])
    assert few.verdict(changed) == every.verdict(changed)
    called = {frozenset(functions) for functions in few.called.values()}
    assert {frozenset({"freeze_layers"}), frozenset({"build_transfer_model"})} <= called


def test_styles_differ() -> None:
    """Each style has its own name and source."""
    names = [style.name for style in TRAINING_STYLES]
    assert len(set(names)) == len(names) >= 12
    assert len({style.sources["train_with_early_stopping"] for style in TRAINING_STYLES}) == len(TRAINING_STYLES)


def test_mistakes_have_unique_names() -> None:
    """Every mistake has a unique name and text."""
    assert len({m.name for m in MISTAKES}) == len({m.text for m in MISTAKES}) == len(MISTAKES)


def test_checker_endless_and_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that hangs or crashes affects only its own result."""
    one = checker("freeze_layers")
    monkeypatch.setattr(one, "_seconds", 0.2)
    endless = "def freeze_layers(model, n_trainable):\n    while True:\n        pass"
    dead = "import os\n\ndef freeze_layers(model, n_trainable):\n    os._exit(3)"
    found = dict(one.verdicts([{**PLAIN, "freeze_layers": source} for source in (endless, dead)], jobs=2))
    assert found[0].lost == {"check_freeze_layers": 20}
    assert "timeout" in found[0].failed.values()
    assert found[1].ended == "ended with status 3"


def test_operators_make_single_changes() -> None:
    """Every mutant differs from the source by one change."""
    source = "def f(a):\n    if a < 2:\n        raise ValueError(a)\n    return g(a, b=1)\n"
    made = {mutant.new for mutant in mutants(source)}
    assert {"if a <= 2:", "if a < 3:", "if not a < 2:", "pass", "return g(a)", "raise ValueError()"} <= made
    assert all(mutant.source != source for mutant in mutants(source))


# The study's results


@cache
def rows() -> list[Row]:
    return study().read_rows()


@cache
def summary() -> dict[str, Any]:
    found: dict[str, Any] = study().summary()
    return found


def test_study_page_is_up_to_date() -> None:
    """The page agrees with the results."""
    assert study().page.read_text(encoding="utf-8") == study().text(), f"run {command(study().lab)} --report-only"


def test_study_summary_is_up_to_date() -> None:
    """The summary agrees with the results, and is small."""
    assert summary()["submissions"] == len(rows())
    assert summary()["failed"] == dict(sorted(Counter(check for row in rows() for check in row.failed).items()))
    assert study().evidence.stat().st_size < 5000


def test_study_of_present_submissions() -> None:
    """The results are of the present submissions."""
    present = {subject.id: subject.digest for subject in study().subjects}
    assert {row.id: row.digest for row in rows()} == present, f"run {command(study().lab)}"


def test_study_of_present_checks() -> None:
    """The results are of the present checks."""
    assert summary()["checks"] == checks_digest(study().lab), f"run {command(study().lab)}"


def test_study_catches_every_mistake() -> None:
    """Every mistake is caught in its own cell, and no correct code loses points."""
    assert [row.id for row in rows() if row.state not in ("caught", "equivalent", "correct")] == []
    assert not [row.id for row in rows() if row.elsewhere or row.broken]


def test_study_points_independent_of_seed() -> None:
    """Points depend neither on the seeds of the study nor on another seed."""
    people = [row for row in rows() if row.kind in BY_PEOPLE]
    assert [row.id for row in people if len(row.points_lost) > 1] == []
    sources = {subject.id: subject.sources for subject in study().subjects}
    for row in people[:: len(people) // examples(8)]:
        assert sum(checker().verdict(sources[row.id]).lost.values()) == row.lost[0], row.id


def test_study_reasons_match_mutants() -> None:
    """Every recorded reason belongs to an existing mutant."""
    changes = {change(subject) for subject in study().subjects}
    assert all(study().materials.corpus.equivalent.values())
    assert not study().materials.corpus.equivalent.keys() - changes
