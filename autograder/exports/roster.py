"""A class list exported from a learning platform, to be filled with grades in one column and otherwise unchanged."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from autograder.collect.names import letters
from autograder.exports.grades import StudentGrade
from autograder.text import number, safe_line

BOM = "\ufeff"  # Canvas and Moodle start their files with it, for spreadsheets
_DELIMITERS = ",;\t"
_OWN_NUMBER = re.compile(r"-(\d+)$")  # autograder.collect appends it to a name that two students share


@dataclass
class Sheet:
    """A CSV file in memory.

    Attributes:
        header: Names of the columns.
        rows: Rows below the header, each as long as it.
        delimiter: Delimiter of the fields, for reading and writing.
        bom: Whether the file starts with a byte order mark, for reading and writing.
        terminator: Line terminator, for reading and writing.
    """

    header: list[str]
    rows: list[list[str]]
    delimiter: str
    bom: bool
    terminator: str

    @classmethod
    def read(cls, path: Path, required: Sequence[str]) -> Sheet:
        """Read a CSV file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is not CSV in UTF-8, has a row longer than the header, or lacks a required column; the
                message then names the columns that it has.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no roster {path}: export it from the learning platform first")
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise ValueError(
                f"{path.name} is not text in UTF-8: export it again, do not save it from a spreadsheet"
            ) from None
        bom = text.startswith(BOM)
        text = text.removeprefix(BOM)
        terminator = "\r\n" if "\r\n" in text else "\n"
        try:
            read = {mark: [row for row in csv.reader(StringIO(text), delimiter=mark) if row] for mark in _DELIMITERS}
        except csv.Error as error:
            raise ValueError(f"{path.name} is not CSV: {error}") from None
        # the right delimiter is the one that yields the most columns
        delimiter, (header, *rows) = max(
            ((mark, lines or [[]]) for mark, lines in read.items()), key=lambda item: len(item[1][0])
        )
        if lacks := [name for name in required if name not in header]:
            there = ", ".join(map(safe_line, header)) or "none"
            raise ValueError(f"{path.name} lacks the columns {', '.join(lacks)}; it has: {there}")
        if uneven := [i for i, row in enumerate(rows, 2) if len(row) > len(header)]:
            raise ValueError(f"{path.name}: row {uneven[0]} has more fields than the first")
        return cls(header, [row + [""] * (len(header) - len(row)) for row in rows], delimiter, bom, terminator)

    def text(self) -> str:
        """Return the content as CSV.

        No field is changed, not even one that a spreadsheet would run as a formula: platforms compare them.
        """
        out = StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator=self.terminator)
        writer.writerows([self.header, *self.rows])
        return (BOM if self.bom else "") + out.getvalue()

    def get(self, row: Sequence[str], column: str) -> str:
        """Return a field without surrounding whitespace, or an empty string if there is no such column."""
        return row[self.header.index(column)].strip() if column in self.header else ""


@dataclass(frozen=True)
class Person:
    """The person that a row is about: ids and addresses, which must match as a whole, and a name."""

    keys: Sequence[str]
    name: str


def fill(
    sheet: Sheet, column: int, found: Iterable[StudentGrade], person: Callable[[Sequence[str]], Person | None]
) -> list[str]:
    """Fill a column with grades in all rows that belong to a student, and leave everything else unchanged.

    Args:
        sheet: Sheet to change in place.
        column: Index of the grade column.
        found: Grades.
        person: Function that returns the person a row is about, or ``None`` if it is about nobody.

    Returns:
        Remarks on all students whose grade is not filled in, and on rows without a student in the gradebook.
    """
    student_grades = list(found)
    rows = {i: who for i, row in enumerate(sheet.rows) if (who := person(row)) is not None}
    matches = _match(student_grades, rows)
    taken = Counter(i for i in matches.values() if i is not None)
    remarks = []
    for standing in student_grades:
        i, name = matches[standing.student], safe_line(standing.student)
        if i is not None and taken[i] > 1:
            remarks.append(f"{name}: not filled in, row {i + 2} ({safe_line(rows[i].name)}) matches several students")
        elif standing.total is None:
            remarks.append(f"{name}: no grade, {standing.why}" + (" (and not in the roster)" if i is None else ""))
        elif i is None:
            remarks.append(f"{name}: {number(standing.total)} points, but no row of the roster matches, or several do")
        else:
            sheet.rows[i][column] = number(standing.total)
    remarks += [
        f"row {i + 2} ({safe_line(who.name)}): no student in the gradebook matches"
        for i, who in rows.items()
        if i not in taken
    ]
    return remarks


def _match(student_grades: Sequence[StudentGrade], rows: dict[int, Person]) -> dict[str, int | None]:
    """Map each student to a row, or to ``None`` if there is no unique match.

    Ids and addresses are compared first, then names.
    """
    by_key = _index({i: [key.casefold() for key in who.keys if key] for i, who in rows.items()})
    by_name = _index({i: [letters(who.name)] for i, who in rows.items() if letters(who.name)})
    names = _index({s.student: _names(s) for s in student_grades})
    found: dict[str, int | None] = {}
    for standing in student_grades:
        keys = [
            standing.student,
            standing.email,
            standing.lms_user_id,
            *standing.numbers,
            *_OWN_NUMBER.findall(standing.student),
        ]
        hits = {i for key in keys if key for i in by_key.get(key.casefold(), ())}
        if not hits:
            hits = {i for name in _names(standing) if len(names[name]) == 1 for i in by_name.get(name, ())}
        found[standing.student] = hits.pop() if len(hits) == 1 else None
    return found


def _index(keys: dict[object, list[str]] | dict[int, list[str]] | dict[str, list[str]]) -> dict[str, set[int]]:
    index: dict[str, set[int]] = {}
    for owner, names in keys.items():
        for name in names:
            index.setdefault(name, set()).add(owner)  # type: ignore[arg-type]
    return index


def _names(standing: StudentGrade) -> list[str]:
    """Return the ways in which the student's name may be written.

    These are the spelling in the id, which comes from the name of a file, and those in the gradebook.
    """
    first, last = standing.first_name, standing.last_name
    written = {letters(_OWN_NUMBER.sub("", standing.student))}
    if first and last:
        written |= {letters(first + last), letters(last + first)}
    return sorted(written - {""})
