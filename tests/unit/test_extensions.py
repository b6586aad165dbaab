"""Extensions of single students, as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from autograder.gradebook.extensions import FILE, misspelled_assignments, read_extensions

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
        ("2026-12-20 6pm", timedelta(days=1, hours=18, minutes=1)),
        ("Thu 17 Dec 2026", timedelta(0)),
        ("Sun 20 Dec 2026", timedelta(days=2, seconds=59)),
        ("2 days", timedelta(days=2)),
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
        "sep=;\nstudent;assignment;until;why, in a word, or two, or three\nada;lab;+2 days;ill, very\n",
        "student,assignment,until\rada,lab,+2 days\r",
        'student,assignment,until,why\nada,lab,+2 days,"ill\nand tired"\nben,other,+2 days,5" more\n',
        "student\tassignment\tuntil\nada\tlab\t+2 days\n".encode("utf-16"),
    ],
)
def test_extensions_files(tmp_path: Path, content: str | bytes) -> None:
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
        ("student,assignment,until\nada,lab,soon", "extensions.csv, line 2: 'soon' is not a date"),
        ("student,assignment,until\n\nada,lab,", "extensions.csv, line 3: the time is missing: write a time such as"),
        ("student,assignment,until\nada,lab", "line 2: the time is missing"),
        ("student,assignment,until\nada,lab,+2", "line 2: '+2' is no length of time"),
        ("student,assignment,until\nada,lab,03.04.2026", "can be read as several"),
        ("student,assignment,until\nada,lab,2026-12-20 10:00 XYZ", "the time zone 'XYZ' is not known"),
        ("student,assignment,until\n,lab,+2 days", "line 2: the student is missing"),
        ("student,assignment,until\nada,lab,+2 days\nada,lab,+3 days", "line 3: ada is in line 2, too"),
        ("student,assignment,until\nzo\u00eb,lab,+2 days".encode("latin-1"), "cannot be read"),
        (
            "student,assignment,until\nada,lab,+999999999999 weeks",
            "line 2: '+999999999999 weeks' is longer than 3660 days",
        ),
        ("student,assignment,until\nada,lab,+2 months", "line 2: '+2 months' is no length of time"),
        ("student,assignment,until\nada,lab,2026-12-20 24:00", "line 2: '2026-12-20 24:00' is not a date"),
        ("student,assignment,until\nada,,+2 days", "line 2: the assignment is missing"),
        (
            'student,assignment,until,why\nada,lab,+2 days,"ill\nben,lab,+2 days\n',
            "line 2: a quotation mark is not closed",
        ),
        ('student,assignment,until\n"ada,lab,+2 days\n', "line 2: a quotation mark is not closed"),
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


def test_extensions_that_are_no_file(tmp_path: Path) -> None:
    """A folder or a broken link of this name is not the same as no file."""
    (tmp_path / FILE).mkdir()
    with pytest.raises(ValueError, match="it is not a file"):
        read_extensions(tmp_path, "lab")
    (tmp_path / FILE).rmdir()
    (tmp_path / FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it is not a file"):
        read_extensions(tmp_path, "lab")


def test_extensions_of_misspelled_assignments(tmp_path: Path) -> None:
    """An assignment that is not known is named if it is similar to a known one; a later one may be listed already."""
    lines = ["transfer_learning", "transfer-lerning", "Transfer-Learning", "transfer-learning", "final-project"]
    written(tmp_path, "student,assignment,until\n" + "".join(f"ada,{name},+1 day\n" for name in lines))
    said = misspelled_assignments(tmp_path, {"transfer-learning", "meta-learning"})
    assert [line.partition(" has ")[0] for line in said] == [f"extensions.csv, line {number}" for number in (2, 3, 4)]
    assert said[1].endswith("no assignment 'transfer-lerning'; did you mean transfer-learning?")
