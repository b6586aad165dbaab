"""Recognised mistakes: named only where the study is unambiguous."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from amllab.checks.results import CheckResult, Outcome
from amllab.protocol.failure import Failure
from autograder.grading import mistakes
from autograder.grading.mistakes import Case, Recognised, learn, patterns, recognise
from autograder.grading.result import GradingResult
from autograder.labs import locations

CELL = "check_training"


def result(name: str, symptom: str = "", outcome: Outcome = "failed", cell: str = CELL) -> CheckResult:
    failure = None if outcome == "passed" else Failure("a", "b", "c", symptom=symptom)
    return CheckResult(name, name, cell, 1, outcome, failure)


def cases(mistake: str, *failed: str, seeds: range = range(4)) -> list[Case]:
    return [Case(mistake, seed, {CELL: failed}) for seed in seeds]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "lab").mkdir()
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", tmp_path)
    for cached in (mistakes._known, mistakes._seen):
        cached.cache_clear()
    yield "lab"
    for cached in (mistakes._known, mistakes._seen):
        cached.cache_clear()


def test_patterns_by_cell() -> None:
    """A pattern lists the failed checks of a cell with their symptoms."""
    results = [
        result("test_b", "late"),
        result("test_a", "early"),
        result("test_c", outcome="skipped"),
        result("test_d", outcome="passed"),
        result("test_e", "x", cell="other"),
    ]
    assert patterns(results) == {CELL: ("test_a: early", "test_b: late"), "other": ("test_e: x",)}


def test_recognise_unique_pattern(lab: str) -> None:
    """A pattern that only one mistake causes names that mistake."""
    mistakes.write(lab, cases("keeps the last weights", "test_a: last"))
    found = GradingResult([], 0, 0.0, mistakes=recognise(lab, [result("test_a", "last")]))
    assert found.mistakes == {CELL: Recognised(("keeps the last weights",))}
    assert found.remarks(CELL) == ["This looks like a known mistake: keeps the last weights."]
    assert found.remarks("other") == []


@pytest.mark.parametrize(
    ("name", "symptom"), [("test_a", "first"), ("test_b", "last")], ids=["another symptom", "another check"]
)
def test_recognise_other_pattern(lab: str, name: str, symptom: str) -> None:
    """Another pattern names no mistake."""
    mistakes.write(lab, cases("keeps the last weights", "test_a: last"))
    assert recognise(lab, [result(name, symptom)]) == {}
    assert recognise(lab, [result("test_a", "last"), result("test_b")]) == {}


def test_learn_drops_ambiguous_patterns() -> None:
    """A pattern that several mistakes or correct code cause is not learned."""
    assert learn(cases("one", "test_a: x") + cases("two", "test_a: x")) == []
    assert learn(cases("one", "test_a: x") + cases("", "test_a: x")) == []
    assert learn(cases("one", "test_a: x", seeds=range(40)) + cases("two", "test_a: x", seeds=range(2))) == []


def test_learn_needs_even_and_odd_seeds() -> None:
    """A pattern is learned only if even and odd seeds agree on its mistake."""
    # with odd seeds, another mistake causes the pattern
    found = cases("one", "test_a: x", seeds=range(0, 8, 2)) + cases("two", "test_a: x", seeds=range(1, 9, 2))
    assert learn(found) == []
    assert learn(cases("one", "test_a: x", seeds=range(0, 8, 2))) == []  # not confirmed by odd seeds


def test_recognise_without_study(lab: str) -> None:
    """Without a study, no mistake is recognised."""
    assert recognise(lab, [result("test_a", "last")]) == {}


def test_mistakes_file_format(lab: str) -> None:
    """Patterns are stored as plain JSON."""
    file = mistakes.write(lab, cases("one", "test_a: x"))
    assert json.loads(file.read_text()) == [{"cell": CELL, "pattern": ["test_a: x"], "name": "one"}]


LAST, NONE = cases("keeps the last weights", "test_a: last"), cases("accepts None", "test_b: none")


def seen(lab: str, *failed: str) -> None:
    """Add a pattern to the evidence that a change without a name has caused."""
    file = locations.HIDDEN_CHECKS / lab / "evidence" / "study.jsonl"
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as rows:
        rows.write(json.dumps({"id": "x", "patterns": [[0, {CELL: list(failed)}]]}) + "\n")


def test_recognise_two_mistakes(lab: str) -> None:
    """A pattern that consists of the patterns of two mistakes names both; other reports are not affected."""
    mistakes.write(lab, LAST + NONE)
    both = [result("test_a", "last"), result("test_b", "none")]
    found = GradingResult(both, 0, 0.0, mistakes=recognise(lab, both))
    assert found.mistakes == {CELL: Recognised(("accepts None", "keeps the last weights"))}
    assert found.remarks(CELL) == ["This looks like two known mistakes: accepts None; and keeps the last weights."]
    assert found.as_dict()["mistakes"] == {CELL: "accepts None; and keeps the last weights"}
    assert recognise(lab, both[:1]) == {CELL: Recognised(("keeps the last weights",))}
    assert recognise(lab, [*both, result("test_c", "x")]) == {}
    assert recognise(lab, [result("test_a", "last"), result("test_b", "other")]) == {}


@pytest.mark.parametrize(
    "other",
    [
        [("test_a: last", "test_b: none")],  # one change without a name causes all of it
        [("test_a: first", "test_b: none")],  # and hides behind the other mistake in the check that they share
        [("test_a: last", "test_b: other")],
    ],
)
def test_recognise_two_only_without_doubt(lab: str, other: list[tuple[str, ...]]) -> None:
    """No mistakes are named if anything else that the study has seen can be the cause."""
    mistakes.write(lab, LAST + NONE)
    for failed in other:
        seen(lab, *failed)
    assert recognise(lab, [result("test_a", "last"), result("test_b", "none")]) == {}


def test_recognise_two_ways_to_split(lab: str) -> None:
    """No mistakes are named if the pattern splits in two ways."""
    mistakes.write(lab, LAST + cases("two", "test_b: x", "test_c: y"))
    failed = [result("test_a", "last"), result("test_b", "x"), result("test_c", "y")]
    assert recognise(lab, failed) == {CELL: Recognised(("keeps the last weights", "two"))}
    seen(lab, "test_c: y")
    seen(lab, "test_a: last", "test_b: x")
    mistakes._seen.cache_clear()
    assert recognise(lab, failed) == {}


def test_recognise_same_mistake_twice(lab: str) -> None:
    """Two patterns of the same mistake are not two mistakes."""
    mistakes.write(lab, cases("one", "test_a: x") + cases("one", "test_b: y"))
    assert recognise(lab, [result("test_a", "x"), result("test_b", "y")]) == {}


def test_recognise_part(lab: str) -> None:
    """If one of two mistakes has no name, the other one is named, and the sentence says that this is not all."""
    mistakes.write(lab, LAST)
    seen(lab, "test_b: none")
    found = recognise(lab, [result("test_a", "last"), result("test_b", "none")])
    assert found == {CELL: Recognised(("keeps the last weights",), partly=True)}
    assert found[CELL].sentence == "Part of this looks like a known mistake: keeps the last weights."


def test_slice_and_no_error_in_lab_1() -> None:
    """The most frequent mistakes of lab 1 are named also together: the slice, no ``ValueError``, and no thawing."""
    cell = "check_freeze_layers"
    items = (
        "test_all_and_none: all trainable for 0",
        "test_refuses_impossible_numbers: accepts anything",
        "test_thaws: never thaws",
    )
    slice_, thaws = "takes the last 0 layers for all of them", "freezes, but never thaws"
    accepts = "raises no ValueError for impossible numbers"
    lab_1 = partial(mistakes.explain, "transfer_learning", cell)
    assert lab_1(items[:2]) == Recognised((accepts, slice_))
    assert lab_1(items[::2]) == Recognised((thaws, slice_))
    assert lab_1(items) == Recognised((thaws, accepts, slice_))
    assert lab_1(items[1:2]) is None  # the check itself says that nothing is refused


def test_effect_names_what_is_wrong() -> None:
    """Accepting all impossible arguments is wrong in the same way, whatever the code; other symptoms say less."""
    assert mistakes.effect(("test_refuses_no_bins: accepts anything",)) == "raises no ValueError for no bins"
    for failed in (
        ("test_refuses_no_bins: accepts zero",),
        ("test_refuses_no_bins: accepts anything; raised TypeError",),
        ("test_other: accepts anything",),
        ("test_a: last", "test_refuses_no_bins: accepts anything"),
        (),
    ):
        assert mistakes.effect(failed) == ""


def test_recognise_effect_with_a_mistake(lab: str) -> None:
    """A mistake together with arguments that are not refused names both; arguments alone are named by their check."""
    mistakes.write(lab, LAST)
    seen(lab, "test_refuses_no_bins: accepts anything")
    results = [result("test_a", "last"), result("test_refuses_no_bins", "accepts anything")]
    found = recognise(lab, results)
    assert found == {CELL: Recognised(("keeps the last weights", "raises no ValueError for no bins"))}
    assert recognise(lab, results[1:]) == {}
    seen(lab, "test_a: last", "test_refuses_no_bins: accepts anything")
    mistakes._seen.cache_clear()
    assert recognise(lab, results) == {}
