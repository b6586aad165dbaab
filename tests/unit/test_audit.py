"""Findings of an audit.

Whether a correct lab passes, with real grading, is tested with the guide to a new lab (test_new_lab).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from amllab.checks.results import CheckResult
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import Failure
from autograder import cli
from autograder.authoring.audit import Finding, kills, marks, noticed, passes, table
from autograder.grading.result import GradingResult
from autograder.labs import locations, settings
from autograder.labs import study as study_module
from autograder.labs.catalog import Check
from autograder.labs.corpus import Solution
from autograder.labs.study import Study, definitions, evidence_of, read_study
from tests.conftest import ASSIGNMENT, NOTEBOOK

WHAT = "every check is failed by a wrong submission"


def check(name: str, *needs: str, cell: str = "check_a") -> Check:
    return Check(name, name, "A title.", "", cell, "Exercise 1", 2.0, needs, "a_file.py", False)


def wrong(name: str, *fails: str) -> Solution:
    return Solution(name, {"a": ""}, name, "a", frozenset(fails))


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    assert all(finding.what == WHAT for finding in findings)
    return [(finding.state, finding.seen) for finding in findings]


@pytest.mark.slow
def test_audit_stops_on_outdated_files(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit stops if the release or the solution differs from what the master text builds."""
    for folder in ("assignments", "solutions"):
        path = course / folder / ASSIGNMENT / NOTEBOOK
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source += "\nby hand"
        nbformat.write(notebook, path)
    monkeypatch.chdir(course)
    assert cli.main(["audit", ASSIGNMENT]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert [line.split("  ")[1].strip() for line in failed] == [
        "the release is what the master builds",
        "the solution is what the master builds",
    ]
    assert all(line.endswith(f"is out of date: run autograder build {ASSIGNMENT}") for line in failed)
    assert "gets full marks" not in "".join(lines)


@pytest.mark.parametrize("command", ["build", "audit"])
def test_trusted_function_that_does_not_exist(
    command: str, lab: Lab, course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Building and auditing name a trusted function that does not exist, and write nothing."""
    trusted = [*lab.trusted, "torch.autograd.gradient"]
    other = replace(lab, settings={**lab.settings, "probes": {"trusted": trusted}})
    monkeypatch.setattr(settings, "find_lab", lambda name: other)
    monkeypatch.chdir(course)
    release = course / "assignments" / ASSIGNMENT / NOTEBOOK
    release.write_text("as before")
    assert cli.main([command, ASSIGNMENT]) != 0
    said = "".join(capsys.readouterr())
    assert "lab.toml, line 23: probes.trusted: 'torch.autograd.gradient': torch.autograd has no gradient" in said
    assert release.read_text() == "as before"


def test_audit_unknown_lab(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown lab is a usage error, not a failed audit."""
    assert cli.main(["audit", "no-such-lab"]) == 2
    assert "transfer_learning" in capsys.readouterr().err


def test_audit_marks_and_broken_checks() -> None:
    """Missing points and broken checks are failures of the audit."""
    passed = CheckResult("test_a", "A.", "check_a", 4, "passed")
    broke = CheckResult("test_b", "B.", "check_a", 6, "error", Failure("it runs", "ZeroDivisionError", ""))
    assert marks("full", GradingResult([passed], 1, 1.0), 4) == Finding("full", "ok", "4 of 4 points")
    finding = marks("full", GradingResult([passed, broke], 1, 1.0), 10)
    assert finding == Finding("full", "FAIL", "4 of 10 points, not 10; broken checks: test_b")
    assert marks("none", GradingResult([passed], 1, 1.0), 0).state == "FAIL"
    assert marks("none", GradingResult([broke], 1, 1.0), 0).state == "FAIL"


def test_audit_wrong_function_failures() -> None:
    """Every wrong function has to fail exactly the checks that the corpus names."""
    kept = [wrong("one", "test_a"), wrong("two", "test_a", "test_b")]
    right = {"one": frozenset({"test_a"}), "two": frozenset({"test_a", "test_b"})}
    assert noticed(kept, right).state == "ok"
    finding = noticed(kept, {**right, "one": frozenset()})
    assert (finding.state, finding.seen) == ("FAIL", "'one' fails nothing, but the corpus says test_a")
    assert noticed(kept, {**right, "one": frozenset({"test_a", "test_b"})}).state == "FAIL"


def test_audit_check_without_failure(lab: Lab) -> None:
    """A check that no wrong submission fails is a failure of the audit."""
    checks = [check("test_a"), check("test_b", "test_a")]
    kept = [wrong("one", "test_a", "test_b"), wrong("two", "test_b")]
    failed = {w.name: w.fails for w in kept}
    assert said(list(kills(Study(), lab, checks, kept, failed))) == [("ok", "2 of 2 checks, by 2 wrong functions")]
    # test_b was only skipped
    ((state, seen),) = said(list(kills(Study(), lab, checks, kept[:1], failed)))
    assert (state, seen) == ("FAIL", "1 of 2 checks, by 1 wrong function; no wrong submission fails test_b")
    study = Study(frozenset({"test_b"}), "7 submissions of a study")
    assert said(list(kills(study, lab, checks, kept[:1], failed))) == [
        ("ok", "2 of 2 checks, by 1 wrong function and 7 submissions of a study")
    ]
    ((state, _),) = said(list(kills(replace(study, stale=True), lab, checks, kept[:1], failed)))
    assert state == "FAIL"


def test_audit_check_not_measured(lab: Lab) -> None:
    """Checks without any evidence are reported as not measured, not as failures."""
    checks = [check("test_a"), check("test_z", cell="check_z")]
    ((state, seen),) = said(list(kills(Study(), lab, checks, [], {})))
    assert state == "not measured"
    assert seen.startswith(
        "test_a, test_z: no evidence in the corpus or evidence/study.json of autograder/checks/transfer_learning/"
    )
    study = Study(frozenset({"test_a"}), "7 submissions of a study")
    covered, uncovered = said(list(kills(study, lab, checks, [], {})))
    assert covered == ("ok", "1 of 2 checks, by 7 submissions of a study")
    assert uncovered[0] == "not measured"
    assert uncovered[1].startswith("test_z: ")
    ((state, seen),) = said(list(kills(replace(study, stale=True), lab, checks, [], {})))
    assert state == "not measured"
    assert seen.startswith("1 of 2 checks, by 7 submissions of a study, but the checks have changed since")


def test_audit_strict_not_measured() -> None:
    """With --strict, a finding that was not measured counts as a failure."""
    fine, unknown, bad = (Finding("x", state, "") for state in ("ok", "not measured", "FAIL"))
    assert passes([fine])
    assert passes([fine], strict=True)
    assert passes([fine, unknown])
    assert not passes([fine, unknown], strict=True)
    assert not passes([fine, bad])
    assert table([fine, unknown]) == "ok            x\nnot measured  x"


def test_study_current_and_stale(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab's study is read from its evidence file, and is stale if the checks have changed since."""
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", tmp_path)
    assert read_study(lab) == Study()
    file = evidence_of(lab)
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(study_module, "checks_digest", lambda lab: "present")
    file.write_text(json.dumps({"checks": "present", "submissions": 2, "failed": {"test_thaws": 1}}))
    found = Study(frozenset({"test_thaws"}), "2 submissions of transfer_learning/evidence/study.json")
    assert read_study(lab) == found
    file.write_text(json.dumps({"checks": "other", "submissions": 2, "failed": {"test_thaws": 1}}))
    assert read_study(lab) == replace(found, stale=True)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"submissions": 2}', '{"submissions": "x", "failed": {}, "checks": ""}', "\xff"]
)
def test_study_damaged_file(text: str, tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a damaged study names the file and the command that recreates it."""
    monkeypatch.setattr(locations, "HIDDEN_CHECKS", tmp_path)
    file = evidence_of(lab)
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        ValueError,
        match=r"transfer_learning/evidence/study\.json is damaged .*run 'autograder study transfer-learning'",
    ):
        read_study(lab)


def test_digest_covers_imported_kit(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest covers exactly the kit modules that the lab imports, directly or indirectly."""
    present = study_module.checks_digest(lab)
    kit = shutil.copytree(study_module.KIT, tmp_path / "kit")
    monkeypatch.setattr(study_module, "KIT", kit)
    (kit / "of_another_lab.py").write_text("x = 1\n")
    assert study_module.checks_digest(lab) == present
    with (kit / "symptoms.py").open("a") as file:
        file.write("x = 1\n")
    assert study_module.checks_digest(lab) != present


def test_digest_covers_hidden_kit(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest covers the modules that hidden checks of several labs share, for the labs that import them alone."""
    labs = lab, find_lab("self-supervised-learning")
    present = [study_module.checks_digest(one) for one in labs]
    monkeypatch.setattr(study_module, "HIDDEN_KIT", shutil.copytree(study_module.HIDDEN_KIT, tmp_path / "kit"))
    with (tmp_path / "kit" / "loss_means.py").open("a") as file:
        file.write("x = 1\n")
    changed = [study_module.checks_digest(one) != before for one, before in zip(labs, present, strict=True)]
    assert changed == [False, True]


def test_digest_covers_behaviour_only() -> None:
    """The digest depends on what checks do, not on points, docstrings, comments, imports or layout."""
    source = '''"""About."""

import pytest


@pytest.mark.points(3)
def test_thaws(submission):
    """Thaws."""
    assert submission, "# no comment"  # a reason
'''
    same = (
        source.replace("points(3)", "points(5)").replace("Thaws.", "Layers are\n\n    thawed.").replace("a reason", "")
    )
    assert definitions(same) == definitions(source)
    laid_out = source.replace("import pytest", "import os").replace(
        "assert submission,", "assert (\n        submission),"
    )
    assert definitions(laid_out) == definitions(source)
    assert definitions(source.replace("assert s", "assert not s")) != definitions(source)
    assert definitions(source.replace("# no", "no")) != definitions(source)
    assert definitions('def f(): "About."') == definitions('def f(): "It."')
    assert definitions('async def f():\n    "About."\n    return 1') == definitions("async def f(): return 1")
    assert definitions("@pytest.mark.points(2)\nasync def f(): pass") == definitions("async def f(): pass")
    assert definitions('x = "text"') != definitions('x = "other text"')
