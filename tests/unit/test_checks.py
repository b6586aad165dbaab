"""The check framework: points, prerequisites, seeds, reports."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest
from nbformat import NotebookNode

from amllab.checks.render import to_html, to_text
from amllab.checks.results import CheckResult, score
from amllab.checks.runner import QUIET, ChecksBrokenError, run_checks
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import Failure
from amllab.protocol.submission import InProcessSubmission
from amllab.seeds import derive
from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.grading.grader import UnreadableSubmission
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.notebooks.metadata import is_autograded
from tests.helpers import in_process

CHECKS = '''
import pytest
from amllab.checks import expect
pytestmark = pytest.mark.cell("check_x", section="Section 1")

@pytest.mark.points(2)
def test_first(submission, rng):
    """First   sentence.

    Not part of the title."""
    expect({first}, expected="one", seen="two", why="three")

@pytest.mark.points(3)
@pytest.mark.needs("test_first")
def test_second(rng):
    """Second."""
    {second}
'''


def run(tmp_path: Path, lab: Lab, first: str = "True", second: str = "pass", seed: int = 0) -> list[CheckResult]:
    file = tmp_path / "test_x.py"
    file.write_text(CHECKS.format(first=first, second=second))
    return run_checks(lab, [file], InProcessSubmission(lab.name, {}), seed=seed)


def test_run_checks_passing(tmp_path: Path, lab: Lab) -> None:
    """Results of passing checks have name, outcome, points, cell and title."""
    results = run(tmp_path, lab)
    assert [(r.name, r.outcome, r.points, r.cell) for r in results] == [
        ("test_first", "passed", 2, "check_x"),
        ("test_second", "passed", 3, "check_x"),
    ]
    assert results[0].title == "First sentence."
    assert score(results) == (5, 5)


def test_failed_check_skips_dependents(tmp_path: Path, lab: Lab) -> None:
    """A failed check reports its data, and checks that need it are skipped."""
    first, second = run(tmp_path, lab, first="False")
    assert first.failure == Failure("one", "two", "three", "Section 1")
    assert second.outcome == "skipped"
    assert "First sentence." in second.failure.expected  # type: ignore[union-attr]
    assert score([first, second]) == (0, 5)


@pytest.mark.parametrize("value", ["[]", "None", "0", "__import__('torch').tensor(False)"])
def test_check_fails_on_false_values(tmp_path: Path, lab: Lab, value: str) -> None:
    """A check fails for every false value, not only for ``False``."""
    (first, _) = run(tmp_path, lab, first=value)
    assert first.outcome == "failed"


def test_broken_check_is_an_error(tmp_path: Path, lab: Lab) -> None:
    """An exception in a check is an error of that check, and students do not see it."""
    _, second = run(tmp_path, lab, second="1 / 0")
    assert second.outcome == "error"
    assert "ZeroDivisionError" in second.failure.seen  # type: ignore[union-attr]
    assert "ZeroDivisionError" not in to_text([second]) + to_html([second])


def test_broken_check_not_collectable(tmp_path: Path, lab: Lab) -> None:
    """Checks that cannot be collected raise an error."""
    with pytest.raises(ChecksBrokenError, match="SyntaxError"):
        run(tmp_path, lab, second="def")


def test_interrupt_propagates(tmp_path: Path, lab: Lab) -> None:
    """An interrupt propagates out of pytest."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lab, second="raise KeyboardInterrupt")


def test_environment_does_not_change_grades(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the variables that pytest reads nor an installed plugin changes grades."""
    meddling = tmp_path / "site"
    (meddling / "meddling-1.0.dist-info").mkdir(parents=True)
    (meddling / "meddling-1.0.dist-info" / "METADATA").write_text("Name: meddling\nVersion: 1.0\n")
    (meddling / "meddling-1.0.dist-info" / "entry_points.txt").write_text("[pytest11]\nmeddling = meddling\n")
    (meddling / "meddling.py").write_text("def pytest_collection_modifyitems(items):\n    items.clear()\n")
    monkeypatch.syspath_prepend(str(meddling))
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    monkeypatch.setenv("PYTEST_PLUGINS", "meddling")
    before = dict(os.environ)
    assert [r.outcome for r in run(tmp_path, lab)] == ["passed", "passed"]
    assert dict(os.environ) == before
    # each of the three alone would change the results if it were not disabled
    for keep in ("ADDOPTS", "PLUGINS"):
        monkeypatch.setattr(
            "amllab.checks.runner.VARIABLES", [f"PYTEST_{n}" for n in ("ADDOPTS", "PLUGINS") if n != keep]
        )
        with pytest.raises(ChecksBrokenError):
            run(tmp_path, lab)
    monkeypatch.setattr("amllab.checks.runner.VARIABLES", ["PYTEST_ADDOPTS", "PYTEST_PLUGINS"])
    monkeypatch.setattr("amllab.checks.runner.QUIET", [option for option in QUIET if "autoload" not in option])
    with pytest.raises(ChecksBrokenError):
        run(tmp_path, lab)


def test_rng_follows_seed(tmp_path: Path, lab: Lab) -> None:
    """Random inputs of checks depend only on the seed."""

    def drawn(seed: int) -> str:
        (_, second) = run(tmp_path, lab, second="expect(False, expected=str(rng.random()), seen='', why='')", seed=seed)
        return second.failure.expected  # type: ignore[union-attr]

    assert drawn(1) == drawn(1) != drawn(2)


def test_report_escapes_html() -> None:
    """Reports escape text from submissions."""
    failure = Failure("`x`", "<script>alert(1)</script>", "", "")
    html = to_html([CheckResult("t", "T <b>", "c", 1, "failed", failure)])
    assert "<script>" not in html
    assert "T &lt;b&gt;" in html
    assert "<code>x</code>" in html


def test_points_add_up(lab: Lab, release: NotebookNode) -> None:
    """The points of all checks add up to those of their cells."""
    nothing = InProcessSubmission(lab.name, {})
    results = run_checks(lab, [lab.folder, HIDDEN_CHECKS / lab.name], nothing)
    cells = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in release.cells if is_autograded(cell)
    }
    assert {cell: score(results, cell)[1] for cell in cells} == cells
    assert cells == {
        "check_freeze_layers": 20,
        "check_build_transfer_model": 20,
        "check_train_with_early_stopping": 30,
        "check_accuracy": 20,
    }
    assert score(results)[0] == 0
    assert len({r.name for r in results}) == len(results)


def test_printed_message_is_no_exception(lab: Lab) -> None:
    """If a function prints an error message and returns, its report says so."""
    sources = {cell: source.replace("raise ValueError(", "return print(") for cell, source in PLAIN.items()}
    files = {
        "build_transfer_model": "test_refuses_fewer_than_two_classes",
        "freeze_layers": "test_refuses_impossible_numbers",
        "train_with_early_stopping": "test_refuses_impossible_arguments",
    }
    paths = [Path(f"{lab.folder / f'test_{file}.py'}::{check}") for file, check in files.items()]
    results = run_checks(lab, paths, in_process.submission(lab, **sources))
    for result, said in zip(results, ("num_classes", "n_trainable", "max_epochs and patience"), strict=True):
        assert result.failure is not None
        assert f"no error: it printed '{said}" in result.failure.seen
        assert result.failure.symptom == "accepts anything"


def test_seeds_derived_independently() -> None:
    """Seeds derived for different purposes are distinct and use the whole range."""
    derived = {derive(seed, *purpose) for seed in (0, 1, 1 << 62) for purpose in (("a",), ("b",), ("a", "b"), ())}
    assert len(derived) == 12
    assert all(0 <= seed < 1 << 63 for seed in derived)
    assert max(derived) > 1 << 58


def test_submission_text_is_sanitized(tmp_path: Path, lab: Lab) -> None:
    """Text from a submission is truncated, and control characters are removed."""
    (first, _) = run(tmp_path, lab, first='False, expected="\\x1b[2J" + "x" * 5000, seen="", why="") or expect(False')
    text = first.failure.expected  # type: ignore[union-attr]
    assert "\x1b" not in text
    assert len(text) < 2100


def test_find_lab_unknown_name() -> None:
    """The error for an unknown lab lists the known ones."""
    with pytest.raises(LookupError, match="transfer_learning"):
        find_lab("no-such-lab")


def test_failed_checks_keep_no_references(lab: Lab) -> None:
    """Failed checks keep no objects of their caller alive, as servers such as formgrader require."""

    class Held:
        pass

    def grade() -> weakref.ref[Held]:
        held = Held()
        results = run_checks(lab, [lab.folder / "test_freeze_layers.py"], UnreadableSubmission(lab.name))
        assert {result.outcome for result in results} == {"failed"}
        return weakref.ref(held)

    found = grade()
    gc.collect()
    assert found() is None
