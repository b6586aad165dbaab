"""A ``timestamp.txt`` without a valid time, with the real nbgrader command line.

That student is graded as if the file were missing, and nobody else is affected.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from autograder.gradebook.timestamps import ASIDE, NAME, read_timestamp
from tests.conftest import nbgrader, new_course, scores, submit
from tests.helpers.mini_lab import ASSIGNMENT

TEN = datetime(2026, 11, 28, 10)
NO_TIMES = {
    "text": b"next tuesday-ish at 25:99",
    "bytes": b"\xff\xfe\0",
    "binary": bytes(range(256)),
    "year": b"9" * 23 + b"-01-01 00:00:00 UTC",
    "early": b"0001-01-01 00:00:00 +0100",
    "late": b"9999-12-31 23:59:59 -1200",
    "empty": b"",
    "blanks": b" \n\n",
    "excel": b"46354.4166",
    "seconds": b"1764324000",
    "hour": b"10:00",
    "weekday": b"Monday",
    "ambiguous": b"05.06.2026 10:00",
    "zone": b"2026-11-28 10:00:00 MESZ",
    "short_year": b"26-11-28 10:00",
    "zone_within": b"Sat Nov 28 10:00:00 XYZ 2026",
    "no_day": b"2026-02-30 10:00",
    "several": b"2026-11-28 10:00\n2026-11-29 10:00",
    "long": b"2026-11-28 10:00:00 UTC" + b" " * 10**6,
}
TIMES = {
    "nbgrader": b"2026-11-28 10:00:00 UTC",
    "fraction": b"2026-11-28 10:00:00.000000 UTC",
    "iso": b"2026-11-28T10:00",
    "iso_zone": b"2026-11-28T11:00:00+01:00",
    "offset": b"2026-11-28 11:00:00 +0100",  # nbgrader itself takes this for an offset of 100 seconds
    "cet": b"2026-11-28 11:00 CET",
    "berlin": b"2026-11-28 11:00 Europe/Berlin",
    "german": b"28.11.2026 10:00",
    "american": b"11/28/2026 10:00 AM",
    "date": b"Sat Nov 28 11:00:00 CET 2026",
    "mail": b"Sat, 28 Nov 2026 11:00:00 +0100",
    "utf16": "2026-11-28 10:00:00 UTC".encode("utf-16"),
    "bom": b"\xef\xbb\xbf2026-11-28 10:00:00 UTC\r\n",
    "remark": b"2026-11-28 10:00:00 UTC\n(came by mail)\n",
}


# a sample of each kind, for the tests with the command line
WITHOUT = ("text", "bytes", "year", "empty", "ambiguous", "several")
WITH = ("nbgrader", "iso", "offset", "date", "remark")


@pytest.mark.parametrize("name", NO_TIMES)
def test_timestamp_invalid(tmp_path: Path, name: str) -> None:
    """Texts that are not a time are rejected with a reason."""
    (tmp_path / NAME).write_bytes(NO_TIMES[name])
    read = read_timestamp(tmp_path)
    assert read is not None
    assert read.time is None
    assert read.why


@pytest.mark.parametrize("name", TIMES)
def test_timestamp_valid(tmp_path: Path, name: str) -> None:
    """Common spellings of a time are read."""
    (tmp_path / NAME).write_bytes(TIMES[name])
    read = read_timestamp(tmp_path)
    assert read is not None
    assert read.time == TEN


def _chosen() -> list[tuple[str, bytes]]:
    return [(name, (NO_TIMES | TIMES)[name]) for name in WITHOUT + WITH]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    for student, content in [("aa", TIMES["nbgrader"]), ("zz", TIMES["nbgrader"]), *_chosen()]:
        submit(course, student, b"Dear TA")
        (course / "submitted" / student / ASSIGNMENT / NAME).write_bytes(content)
    submit(course, "folder", b"Dear TA")
    (course / "submitted" / "folder" / ASSIGNMENT / NAME).mkdir()
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    return course, done.stderr


def test_timestamp_invalid_still_graded(graded: tuple[Path, str]) -> None:
    """All submissions are graded, those with an invalid timestamp without a submission time."""
    course, _ = graded
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        times = {s.student_id: s.timestamp for s in gradebook.assignment_submissions(ASSIGNMENT)}
    without = dict.fromkeys([*WITHOUT, "folder"])
    assert times == dict.fromkeys(["aa", "zz", *WITH], TEN) | without
    assert all(set(scores(course, student).values()) >= {0.0} for student in times)


def test_timestamp_invalid_logged_once(graded: tuple[Path, str]) -> None:
    """One line for each invalid timestamp names the file and what to do."""
    _, log = graded
    for student in [*WITHOUT, "folder"]:
        (line,) = [line for line in log.splitlines() if f"] {student}: timestamp.txt" in line]
        assert "Graded without a submission time" in line
        assert ASIDE in line
        assert "write a time such as" in line
    assert not [line for line in log.splitlines() if "] aa: timestamp" in line or "] zz: timestamp" in line]


def test_timestamp_original_kept(graded: tuple[Path, str]) -> None:
    """The original content of a replaced timestamp file is kept in a second file."""
    course, _ = graded
    for student in WITHOUT:
        assert (course / "submitted" / student / ASSIGNMENT / ASIDE).read_bytes() == NO_TIMES[student]
    assert (course / "submitted" / "offset" / ASSIGNMENT / ASIDE).read_bytes() == TIMES["offset"]


def test_timestamp_invalid_other_commands(graded: tuple[Path, str]) -> None:
    """Formgrader's pages and a second autograde run work after invalid timestamps."""
    course, _ = graded
    api = NbGraderAPI(CourseDirectory(root=str(course)))  # used by formgrader's pages
    assert {row["student"] for row in api.get_submissions(ASSIGNMENT)} >= {"aa", "zz", *WITHOUT, *WITH}
    again = nbgrader(course, "autograde", ASSIGNMENT)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "0 graded, " in again.stderr


def test_timestamp_corrected_later(graded: tuple[Path, str]) -> None:
    """A valid time that is written later enters the gradebook with the next run."""
    course, _ = graded
    (course / "submitted" / "text" / ASSIGNMENT / NAME).write_text("2026-11-28 11:00:00 +0100")
    assert nbgrader(course, "autograde", ASSIGNMENT, "--student=text").returncode == 0
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        assert gradebook.find_submission(ASSIGNMENT, "text").timestamp == TEN
