"""Deadlines, extensions and attempts of an ordinary nbgrader assignment, with the real gradebook."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from autograder.gradebook.attempts import attempts_of
from tests.conftest import autograder_cli, nbgrader
from tests.helpers.stock_courses import (
    OURS,
    Assignment,
    locked_test,
    new_stock_course,
    recorded,
    solution_cell,
    stock_notebook,
)

TEST = locked_test("one", "assert x == 1", 4)
LATE = "2026-12-20 10:00:00 UTC"
ZERO = "c.LateSubmissionPlugin.penalty_method = 'zero'\n"
HEADER = "student,assignment,until\n"


def answer(source: str) -> nbformat.NotebookNode:
    """Return a notebook with this answer."""
    return stock_notebook(solution_cell("answer", source), TEST)


def late_course(root: Path, students: dict[str, str], config: str = ZERO) -> Path:
    """Grade a class of late submissions."""
    submitted = {
        student: {name: answer(source) for name in ("p1.ipynb", "p2.ipynb")} | {"timestamp.txt": LATE}
        for student, source in students.items()
    }
    course = new_stock_course(
        root, Assignment({"p1.ipynb": answer(""), "p2.ipynb": answer("")}, submitted, config), OURS
    )
    nbgrader(course, "db", "assignment", "add", "ps1", "--duedate", "2026-12-18 22:59:00 UTC")
    assert nbgrader(course, "generate_assignment", "ps1").returncode == 0
    return course


def autograde(course: Path) -> str:
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 0, done.stderr
    return done.stderr


def penalties(course: Path) -> dict[tuple[str, ...], float]:
    return {place: float(found[2] or 0) for place, found in recorded(course).items() if len(place) == 2}


def test_changed_extension(tmp_path: Path) -> None:
    """An extension that changes counts without grading again; what was graded is kept as an attempt."""
    course = late_course(tmp_path, {"ada": "x = 1"})
    autograde(course)
    assert penalties(course) == {("ada", "p1"): 4, ("ada", "p2"): 4}
    graded = {path: path.stat().st_mtime_ns for path in course.rglob("autograded/**/*.ipynb")}

    (course / "extensions.csv").write_text(f"{HEADER}ada,ps1,+2 days\n")
    log = autograde(course)
    assert "extension of ada: until 2026-12-20 22:59:00 UTC" in log
    assert "Penalty of 1 submission changed: ada loses 0 points, not 8" in log
    assert "0 graded, 1 already graded" in log
    assert penalties(course) == {("ada", "p1"): 0, ("ada", "p2"): 0}
    assert graded == {path: path.stat().st_mtime_ns for path in course.rglob("autograded/**/*.ipynb")}

    ((student, kept),) = attempts_of(course, "ps1")
    assert (student, [attempt.points for attempt in kept]) == ("ada", [{"p1": 4, "p2": 4}])
    assert kept[0].submitted == LATE


@pytest.mark.slow
def test_attempts_of_a_second_submission(tmp_path: Path) -> None:
    """What is submitted again is an attempt of its own, and the command lists both."""
    course = late_course(tmp_path, {"ada": "x = 1"})
    autograde(course)
    nbformat.write(answer("x = 2"), course / "submitted" / "ada" / "ps1" / "p1.ipynb")
    autograde(course)
    ((student, kept),) = attempts_of(course, "ps1")
    assert (student, [attempt.points for attempt in kept]) == ("ada", [{"p1": 4, "p2": 4}, {"p1": 0, "p2": 4}])
    assert {attempt.submitted for attempt in kept} == {LATE}
    shown = autograder_cli(course, "attempts", "ps1", "ada").stdout.splitlines()
    assert re.fullmatch(r"ada +1 .* 8 +attempts/ps1/ada/1", shown[-2]), shown
    assert re.fullmatch(r"ada +2 .* 4 +attempts/ps1/ada/2", shown[-1]), shown
    assert (course / "attempts/ps1/ada/1/p1.ipynb").read_text() != (course / "attempts/ps1/ada/2/p1.ipynb").read_text()


@pytest.mark.slow
def test_changed_deadline_and_method(tmp_path: Path) -> None:
    """A due date changed in the gradebook, another method, and no step for penalties: the next run applies it."""
    course = late_course(tmp_path, {"ada": "x = 1", "bob": "x = 2"}, "")
    assert "Penalty of" not in autograde(course)
    config = course / "nbgrader_config.py"
    plain = config.read_text()
    config.write_text(f"{plain}{ZERO}")
    assert re.findall("Penalty of .*", autograde(course)) == [
        "Penalty of 1 submission changed: ada loses 8 points, not 0"
    ]
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate="2026-12-24 10:00:00 UTC")
    assert "ada loses 0 points, not 8" in autograde(course)
    without = plain.replace(
        "configure(c)",
        "c.Autograde.autograde_preprocessors = ['nbgrader.preprocessors.Execute', 'nbgrader.preprocessors.SaveAutoGrades']\n"
        "configure(c)",
    )
    config.write_text(f"{without}{ZERO}")
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate="2026-12-01 10:00:00 UTC")
    assert "Penalty of" not in autograde(course), "the course has no step for penalties"
    config.write_text(f"{plain}c.LatePenalty.otherwise = 'broken.Late'\n")
    (course / "broken.py").write_text(
        "from nbgrader.plugins import BasePlugin\n"
        "class Late(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        raise RuntimeError('no server')\n"
    )
    config.write_text(f"import sys; sys.path.insert(0, {os.fspath(course)!r})\n{config.read_text()}")
    assert "bob: the late penalty stays, as its plugin failed: RuntimeError('no server')" in autograde(course)


@pytest.mark.slow
def test_extensions_that_cannot_be_used(tmp_path: Path) -> None:
    """A line that is not understood ends the run before anything is graded, and names the line."""
    course = late_course(tmp_path, {"ada": "x = 1"})
    (course / "extensions.csv").write_text(f"{HEADER}ada,ps1,soon\n")
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    assert "Nothing was graded: extensions.csv, line 2: 'soon' is not a date" in done.stderr
    assert not (course / "autograded").exists()
