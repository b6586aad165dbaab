"""Common mistakes lose points in their own cell, correct styles lose none, and the page reports the study's results.

The study itself, with the mutants of a tool and over many seeds, is ``python -m bench.mutation_study``.
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
    """A process that is forked has no use for more."""
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
    sampled([m for m in MISTAKES if (m.id,) not in mutation_study.reasons()], 48),
    ids=lambda mistake: mistake.id,
)
def test_a_mistake_loses_points_in_its_cell_alone(mistake: Mistake) -> None:
    found = verdict(mistake.exercise, mistake.source)
    assert found.lost.keys() == {f"check_{mistake.exercise}"}, found
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize("style", sampled([*CORRECT, *STYLES, *MODEL_STYLES], 16), ids=lambda style: style.name)
def test_a_correct_style_loses_nothing(style: Variant) -> None:
    found = checker().verdict({**CELLS, **style.sources})
    assert not found.lost, found.failed
    assert not found.broken
    assert not found.ended


@pytest.mark.parametrize("submission", sampled(WILD_CORRECT, 24), ids=lambda submission: submission.name)
def test_correct_code_in_a_public_style_loses_nothing(submission: Wild) -> None:
    found = checker().verdict({**CELLS, **submission.sources})
    assert not found.lost, found.failed
    assert not found.broken
    assert not found.ended


# these cost a point or two less than what was written down for them
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
def test_a_mistake_of_public_code_costs_what_was_written_down(submission: Wild) -> None:
    found = checker().verdict({**CELLS, **submission.sources})
    assert found.lost.keys() == {f"check_{submission.exercise}"}, found
    (points,) = found.lost.values()
    assert points <= submission.cost[1], found
    assert (points < submission.cost[0]) == (submission.name in CHEAPER), found
    assert not found.ended


def test_public_code_is_graded_before_it_is_checked() -> None:
    assert len(WILD_CORRECT) >= 60
    assert len(WILD_WRONG) >= 40
    assert len({w.name for w in (*WILD_CORRECT, *WILD_WRONG)}) == len(WILD_CORRECT) + len(WILD_WRONG)
    assert all(w.reason and w.exercise and 0 < w.cost[0] <= w.cost[1] for w in WILD_WRONG)
    assert not any(w.exercise or any(w.cost) for w in WILD_CORRECT)


@pytest.mark.slow
def test_checks_that_call_nothing_of_what_changed_say_the_same() -> None:
    changed = {**CELLS, "freeze_layers": WILD_WRONG[0].sources["freeze_layers"]}
    every = Checker(SEED, ("freeze_layers", "build_transfer_model"))  # differs from the reference everywhere
    few = Checker(SEED, ("freeze_layers", "build_transfer_model"), correct=[CELLS])
    assert few.verdict(changed) == every.verdict(changed)
    called = {frozenset(functions) for functions in few.called.values()}
    assert {frozenset({"freeze_layers"}), frozenset({"build_transfer_model"})} <= called


def test_styles_differ() -> None:
    names = [style.name for style in STYLES]
    assert len(set(names)) == len(names) >= 12
    assert len({style.sources["train_with_early_stopping"] for style in STYLES}) == len(STYLES)


def test_mistakes_have_a_name_each() -> None:
    assert len({m.id for m in MISTAKES}) == len({m.name for m in MISTAKES}) == len(MISTAKES)


def test_a_submission_that_never_ends_or_dies_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    one = checker("freeze_layers")
    monkeypatch.setattr("bench.mutants.runs.TimedSubmission.seconds", 0.2)
    endless = "def freeze_layers(model, n_trainable):\n    while True:\n        pass"
    dead = "import os\n\ndef freeze_layers(model, n_trainable):\n    os._exit(3)"
    found = dict(one.verdicts([{**CELLS, "freeze_layers": source} for source in (endless, dead)], jobs=2))
    assert found[0].lost == {"check_freeze_layers": 20}
    assert "timeout" in found[0].failed.values()
    assert found[1].ended == "ended with status 3"


def test_operators_change_one_thing() -> None:
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


def test_the_page_is_that_of_the_results() -> None:
    assert mutation_study.PAGE.read_text(encoding="utf-8") == mutation_study.page(), (
        f"run {mutation_study.COMMAND} --report-only"
    )


def test_the_summary_is_that_of_the_results() -> None:
    assert summary()["submissions"] == len(rows())
    assert summary()["failed"] == dict(sorted(Counter(check for row in rows() for check in row.failed).items()))
    assert mutation_study.EVIDENCE.stat().st_size < 5000


def test_the_results_are_of_the_present_submissions() -> None:
    present = {subject.id: subject.digest for subject in mutation_study.subjects()}
    assert {row.id: row.digest for row in rows()} == present, f"run {mutation_study.COMMAND}"


def test_the_results_are_of_the_present_checks() -> None:
    assert summary()["checks"] == mutation_study.checks_digest(), f"run {mutation_study.COMMAND}"


def test_every_mistake_is_caught_and_nothing_else_is() -> None:
    assert [row.id for row in rows() if row.state not in ("caught", "equivalent", "correct")] == []
    assert not [row.id for row in rows() if row.elsewhere or row.broken]


def test_points_do_not_depend_on_the_seed() -> None:
    """Neither on the seeds of the study, nor on another one."""
    people = [row for row in rows() if row.kind in mutation_study.BY_PEOPLE]
    assert [row.id for row in people if len(row.points_lost) > 1] == []
    sources = {subject.id: subject.sources for subject in mutation_study.subjects()}
    for row in people[:: len(people) // 3]:
        assert sum(checker().verdict(sources[row.id]).lost.values()) == row.lost[0], row.id


def test_reasons_are_those_of_mutants_that_there_are() -> None:
    changes = {mutation_study.change(subject) for subject in mutation_study.subjects()}
    assert all(mutation_study.reasons().values())
    assert not mutation_study.reasons().keys() - changes
