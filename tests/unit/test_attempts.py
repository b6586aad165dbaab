"""Attempts that were graded are kept, whatever later ones replace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autograder.course import Course
from autograder.gradebook.attempts import FOLDER, RECORD, attempts_of, keep_attempt
from autograder.results.attempts import list_attempts

LAB = "lab"


def handed_in(course: Path, text: str, time: str = "") -> Path:
    folder = course / "submitted" / "ada" / LAB
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.ipynb").write_text(text)
    (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
    (folder / ".ipynb_checkpoints" / "lab-checkpoint.ipynb").write_text("old")
    if time:
        (folder / "timestamp.txt").write_text(time)
    return folder


def test_attempts_kept(tmp_path: Path) -> None:
    """Each new content is an attempt of its own; grading the last one again changes its points only."""
    first = handed_in(tmp_path, "one", "2026-11-28 10:00:00 UTC")
    keep_attempt(tmp_path, first, LAB, "ada", {"lab": 5.0})
    keep_attempt(tmp_path, first, LAB, "ada", {"lab": 6.0})
    keep_attempt(tmp_path, handed_in(tmp_path, "two"), LAB, "ada", {"a": 1.0, "b": 2.5})
    keep_attempt(tmp_path, handed_in(tmp_path, "one"), LAB, "ada", {"lab": 6.0})
    ((student, kept),) = attempts_of(tmp_path, LAB)
    assert student == "ada"
    assert [(a.number, a.submitted, a.points) for a in kept] == [
        (1, "2026-11-28 10:00:00 UTC", {"lab": 6.0}),
        (2, "2026-11-28 10:00:00 UTC", {"a": 1.0, "b": 2.5}),
        (3, "2026-11-28 10:00:00 UTC", {"lab": 6.0}),
    ]
    folder = tmp_path / FOLDER / LAB / "ada"
    assert [(folder / str(n) / "lab.ipynb").read_text() for n in (1, 2, 3)] == ["one", "two", "one"]
    assert {path.name for path in folder.iterdir()} == {"1", "2", "3", RECORD}
    assert {path.name for path in (folder / "1").iterdir()} == {"lab.ipynb", "timestamp.txt"}


def test_attempts_listed(tmp_path: Path) -> None:
    """The table names points and files; without attempts or with another student, a message says what there is."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    course = Course.find(tmp_path)
    with pytest.raises(LookupError, match="'nbgrader autograde lab' keeps them"):
        list_attempts(course, LAB)
    keep_attempt(tmp_path, handed_in(tmp_path, "one"), LAB, "ada", {"a": 1.0, "b": 2.5})
    line = list_attempts(course, LAB, "ada").splitlines()[-1]
    assert line.split()[0] == "ada"
    assert line.endswith("3.5  attempts/lab/ada/1")
    with pytest.raises(LookupError, match="no attempt for lab by 'adaa'; similar: ada; there are: ada"):
        list_attempts(course, LAB, "adaa")


RECORDED = {"number": 1, "digest": "", "submitted": "", "graded": "", "points": {"lab": 5.0}}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        '[{"number": 1}]',
        "\0",
        json.dumps([RECORDED | {"points": [1, 2]}]),
        json.dumps([RECORDED | {"points": {"lab": None}}]),
        json.dumps([RECORDED | {"number": "1"}]),
        json.dumps([RECORDED | {"submitted": None}]),
        "[" * 10_000,
    ],
)
def test_attempts_damaged_record(tmp_path: Path, content: str) -> None:
    """A damaged record is named, and nothing is overwritten."""
    folder = handed_in(tmp_path, "one")
    keep_attempt(tmp_path, folder, LAB, "ada", {"lab": 5.0})
    file = tmp_path / FOLDER / LAB / "ada" / RECORD
    file.write_text(content)
    with pytest.raises(ValueError, match=r"attempts/lab/ada/attempts.json is damaged .*: move it away"):
        keep_attempt(tmp_path, handed_in(tmp_path, "two"), LAB, "ada", {"lab": 6.0})
    assert file.read_text() == content
    assert (file.parent / "1" / "lab.ipynb").read_text() == "one"


def test_attempts_replace_nothing(tmp_path: Path) -> None:
    """If the record is lost, or the next number is taken, a new attempt replaces no earlier copy."""
    keep_attempt(tmp_path, handed_in(tmp_path, "one"), LAB, "ada", {"lab": 5.0})
    folder = tmp_path / FOLDER / LAB / "ada"
    (folder / RECORD).unlink()
    keep_attempt(tmp_path, handed_in(tmp_path, "two"), LAB, "ada", {"lab": 6.0})
    (folder / "3").write_text("notes of a person")
    keep_attempt(tmp_path, handed_in(tmp_path, "three"), LAB, "ada", {"lab": 7.0})
    assert [(folder / str(n) / "lab.ipynb").read_text() for n in (1, 2, 4)] == ["one", "two", "three"]
    assert (folder / "3").read_text() == "notes of a person"
    assert [attempt.number for _, kept in attempts_of(tmp_path, LAB) for attempt in kept] == [2, 4]


def test_attempts_after_a_run_that_was_killed(tmp_path: Path) -> None:
    """A copy that is not in the record yet is not made twice."""
    keep_attempt(tmp_path, handed_in(tmp_path, "one"), LAB, "ada", {"lab": 5.0})
    folder = tmp_path / FOLDER / LAB / "ada"
    before = (folder / RECORD).read_bytes()
    keep_attempt(tmp_path, handed_in(tmp_path, "two"), LAB, "ada", {"lab": 6.0})
    (folder / RECORD).write_bytes(before)
    (folder / "part").mkdir()
    keep_attempt(tmp_path, handed_in(tmp_path, "two"), LAB, "ada", {"lab": 6.0})
    keep_attempt(tmp_path, handed_in(tmp_path, "three"), LAB, "ada", {"lab": 7.0})
    assert {path.name for path in folder.iterdir()} == {"1", "2", "3", RECORD}
    assert [attempt.number for _, kept in attempts_of(tmp_path, LAB) for attempt in kept] == [1, 2, 3]
