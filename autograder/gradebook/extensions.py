"""Extensions of single students, from ``extensions.csv`` in the course to nbgrader's gradebook.

nbgrader stores an extension for each submission, and counts lateness from the extended due date, but has no command to
enter one. The file is a table with the columns ``student``, ``assignment`` and ``until``. If a course has this file, it
is the only source: what it does not list is no extension.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from io import StringIO
from pathlib import Path

from dateutil.parser import parse
from nbgrader.api import Gradebook, SubmittedAssignment

from autograder.gradebook.timestamps import states_zone, time_of
from autograder.text import closest, safe_line

FILE = "extensions.csv"
_COLUMNS = ("student", "assignment", "until")
_EXAMPLE = "write a time such as '2026-12-20 23:59 +0100', a date, or '+2 days'"
_LONGER = re.compile(r"\+? *(?P<number>\d+(?:\.\d+)?) *(?P<unit>hours?|h|days?|d|weeks?|w)", re.I)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LENGTH = re.compile(r"(?:[+-]|[\d.,]+ *[^\W\d]+(?:\(s\))?$)")
_LONGEST = timedelta(days=3660)
_MARKS = ",;\t"
_SEPARATOR = re.compile(r"\Asep=.(?=\n)", re.I)
_SIMILAR = 0.8


@dataclass(frozen=True)
class Extension:
    """A line of the file.

    Attributes:
        student: Id in the gradebook.
        line: Number of the line.
        until: The student's due date, as naive UTC like in nbgrader; ``None`` if ``longer`` is given.
        longer: Time after the due date.
    """

    student: str
    line: int
    until: datetime | None = None
    longer: timedelta | None = None

    def after(self, due: datetime) -> timedelta:
        """Return the time after a due date (naive UTC), which is never negative."""
        given = self.longer if self.until is None else self.until - due
        assert given is not None
        return max(given, timedelta())


def read_extensions(root: Path, assignment: str, zone: tzinfo = UTC) -> dict[str, Extension] | None:
    """Read the extensions of an assignment, by student; ``None`` if the course has no file of extensions.

    Args:
        root: Folder of the course.
        assignment: Name of the assignment.
        zone: Time zone of times that name none.

    Raises:
        ValueError: The file cannot be used; the message names it, the line, and what is expected.
    """
    path = root / FILE
    if not os.path.lexists(path):
        return None
    found: dict[str, Extension] = {}
    for line, row in _rows(path):
        where = f"{FILE}, line {line}"
        if row["assignment"] != assignment:
            continue
        if not row["student"]:
            raise ValueError(f"{where}: the student is missing")
        if (before := found.get(row["student"])) is not None:
            raise ValueError(
                f"{where}: {safe_line(row['student'])} is in line {before.line}, too: keep one of the two lines"
            )
        found[row["student"]] = _extension(row["student"], row["until"], line, zone, where)
    return found


def misspelled_assignments(root: Path, known: Collection[str]) -> list[str]:
    """Return a line for each line of the file whose assignment is not known, but similar to one that is.

    Assignments that come later in the term are not known yet.

    Raises:
        ValueError: The file cannot be used.
    """
    path = root / FILE
    rows = _rows(path) if os.path.lexists(path) else []
    plain = {name.casefold().replace("_", "-"): name for name in known}
    said = []
    for line, row in rows:
        name = row["assignment"]
        similar = difflib.get_close_matches(name.casefold().replace("_", "-"), plain, 1, _SIMILAR)
        if name not in known and similar:
            said.append(
                f"{FILE}, line {line} has no effect: no assignment {safe_line(name)!r}; did you mean {plain[similar[0]]}?"
            )
    return said


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the lines of the file with their numbers, without empty ones and comments."""
    try:
        if not path.is_file():
            raise OSError("it is not a file")
        content = path.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        # Excel's own first line, which says what separates fields; the number of lines stays
        text = _SEPARATOR.sub("#", text)
        head = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
        mark = max(_MARKS, key=lambda mark: (len(_columns_in(head, mark)), head.count(mark)))
        reader = csv.reader(StringIO(text), delimiter=mark, skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"{FILE} cannot be read: {error}. Save it as CSV in UTF-8") from None
    if rows and text.count('"') % 2 and any("\n" in field for field in rows[-1][1]):
        first = rows[-2][0] + 1 if len(rows) > 1 else 1
        raise ValueError(f"{FILE}, line {first}: a quotation mark is not closed, so that all lines below belong to it")
    rows = [(line, [field.strip() for field in row]) for line, row in rows]
    filled = [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]
    header = [name.lower() for name in filled[0][1]] if filled else []
    if missing := [name for name in _COLUMNS if name not in header]:
        raise ValueError(
            f"{FILE} lacks the {'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}: "
            f"its first line must be '{','.join(_COLUMNS)}'"
        )
    found = [
        (line, {name: (row[header.index(name)] if header.index(name) < len(row) else "") for name in _COLUMNS})
        for line, row in filled[1:]
    ]
    for line, row in found:
        if not row["assignment"] and any(row.values()):
            raise ValueError(f"{FILE}, line {line}: the assignment is missing")
    return found


def _columns_in(head: str, mark: str) -> set[str]:
    """Return which columns a header has if this character separates them."""
    names = next(csv.reader([head], delimiter=mark, skipinitialspace=True), [])
    return {name.strip().lower() for name in names} & set(_COLUMNS)


def _extension(student: str, until: str, line: int, zone: tzinfo, where: str) -> Extension:
    if longer := _LONGER.fullmatch(until):
        number, unit = float(longer["number"]), _UNITS[longer["unit"][0].lower()]
        if number * unit.total_seconds() > _LONGEST.total_seconds():
            raise ValueError(f"{where}: {safe_line(until)!r} is longer than {_LONGEST.days} days")
        return Extension(student, line, longer=number * unit)
    if not until:
        raise ValueError(f"{where}: the time is missing: {_EXAMPLE}")
    if _LENGTH.match(until):
        raise ValueError(f"{where}: {safe_line(until)!r} is no length of time: {_EXAMPLE}")
    # a date alone means the end of that day
    stated = time_of(until if _states_time(until) else f"{until} 23:59:59")
    if stated.time is None:
        raise ValueError(f"{where}: {stated.why}: {_EXAMPLE}")
    time = stated.time if states_zone(until) else stated.time.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
    return Extension(student, line, until=time)


def _states_time(until: str) -> bool:
    """Return whether a date has a time of day, so that it does not come from the default; also if it is no date."""
    try:
        found = {parse(until, default=datetime(2000, 1, 1, hour), ignoretz=True).hour for hour in (3, 13)}
    except (ValueError, OverflowError, TypeError, AttributeError, ArithmeticError):
        return True
    return len(found) == 1


def apply_extensions(
    gradebook: Gradebook, assignment: str, extensions: Mapping[str, Extension], submitted: set[str]
) -> list[str]:
    """Store the extensions of all submissions in the gradebook; the caller commits.

    Args:
        gradebook: The open gradebook.
        assignment: Name of the assignment.
        extensions: From :func:`read_extensions`.
        submitted: Students who have a folder in ``submitted/``.

    Returns:
        A line for each extension that changed, and for each line of the file that has no effect.
    """
    due = gradebook.find_assignment(assignment).duedate
    if due is None and extensions:
        return [
            f"{FILE} has no effect: {assignment} has no due date. Set it in formgrader, or in [deadline] of lab.toml"
        ]
    said = []
    for submission in gradebook.assignment_submissions(assignment):
        said += set_extension(submission, extensions.get(submission.student.id), due)
    known = submitted | {student.id for student in gradebook.students}
    for student, extension in extensions.items():
        where = f"{FILE}, line {extension.line}"
        if student not in known:
            said.append(f"{where} has no effect: {closest(student, known, 'student')}")
        elif due is not None and not extension.after(due):
            said.append(f"{where} has no effect: it is not after the due date, {due} UTC")
    return said


def set_extension(submission: SubmittedAssignment, extension: Extension | None, due: datetime | None) -> list[str]:
    """Store an extension, or its absence, in the gradebook's row of a submission; return a line if it changed."""
    given = extension.after(due) if extension is not None and due is not None else timedelta()
    if given == (submission.extension or timedelta()):
        return []
    submission.extension = given or None
    until = f"until {due + given} UTC" if given and due is not None else f"none, as {FILE} has none"
    return [f"extension of {submission.student.id}: {until}"]
