"""Exports to Canvas: the CSV file for *Grades > Import*, which is that of *Grades > Export* with one column filled in.

An export has these columns, which the import needs again: ``Student``, ``ID`` (Canvas's own), ``SIS User ID``,
``SIS Login ID``, ``Section``, then one column for each assignment, headed by its name with its id in parentheses.
Canvas finds students by the three ids and assignments by the id in parentheses; a heading without an id creates a new
assignment. The row *Points Possible* is indented by four spaces, as Canvas writes it. An empty field leaves the grade
unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autograder.collect.names import letters
from autograder.exports.grades import StudentGrade
from autograder.exports.lms import LearningPlatformPlugin, title_of
from autograder.exports.roster import Person, Sheet, fill
from autograder.text import csv_text, number, safe_line

COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
POINTS = "    Points Possible"
_ASSIGNMENT = re.compile(r"(?P<name>.+) \(\d+\)$")
_TEST_STUDENT = "studenttest"  # "Student, Test" is the student in Canvas's preview of a course


class CanvasExportPlugin(LearningPlatformPlugin):
    """Exporter for ``nbgrader export --exporter=autograder.exports.canvas.CanvasExportPlugin``."""

    def write(self, found: Sequence[StudentGrade], points: float, assignment: str) -> tuple[str, list[str]]:
        """Return the content of the CSV file, and remarks."""
        if self.roster:
            return filled(Path(self.roster), found, points, assignment, self.column)
        return made(found, points, self.column or title_of(assignment))


def made(found: Sequence[StudentGrade], points: float, column: str) -> tuple[str, list[str]]:
    """Create a file from the gradebook alone.

    ``ID`` is the student's ``lms_user_id`` in nbgrader, and empty if there is none.
    """
    rows: list[Sequence[str]] = [[_name(s), s.lms_user_id, "", s.student, "", number(s.total)] for s in found]
    remarks = [f"{safe_line(s.student)}: no grade, {s.why}" for s in found if s.total is None]
    if not _ASSIGNMENT.match(column):
        remarks.append(
            f"Canvas will create a new assignment {column!r}: to fill an existing one, give its heading in an export of "
            "the gradebook, such as --column 'Lab 1 (4711)', or the export itself as --roster"
        )
    return csv_text([*COLUMNS, column], [[POINTS, "", "", "", "", number(points)], *rows]), remarks


def filled(
    path: Path, found: Sequence[StudentGrade], points: float, assignment: str, column: str = ""
) -> tuple[str, list[str]]:
    """Fill the assignment's column in an export of Canvas's gradebook.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file lacks a column, or several columns fit; the message names the columns that it has.
    """
    sheet = Sheet.read(path, COLUMNS[:2])
    index = _column(sheet, assignment, column)
    remarks = []
    for row in sheet.rows:
        if _is_points(row[sheet.header.index("Student")]) and row[index].strip():
            possible = row[index].strip()
            if _float(possible) != points:
                remarks.append(
                    f"Canvas has {safe_line(possible)} points for {safe_line(sheet.header[index])}, the gradebook {number(points)}: "
                    "scores are not converted"
                )

    def person(row: Sequence[str]) -> Person | None:
        name, login = sheet.get(row, "Student"), sheet.get(row, "SIS Login ID")
        # the rows above the students have no id
        if not name or _is_points(name) or not sheet.get(row, "ID") or letters(name) == _TEST_STUDENT:
            return None
        return Person([login, login.partition("@")[0], sheet.get(row, "SIS User ID"), sheet.get(row, "ID")], name)

    remarks += fill(sheet, index, found, person)
    return sheet.text(), remarks


def _column(sheet: Sheet, assignment: str, column: str) -> int:
    headings = [name for name in sheet.header if _ASSIGNMENT.match(name)]
    if column:
        chosen = [name for name in sheet.header if name == column]
    else:
        wanted = {letters(assignment), letters(title_of(assignment))}
        chosen = [name for name in headings if letters(_ASSIGNMENT.sub(r"\g<name>", name)) in wanted]
    if len(chosen) != 1:
        there = ", ".join(repr(safe_line(name)) for name in headings) or "none"
        raise ValueError(
            f"{'several columns' if chosen else 'no column'} in the roster for {column or assignment}: "
            f"name one with --column; assignments in it: {there}"
        )
    return sheet.header.index(chosen[0])


def _name(standing: StudentGrade) -> str:
    """Return the name as Canvas sorts it, with the last name first."""
    return ", ".join(filter(None, [standing.last_name, standing.first_name])) or standing.student


def _is_points(name: str) -> bool:
    return name.strip().casefold() == "points possible"


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
