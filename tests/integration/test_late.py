"""A lab's deadline and its late penalty, with the real nbgrader command line."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from amllab.lab import Lab
from autograder.labs.corpus import Solution
from autograder.nbgrader_plugins import exporter, late_penalty
from autograder.text import counted
from tests.conftest import ASSIGNMENT, autograder_cli, nbgrader, new_course, submit
from tests.helpers.course_copy import CourseCopy
from tests.helpers.notebooks import notebook_of

DUE = datetime(2026, 12, 18, 22, 59, tzinfo=UTC)
DEADLINE = """
[deadline]
due = 2026-12-18T23:59:00+01:00
grace_minutes = 15
penalty_percent = 10
most_percent = 25
"""
SUBMITTED_AT = {
    "next_day": "2026-12-19 08:00:00 UTC",
    "next_year": "2027-01-18 08:00:00 UTC",
    "letter": "2026-12-19 08:00:00 UTC",
}


def with_deadline(lab: Lab, **changes: object) -> Lab:
    """Return the lab with a deadline, or without one if there are no changes."""
    terms = {"due": DUE, "grace_minutes": 15.0, "penalty_percent": 10.0, "most_percent": 25.0}
    deadline = {"deadline": terms | changes} if changes else {}
    return replace(lab, settings={**lab.settings, **deadline})


def autograde(course: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run ``nbgrader autograde`` with these settings of the lab, and return its log."""
    monkeypatch.setattr(exporter, "load_lab", lambda name: lab)
    monkeypatch.setattr(late_penalty, "find_lab", lambda name: lab)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    return done.stderr


def marks(course: Path) -> dict[str, tuple[float, float, str | None]]:
    """Return penalty, manual score and comment of each student."""
    found = {}
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        for submission in gradebook.assignment_submissions(ASSIGNMENT):
            (notebook,) = submission.notebooks
            (grade,) = [g for g in notebook.grades if g.manual_score is not None]
            (comment,) = [c for c in notebook.comments if c.name == grade.name]
            penalty = submission.late_submission_penalty
            found[submission.student.id] = (penalty, grade.manual_score, comment.manual_comment)
    return found


def test_late_penalty_is_renewed(course: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed deadline is applied to everybody, without grading again; manual scores and comments stay."""
    for student, time in SUBMITTED_AT.items():
        submit(course, student, b"Dear TA")
        (course / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text(time)
    assert "Penalty of" not in autograde(course, with_deadline(lab, penalty_percent=10.0), monkeypatch)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        for submission in gradebook.assignment_submissions(ASSIGNMENT):
            (notebook,) = submission.notebooks
            (grade,) = [g for g in notebook.grades if g.name == "reflection"]
            (comment,) = [c for c in notebook.comments if c.name == "reflection"]
            grade.manual_score, comment.manual_comment = 8.0, "good"
        gradebook.find_submission(ASSIGNMENT, "letter").extension = timedelta(days=1)
        gradebook.db.commit()
    written = {path: path.stat().st_mtime_ns for path in course.rglob("autograded/**/*.ipynb")}
    sooner = DUE - timedelta(days=1)
    for deadline, lost, says in (
        ({"penalty_percent": 4.0}, (4, 8, 0), "next_day loses 4 points, not 0; next_year loses 8 points, not 0"),
        ({"penalty_percent": 4.0}, (4, 8, 0), ""),
        ({"penalty_percent": 4.0, "most_percent": 5.0}, (4, 5, 0), "next_year loses 5 points, not 8"),
        (
            {"penalty_percent": 3.0, "due": sooner},
            (6, 8, 3),
            "letter loses 3 points, not 0; next_day loses 6 points, not 4; next_year loses 8 points, not 5",
        ),
        (
            {"penalty_percent": 0.0},
            (0, 0, 0),
            "letter loses 0 points, not 3; next_day loses 0 points, not 6; next_year loses 0 points, not 8",
        ),
        ({"penalty_percent": 1.0}, (1, 8, 0), "next_day loses 1 points, not 0; next_year loses 8 points, not 0"),
        ({}, (0, 0, 0), "next_day loses 0 points, not 1; next_year loses 0 points, not 8"),
    ):
        log = autograde(course, with_deadline(lab, **deadline), monkeypatch)
        count = sum(name in says for name in SUBMITTED_AT)
        assert re.findall(r"Penalty of .*", log) == [
            f"Penalty of {counted(count, 'submission')} changed: {says}"
        ] * bool(says)
        assert "0 graded, 3 already graded" in log
        assert marks(course) == {name: (points, 8.0, "good") for name, points in zip(SUBMITTED_AT, lost, strict=True)}
    assert written == {path: path.stat().st_mtime_ns for path in course.rglob("autograded/**/*.ipynb")}


@pytest.mark.slow
def test_late_penalty_in_gradebook(tmp_path: Path, release: NotebookNode) -> None:
    """The gradebook has the deadline of the lab and the late penalties."""
    course = CourseCopy(tmp_path)
    settings = course.root / "amllab" / "checks" / "transfer_learning" / "lab.toml"
    settings.write_text(settings.read_text() + DEADLINE)
    made = new_course(tmp_path / "made")
    (course.root / "gradebook.db").write_bytes((made / "gradebook.db").read_bytes())
    only_freeze = Solution("x", sources={"build_transfer_model": "", "train_with_early_stopping": ""})
    for student, time in SUBMITTED_AT.items():
        submit(course.root, student, b"Dear TA" if student == "letter" else notebook_of(only_freeze, release))
        (course.root / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text(time)
    done = course.run(
        [f"python -m nbgrader autograde {ASSIGNMENT}", f"autograder scores {ASSIGNMENT}"],
    )
    assert "Due date from lab.toml: 2026-12-18 22:59:00 UTC" in done[0].output
    with Gradebook(f"sqlite:///{course.root}/gradebook.db") as gradebook:
        assert gradebook.find_assignment(ASSIGNMENT).duedate == DUE.replace(tzinfo=None)
        submissions = {s.student.id: s for s in gradebook.assignment_submissions(ASSIGNMENT)}
        lost = {student: s.late_submission_penalty for student, s in submissions.items()}
        scores = {student: s.score for student, s in submissions.items()}
    assert lost == {"next_day": 10, "next_year": 20, "letter": 0}
    assert scores == dict.fromkeys(SUBMITTED_AT, 20) | {"letter": 0}
    rows = {
        line.split()[0]: line.split() for line in done[1].output.splitlines() if line.startswith(tuple(SUBMITTED_AT))
    }
    assert "-10" in rows["next_day"]
    assert "-20" in rows["next_year"]


def test_extensions_of_students(course: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions count for new and graded submissions, are shown, and can be changed; a fault stops the run first."""
    late = with_deadline(lab, penalty_percent=10.0)
    for student in ("ada", "ben", "cyd"):
        submit(course, student, b"Dear TA")
        (course / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text("2026-12-20 10:00:00 UTC")
    file = course / "extensions.csv"
    begin = f"student,assignment,until\nada,{ASSIGNMENT},2026-12-20\n"
    file.write_text(f"{begin}ben,{ASSIGNMENT},+1 day\nzoe,{ASSIGNMENT},+1 day\nada,other,+9 days\n")
    log = autograde(course, late, monkeypatch)
    assert "extensions.csv, line 4 has no effect: no student 'zoe'" in log

    def late_days() -> dict[str, float]:
        with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
            rows = gradebook.assignment_submissions(ASSIGNMENT)
            return {row.student.id: round(row.total_seconds_late / 86400, 2) for row in rows}

    assert late_days() == {"ada": 0.0, "ben": 0.46, "cyd": 1.46}
    shown = autograder_cli(course, "scores", ASSIGNMENT)
    assert re.search(r"ada .*  \(\+2\.0 d\)  ", shown.stdout)
    assert re.search(r"ben .*  11\.0 h \(\+24\.0 h\)  ", shown.stdout)
    assert "with an extension of 24.0 h" in autograder_cli(course, "explain", ASSIGNMENT, "ben").stdout

    listed = autograder_cli(course, "attempts", ASSIGNMENT, "ben").stdout.splitlines()[-1].split()
    assert listed[:5] == ["ben", "1", "2026-12-20", "10:00:00", "UTC"]
    assert listed[-2:] == ["0", f"attempts/{ASSIGNMENT}/ben/1"]

    file.write_text(begin.replace("2026-12-20", "+1 h"))
    log = autograde(course, late, monkeypatch)
    assert "extension of ben: none, as extensions.csv has none" in log
    assert "extension of ada: until 2026-12-18 23:59:00 UTC" in log
    assert late_days() == {"ada": 1.42, "ben": 1.46, "cyd": 1.46}
    assert "3 already graded" in log

    file.write_text(f"{begin}cyd,{ASSIGNMENT},soon\n")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode != 0
    assert "Nothing was graded: extensions.csv, line 3: 'soon' is not a date" in done.stderr
    assert late_days() == {"ada": 1.42, "ben": 1.46, "cyd": 1.46}
