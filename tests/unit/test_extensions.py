"""Extensions of single students, as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from autograder.gradebook.extensions import FILE, read_extensions

DUE = datetime(2026, 12, 18, 22, 59)  # UTC
CET = timezone(timedelta(hours=1))


def written(folder: Path, content: str | bytes) -> Path:
    (folder / FILE).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    ("until", "after"),
    [
        ("+2 days", timedelta(days=2)),
        ("+36h", timedelta(hours=36)),
        ("+ 1.5 Weeks", timedelta(days=10.5)),
        ("2026-12-20 23:59 +0100", timedelta(days=2)),
        ("2026-12-20 22:59 UTC", timedelta(days=2)),
        ("2026-12-20T22:59:00Z", timedelta(days=2)),
        ("2026-12-20 23:59", timedelta(days=2)),  # in the zone of the deadline
        ("2026-12-20", timedelta(days=2, seconds=59)),  # to the end of that day
        ("20.12.2026 23:59", timedelta(days=2)),
        ("20 December 2026", timedelta(days=2, seconds=59)),
        ("2026-12-17", timedelta(0)),  # before the due date: no extension, and never a shorter time
    ],
)
def test_extensions_times(tmp_path: Path, until: str, after: timedelta) -> None:
    """Times, dates and durations are understood; a date includes its day."""
    course = written(tmp_path, f"student,assignment,until\nada,lab,{until}\n")
    found = read_extensions(course, "lab", CET)
    assert found is not None
    assert found["ada"].after(DUE) == after


@pytest.mark.parametrize(
    "content",
    [
        "student,assignment,until\nada,lab,+2 days\n",
        "\ufeffStudent;Assignment;Until\r\nada;lab;+2 days\r\n\r\n",
        "until\tnotes\tstudent\tassignment\n+2 days\till, see mail\tada\tlab\n",
        '# agreed in week 3\n"student", "assignment", "until"\n"ada" , lab , +2 days\n#ben,lab,+9 days\n',
        "student,assignment,until,why\nada,lab,+2 days\n,,,\nada,other,nonsense\n",
    ],
)
def test_extensions_files(tmp_path: Path, content: str) -> None:
    """The file may come from a spreadsheet or an editor; lines of other assignments do not matter."""
    found = read_extensions(written(tmp_path, content), "lab")
    assert found is not None
    assert {student: extension.longer for student, extension in found.items()} == {"ada": timedelta(days=2)}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            "student,until\nada,+2 days",
            "lacks the column assignment: its first line must be 'student,assignment,until'",
        ),
        ("", "lacks the columns student, assignment, until"),
        ("student,assignment,until\nada,lab,soon", "extensions.csv, line 2: 'soon 23:59:59' is not a date"),
        ("student,assignment,until\n\nada,lab,", "extensions.csv, line 3: the time is missing: write a time such as"),
        ("student,assignment,until\nada,lab", "line 2: the time is missing"),
        ("student,assignment,until\nada,lab,+2", "line 2: '+2 23:59:59' is not a date"),
        ("student,assignment,until\nada,lab,03.04.2026", "can be read as several"),
        ("student,assignment,until\nada,lab,2026-12-20 10:00 XYZ", "the time zone 'XYZ' is not known"),
        ("student,assignment,until\n,lab,+2 days", "line 2: the student is missing"),
        ("student,assignment,until\nada,lab,+2 days\nada,lab,+3 days", "line 3: ada is in line 2, too"),
        ("student,assignment,until\nada,lab,+2 days".encode("utf-16"), "cannot be read"),
    ],
)
def test_extensions_faults(tmp_path: Path, content: str | bytes, fault: str) -> None:
    """A fault is named with its line, and what is expected."""
    with pytest.raises(ValueError, match=FILE) as found:
        read_extensions(written(tmp_path, content), "lab")
    assert fault in str(found.value)


def test_extensions_without_file(tmp_path: Path) -> None:
    """A course without the file keeps extensions that were entered in another way."""
    assert read_extensions(tmp_path, "lab") is None
