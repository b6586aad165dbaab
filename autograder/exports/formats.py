"""The formats of ``autograder export``, and their options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMATS = {
    "csv": "reports/{}-grades.csv",
    "canvas": "reports/{}-canvas.csv",
    "moodle": "reports/{}-moodle.csv",
    "canvas-feedback": "reports/{}-canvas-feedback.zip",
    "moodle-feedback": "reports/{}-moodle-feedback.zip",
    "pdf": "reports/{}-pdf",
    "gradescope-results": "reports/{}-gradescope",
    "gradescope-autograder": "dist/{}-gradescope.zip",
}


@dataclass(frozen=True)
class Options:
    """Options that apply only to some formats.

    Attributes:
        roster: CSV file exported from Canvas or Moodle, to be filled in.
        column: Heading of the grade column.
        partial: Whether to export the points so far of submissions that wait for manual grading.
        isolation: Isolation of the autograder for Gradescope; see :mod:`autograder.exports.gradescope.package`.
    """

    roster: Path | None = None
    column: str = ""
    partial: bool = False
    isolation: str = "where-possible"
