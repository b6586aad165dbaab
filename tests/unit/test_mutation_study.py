"""Common mistakes lose points in their own cell, correct styles lose none, and the page reports the study's results.

The study itself, with generated mutants and many seeds, is ``python -m bench.mutation_study``.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch

from bench import mutation_study
from bench.mutants.mistakes import MISTAKES, Mistake
from bench.mutants.operators import mutants
from bench.mutants.runs import EXERCISES, Checker, Verdict
from tests.conftest import sampled
from tests.helpers.model_styles import MODEL_STYLES
from tests.helpers.styles import STYLES
from tests.helpers.variants import CELLS, CORRECT, Variant
from tests.wild import CORRECT as WILD_CORRECT
from tests.wild import WRONG as WILD_WRONG
from tests.wild import Wild

SEED = 7


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Use one thread: submissions run in forked processes, which need no more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def checker(*exercises: str) -> Checker:
    return Checker(SEED, exercises or EXERCISES, correct=[CELLS])


@cache
def verdict(exercise: str, source: str) -> Verdict:
    return checker().verdict({**CELLS, exercise: source})


@pytest.mark.parametrize(
    "mistake",
    sampled([m for m in MISTAKES if (m.id,) not in mutation_study.reasons()], 96),
    ids=lambda mistake: mistake.id,
)
def test_mistake_costs_points_in_its_cell(mistake: Mistake) -> None:
    """A mistake loses points in its cell and in no other."""
    found = verdict(mistake.exercise, mistake.source)
    assert found.lost.keys() == {f"check_{mistake.exercise}"}, found
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize("style", sampled([*CORRECT, *STYLES, *MODEL_STYLES], 32), ids=lambda style: style.name)
def test_correct_style_full_marks(style: Variant) -> None:
    """Correct styles lose no points."""
    found = checker().verdict({**CELLS, **style.sources})
    assert not found.lost, found.failed
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize("submission", sampled(WILD_CORRECT, 24), ids=lambda submission: submission.name)
def test_correct_public_code_full_marks(submission: Wild) -> None:
    """Correct public code loses no points."""
    found = checker().verdict({**CELLS, **submission.sources})
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


@pytest.mark.parametrize("submission", sampled(WILD_WRONG, 32), ids=lambda submission: submission.name)
def test_public_mistake_costs_as_recorded(submission: Wild) -> None:
    """A mistake in public code costs what was recorded for it before grading."""
    found = checker().verdict({**CELLS, **submission.sources})
    assert found.lost.keys() == {f"check_{submission.exercise}"}, found
    (points,) = found.lost.values()
    assert points <= submission.cost[1], found
    assert (points < submission.cost[0]) == (submission.name in CHEAPER), found
    assert not found.ended


def test_public_code_is_labelled() -> None:
    """All public code has a unique name, and every wrong sample an exercise, a reason and a cost."""
    assert len(WILD_CORRECT) >= 60
    assert len(WILD_WRONG) >= 40
    assert len({w.name for w in (*WILD_CORRECT, *WILD_WRONG)}) == len(WILD_CORRECT) + len(WILD_WRONG)
    assert all(w.reason and w.exercise and 0 < w.cost[0] <= w.cost[1] for w in WILD_WRONG)
    assert not any(w.exercise or any(w.cost) for w in WILD_CORRECT)


@pytest.mark.slow
def test_checker_skips_unaffected_checks() -> None:
    """Skipping checks that call none of the changed functions gives the same verdict."""
    changed = {**CELLS, "freeze_layers": WILD_WRONG[0].sources["freeze_layers"]}
    # every function differs from those of the reference solution, so all checks are run
    every = Checker(SEED, ("freeze_layers", "build_transfer_model"))
    few = Checker(SEED, ("freeze_layers", "build_transfer_model"), correct=[CELLS])
    assert few.verdict(changed) == every.verdict(changed)
    called = {frozenset(functions) for functions in few.called.values()}
    assert {frozenset({"freeze_layers"}), frozenset({"build_transfer_model"})} <= called


def test_styles_differ() -> None:
    names = [style.name for style in STYLES]
    assert len(set(names)) == len(names) >= 12
    assert len({style.sources["train_with_early_stopping"] for style in STYLES}) == len(STYLES)


def test_mistakes_have_unique_names() -> None:
    """Every mistake has a unique id and name."""
    assert len({m.id for m in MISTAKES}) == len({m.name for m in MISTAKES}) == len(MISTAKES)


def test_checker_endless_and_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that hangs or crashes affects only its own result."""
    one = checker("freeze_layers")
    monkeypatch.setattr("bench.mutants.runs.TimedSubmission.seconds", 0.2)
    endless = "def freeze_layers(model, n_trainable):\n    while True:\n        pass"
    dead = "import os\n\ndef freeze_layers(model, n_trainable):\n    os._exit(3)"
    found = dict(one.verdicts([{**CELLS, "freeze_layers": source} for source in (endless, dead)], jobs=2))
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
def rows() -> list[mutation_study.Found]:
    return mutation_study.read_rows()


@cache
def summary() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mutation_study.EVIDENCE.read_text(encoding="utf-8"))
    return found


def test_study_page_is_up_to_date() -> None:
    """The page agrees with the results."""
    assert mutation_study.PAGE.read_text(encoding="utf-8") == mutation_study.page(), (
        f"run {mutation_study.COMMAND} --report-only"
    )


def test_study_summary_is_up_to_date() -> None:
    """The summary agrees with the results, and is small."""
    assert summary()["submissions"] == len(rows())
    assert summary()["failed"] == dict(sorted(Counter(check for row in rows() for check in row.failed).items()))
    assert mutation_study.EVIDENCE.stat().st_size < 5000


def test_study_of_present_submissions() -> None:
    """The results are of the present submissions."""
    present = {subject.id: subject.digest for subject in mutation_study.subjects()}
    assert {row.id: row.digest for row in rows()} == present, f"run {mutation_study.COMMAND}"


def test_study_of_present_checks() -> None:
    """The results are of the present checks."""
    assert summary()["checks"] == mutation_study.checks_digest(), f"run {mutation_study.COMMAND}"


def test_study_catches_every_mistake() -> None:
    """Every mistake is caught in its own cell, and no correct code loses points."""
    assert [row.id for row in rows() if row.state not in ("caught", "equivalent", "correct")] == []
    assert not [row.id for row in rows() if row.elsewhere or row.broken]


def test_study_points_independent_of_seed() -> None:
    """Points depend neither on the seeds of the study nor on another seed."""
    people = [row for row in rows() if row.kind in mutation_study.BY_PEOPLE]
    assert [row.id for row in people if len(row.points_lost) > 1] == []
    sources = {subject.id: subject.sources for subject in mutation_study.subjects()}
    for row in people[:: len(people) // 3]:
        assert sum(checker().verdict(sources[row.id]).lost.values()) == row.lost[0], row.id


def test_study_reasons_match_mutants() -> None:
    """Every recorded reason belongs to an existing mutant."""
    changes = {mutation_study.change(subject) for subject in mutation_study.subjects()}
    assert all(mutation_study.reasons().values())
    assert not mutation_study.reasons().keys() - changes
