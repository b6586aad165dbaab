"""Exports to Moodle: the offline grading worksheet of an assignment, and a CSV file for *Grades > Import*.

The worksheet (*Assignment > Submissions > Download grading worksheet*) has the columns ``Identifier`` ("Participant"
and a number that only Moodle knows), ``Full name``, ``Email address``, ``Status``, ``Grade``, ``Maximum Grade``,
``Grade can be changed``, ``Last modified (submission)``, ``Last modified (grade)`` and ``Feedback comments``, and some
more with other settings. Moodle reads ``Identifier``, ``Grade`` and ``Last modified (grade)``, by these names, and
rejects a file that lacks one of them. The worksheet must therefore be filled in (``--roster``). A file made without a
worksheet is for *Grades > Import > CSV file*, where the user selects that ``Email address`` identifies students and
``Grade`` is the item.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from autograder.exports.grades import StudentGrade
from autograder.exports.lms import LearningPlatformPlugin
from autograder.exports.roster import Person, Sheet, fill
from autograder.text import csv_text, number, safe_line

IDENTIFIER, GRADE, MODIFIED = "Identifier", "Grade", "Last modified (grade)"
COLUMNS = (IDENTIFIER, "Full name", "Email address", "Status", GRADE, "Maximum Grade", "Grade can be changed",
           "Last modified (submission)", MODIFIED, "Feedback comments")  # fmt: skip
_NUMBER = re.compile(r"\d+$")


class MoodleExportPlugin(LearningPlatformPlugin):
    """Exporter for ``nbgrader export --exporter=autograder.exports.moodle.MoodleExportPlugin``."""

    def write(self, found: Sequence[StudentGrade], points: float, assignment: str) -> tuple[str, list[str]]:
        """Return the content of the CSV file, and remarks."""
        if self.roster:
            return filled(Path(self.roster), found, points, self.column or GRADE)
        return made(found, points)


def made(found: Sequence[StudentGrade], points: float) -> tuple[str, list[str]]:
    """Create a file from the gradebook alone.

    ``Identifier`` contains the student's ``lms_user_id`` in nbgrader, and is empty if there is none.
    """
    rows = [
        [
            f"Participant {s.lms_user_id}" if s.lms_user_id else "",
            " ".join(filter(None, [s.first_name, s.last_name])) or s.student,
            s.email,
            s.why.capitalize() or "Graded",
            number(s.total),
            number(points),
            "Yes",
            "",
            "",
            "",
        ]
        for s in found
    ]
    remarks = [f"{safe_line(s.student)}: no grade, {s.why}" for s in found if s.total is None]
    if nowhere := [safe_line(s.student) for s in found if not s.email]:
        remarks.append(
            f"no e-mail address in the gradebook, so Moodle cannot identify these students: {', '.join(nowhere)}"
        )
    remarks.append("this is for Grades > Import; to fill in the assignment's grading worksheet, give it as --roster")
    return csv_text(COLUMNS, rows), remarks


def filled(path: Path, found: Sequence[StudentGrade], points: float, column: str = GRADE) -> tuple[str, list[str]]:
    """Fill the grade column of a grading worksheet.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file lacks a column; the message names those that it has.
    """
    sheet = Sheet.read(path, (IDENTIFIER, column, MODIFIED))
    index = sheet.header.index(column)
    most = {
        value for row in sheet.rows if (value := sheet.get(row, "Maximum Grade") or sheet.get(row, "Maximum grade"))
    }
    remarks = [
        f"Moodle has a maximum grade of {safe_line(value)}, the gradebook {number(points)}: scores are not converted"
        for value in sorted(most)
        if _float(value) not in (None, points)
    ]
    remarks += [
        f"row {i} ({safe_line(sheet.get(row, 'Full name'))}): Moodle says that the grade cannot be changed"
        for i, row in enumerate(sheet.rows, 2)
        if sheet.get(row, "Grade can be changed").casefold() == "no"
    ]

    def person(row: Sequence[str]) -> Person | None:
        identifier, email = sheet.get(row, IDENTIFIER), sheet.get(row, "Email address")
        keys = [email, email.partition("@")[0], sheet.get(row, "ID number"), sheet.get(row, "Username")]
        keys += _NUMBER.findall(identifier)
        return Person(keys, sheet.get(row, "Full name") or identifier) if identifier else None

    remarks += fill(sheet, index, found, person)
    return sheet.text(), remarks


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
