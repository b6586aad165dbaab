"""Recognised mistakes: named only where the study is unambiguous."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amllab.checks.results import CheckResult, Outcome
from amllab.protocol.failure import Failure
from autograder.grading import mistakes
from autograder.grading.mistakes import Case, learn, patterns, recognise
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
    mistakes._known.cache_clear()
    yield "lab"
    mistakes._known.cache_clear()


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
    assert found.mistakes == {CELL: "keeps the last weights"}
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
