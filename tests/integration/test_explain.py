"""Commands of a TA in the terminal: ``scores``, ``explain`` and ``regrade``."""

from __future__ import annotations

import csv
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Comment, Gradebook

from autograder.cli import main
from autograder.text import safe_line
from tests.conftest import ROOT, autograder_cli, nbgrader, new_course, submit
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK, ONE, submission
from tests.helpers.mini_lab import LAB as MINI
from tests.helpers.synthetic_class import ESSAY, HOSTILE, LAB, Graded, build

CONTROL = "\x1b[2J\x9b31m\u202e"


def run(course: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command and return what it prints."""
    patch.chdir(course)
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def section(text: str, title: str) -> list[str]:
    """Return the entries below a title."""
    (found,) = re.findall(rf"^{re.escape(title)}\n((?:  - .*\n?)+)", text, re.M)
    return [line.removeprefix("  - ") for line in found.splitlines()]


def row(text: str, beginning: str) -> list[str]:
    (found,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return re.split(r"  +", found)


def test_scores_attention_first(
    four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table of the class lists submissions that need attention first."""
    text = run(four, monkeypatch, capsys, "scores", LAB, "--csv", "class.csv")
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert lines[0] == [
        "student",
        "state",
        "fit (6)",
        "predict (4)",
        "discussion (5)",
        "penalty",
        "sum (15)",
        "needs attention",
    ]
    assert lines[2] == [
        "dan",
        "fault",
        "3.5",
        "1",
        "to grade",
        "4.5",
        "check_predict: test_range raised an internal error",
    ]
    assert lines[3][:2] == ["fay", "not graded"]
    assert lines[4] == ["cyd", "to grade manually", "0", "3", "to grade", "3"]
    assert lines[5] == ["ada", "graded", "6", "4", "5", "15"]
    assert lines[6] == ["ben", "graded", "6", "3", "3", "-2", "10"]
    assert lines[7] == ["eve", "no submission"]
    assert lines[9][0].startswith("6 students: 1 fault, 1 not graded, 1 to grade manually, 2 graded, 1 no submission")
    with (four / "class.csv").open(newline="") as file:
        rows = {r["student"]: r for r in csv.DictReader(file)}
    assert list(rows) == ["dan", "fay", "cyd", "ada", "ben", "eve"]
    assert [rows["ben"][k] for k in ("state", ESSAY, "late_penalty", "total", "max_total")] == [
        "graded", "3", "2", "10", "15",
    ]  # fmt: skip
    assert (rows["cyd"][ESSAY], rows["fay"]["total"], rows["eve"]["total"]) == ("", "", "")


def test_scores_fit_terminal(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the table fits its width, late submissions are marked, and no remark is cut off."""
    with Gradebook(f"sqlite:///{four}/gradebook.db") as gradebook:
        gradebook.find_assignment(LAB).duedate = datetime(2026, 5, 2, 9)
        gradebook.find_submission(LAB, "ben").timestamp = datetime(2026, 5, 2, 12)
        gradebook.find_submission(LAB, "cyd").timestamp = datetime(2026, 5, 6, 9)
        late = gradebook.find_submission(LAB, "ada")
        late.timestamp, late.extension = datetime(2026, 5, 3, 9), timedelta(days=2)
        gradebook.db.commit()
    monkeypatch.setattr(sys.stdout.__class__, "isatty", lambda self: True)
    monkeypatch.setenv("COLUMNS", "80")
    text = run(four, monkeypatch, capsys, "scores", LAB, "--csv", "class.csv")
    assert max(map(len, text.splitlines())) <= 80
    assert row(text, "ben") == ["ben", "graded", "6", "3", "3", "3.0 h", "-2", "10"]
    assert row(text, "cyd") == ["cyd", "to grade manually", "0", "3", "to grade", "4.0 d", "3"]
    assert row(text, "ada") == ["ada", "graded", "6", "4", "5", "(+2.0 d)", "15"]  # within the extension
    remarks = " ".join(text.partition("needs attention\n")[2].split())
    assert "dan: check_predict: test_range raised an internal error" in remarks
    assert f"fay: not graded yet: run 'nbgrader autograde {LAB}'" in remarks
    with (four / "class.csv").open(newline="") as file:
        assert {r["student"]: r["hours_late"] for r in csv.DictReader(file)}["ben"] == "3"


def test_explain_one_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``explain`` shows scores, failed checks, mistakes, repairs and comments of a submission."""
    known = {
        "seed": "4711",
        "seconds": 12.34,
        "isolation": "none",
        "notes": ["There were several cells."],
        "stopped": ["cell 3: stopped after 60 seconds"],
    }
    outcomes = {"test_slope": "failed:wrong_value", "test_intercept": "skipped", "test_range": "error"}
    more = {"mistakes": [{"name": "divides by n + 1"}]}
    course = build(tmp_path, [Graded("ada", outcomes, essay=4.0, penalty=1.5, submission=known, more=more)])
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        entry = gradebook.find_submission(LAB, "ada")
        entry.timestamp, entry.assignment.duedate = datetime(2026, 5, 2, 12), datetime(2026, 5, 2, 9)
        gradebook.find_grade("check_predict", "lab", LAB, "ada").extra_credit = 2
        gradebook.find_grade("check_fit", "lab", LAB, "ada").manual_score = 3
        (written,) = gradebook.find_notebook("lab", LAB).solution_cells
        entry.notebooks[0].comments.append(Comment(cell=written, manual_comment="well argued"))
        gradebook.db.commit()
    text = run(course, monkeypatch, capsys, "explain", LAB, "ada")
    assert "state         fault" in text
    assert "8.5 of 15, after a late penalty of 1.5" in text
    assert "2026-05-02 12:00:00 UTC, 3.0 h late" in text
    assert "due           2026-05-02 09:00:00 UTC" in text
    assert re.search(r"graded        20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", text)
    assert "12.3 s" in text
    assert "isolation     none" in text
    assert "4711" in text
    assert row(text, "fit") == ["fit", "0", "3", "3", "6"]
    assert row(text, "predict") == ["predict", "1", "2", "3", "4"]
    assert row(text, "discussion") == ["discussion", "4", "4", "5"]
    assert row(text, "late penalty") == ["late penalty", "-1.5"]
    assert row(text, "sum") == ["sum", "8.5", "15"]
    assert section(text, "Checks that did not pass") == [
        "check_fit: The slope is that of least squares.  [0/4]  symptom: wrong_value",
        "check_fit: Title of test_intercept.  [0/2]  skipped",
        "check_predict: Title of test_range.  [0/3]  error  ZeroDivisionError: in the check",
    ]
    assert section(text, "Recognised mistakes") == ["check_fit: divides by n + 1"]
    assert section(text, "Fixed on arrival") == ["There were several cells."]
    assert section(text, "Cells stopped by a limit") == ["cell 3: stopped after 60 seconds"]
    assert section(text, "Comments from graders") == [f"{ESSAY}: well argued"]
    assert section(text, "Needs attention") == [
        "check_predict: test_range raised an internal error",
        "it ran without isolation: do not trust its score",
    ]


def test_explain_nothing_to_report(
    four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``explain`` leaves out empty sections."""
    text = run(four, monkeypatch, capsys, "explain", LAB, "ada")
    assert "15 of 15" in text
    for title in ("Needs attention", "did not pass", "Recognised", "Fixed on", "stopped by", "Comments"):
        assert title not in text
    assert section(run(four, monkeypatch, capsys, "explain", LAB, "cyd"), "Needs attention") == [
        f"{ESSAY}: waits for a score"
    ]
    assert "nbgrader autograde" in run(four, monkeypatch, capsys, "explain", LAB, "fay")


@pytest.mark.parametrize("damage", ["lost", "cut", "edited", "old"])
def test_explain_untrusted_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """Missing, damaged, edited and outdated results are reported."""
    edited = {"check_fit": 1.0} if damage == "edited" else {}
    course = build(tmp_path, [Graded("ada", essay=1.0, scores=edited, stored=damage != "old")])
    notebook = course / "autograded" / "ada" / LAB / "lab.ipynb"
    if damage == "lost":
        notebook.unlink()
    if damage == "cut":
        notebook.write_text('{"cells": [')
    text = run(course, monkeypatch, capsys, "explain", LAB, "ada")
    says = {
        "lost": "missing or damaged",
        "cut": "missing or damaged",
        "edited": "differ from the scores",
        "old": "graded by an older version",
    }
    assert says[damage] in text
    assert ("fault" in text) == (damage != "old")


def test_explain_escapes_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of a submission do not reach the terminal."""
    evil = f"{CONTROL}\r\nfaked line{HOSTILE}"
    known = {"notes": [evil * 300], "stopped": [evil], "isolation": evil}
    student = f"ada{CONTROL}"
    outcomes = {"test_slope": f"failed:{evil}", "test_range": "error"}
    course = build(tmp_path, [Graded(student, outcomes, submission=known, more={"mistakes": [{"name": evil}]})])
    printed = run(course, monkeypatch, capsys, "explain", LAB, student) + run(
        course, monkeypatch, capsys, "scores", LAB
    )
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert not any(line.startswith("faked line") for line in printed.splitlines())
    assert max(map(len, printed.splitlines())) < 1200
    assert main(["explain", LAB, f"b{CONTROL}"]) == 2
    refusal = capsys.readouterr().err.strip()
    assert safe_line(refusal) == refusal


def test_explain_unknown_names(four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown students and labs are answered with similar and existing names."""
    monkeypatch.chdir(four)
    for arguments, says in (
        (["explain", LAB, "adda"], "similar: ada; there are: ada, ben, cyd, dan, fay"),
        (["explain", LAB, "eve"], "eve has not submitted"),
        (["explain", "no-such-lab", "ada"], f"there are: {LAB}"),
        (["scores", "no-such-lab"], f"there are: {LAB}"),
        (["regrade", LAB, "fay", "fly"], "similar: fay; there are: fay"),
        (["regrade", "linear-model", "fay"], f"similar: {LAB}"),
    ):
        assert main(arguments) == 2
        assert says in capsys.readouterr().err


@pytest.fixture(scope="module")
def letter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a graded class of a student who submitted plain text, with a manual score for the reflection."""
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    submit(course, "ada", b"Dear TA, this is what I found.")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        grade = gradebook.find_grade("reflection", MINI, ASSIGNMENT, "ada")
        grade.manual_score, grade.needs_manual_grade = 3, False
        gradebook.db.commit()
    return course


def test_regrade_shows_changes(letter: Path, mini_release: NotebookNode) -> None:
    """``regrade`` shows changed scores and keeps manual ones."""

    def run(*arguments: str) -> str:
        done = autograder_cli(letter, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    explained = run("explain", ASSIGNMENT, "ada")
    assert "isolation     namespaces" in explained
    assert re.search(r"seed +\d{10,}", explained)
    assert "none of its code could be run" in section(explained, "Needs attention")
    assert "not valid JSON" in section(explained, "Fixed on arrival")[0]
    nbformat.write(submission(ONE, mini_release), letter / "submitted" / "ada" / ASSIGNMENT / NOTEBOOK)
    text = run("regrade", ASSIGNMENT, "ada")
    assert row(text, "check_standardise") == ["check_standardise", "0", "10", "+10", "10"]
    assert row(text, "reflection") == ["reflection", "3", "3", "5"]
    assert row(text, "sum") == ["sum", "3", "13", "+10", "25"]
    assert "Manual scores were kept: check whether they still hold: reflection" in text
    with Gradebook(f"sqlite:///{letter}/gradebook.db") as gradebook:
        assert gradebook.find_grade("reflection", MINI, ASSIGNMENT, "ada").manual_score == 3
    explained = run("explain", ASSIGNMENT, "ada")
    assert "check_rescale: " in "".join(section(explained, "Checks that did not pass"))
    assert section(explained, "Needs attention") == [
        "reflection: graded again after a manual score was given: check whether it still holds"
    ]


@pytest.mark.slow
def test_regrade_shows_nbgrader_error(
    four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``regrade`` shows why nbgrader failed."""
    monkeypatch.chdir(four)
    (four / "submitted" / "fay" / LAB / "lab.ipynb").write_text("{}")
    assert main(["regrade", LAB, "fay"]) == 1  # a lab without checks
    assert f"no lab '{LAB}'" in capsys.readouterr().err


def test_guide_commands_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands in the guide for TAs exist and accept their arguments."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / "ta.md").read_text(), re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("autograder ")]
    assert len(commands) > 8
    monkeypatch.chdir(tmp_path)  # not a course: invalid arguments would end the program
    assert [main(command.split()[1:]) for command in commands] == [2] * len(commands)
