"""Grades for the platforms that courses use: ``autograder export LAB --format ...``.

The formats of Canvas and Moodle are plugins of nbgrader as well, so that its own command takes them::

    nbgrader export --exporter=autograder.exports.canvas.CanvasExportPlugin --assignment transfer-learning
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.course import Course

__all__ = ["FORMATS", "Options", "export"]

FORMATS = {
    "csv": "reports/{}-grades.csv",
    "canvas": "reports/{}-canvas.csv",
    "moodle": "reports/{}-moodle.csv",
    "canvas-feedback": "reports/{}-canvas-feedback.zip",
    "moodle-feedback": "reports/{}-moodle-feedback.zip",
    "gradescope-results": "reports/{}-gradescope",
    "gradescope-autograder": "dist/{}-gradescope.zip",
}


@dataclass(frozen=True)
class Options:
    """What only some formats heed.

    Attributes:
        roster: a CSV exported from Canvas or Moodle, to be filled in.
        column: heading of the column of grades.
        partial: export what is there of submissions that wait for a person.
        isolation: of the autograder for Gradescope; see :mod:`autograder.exports.gradescope.package`.
    """

    roster: Path | None = None
    column: str = ""
    partial: bool = False
    isolation: str = "where-possible"


def export(
    course: Course, assignment: str, form: str, output: Path | None = None, options: Options | None = None
) -> tuple[Path, Sequence[str]]:
    """Writes the grades of an assignment, or what grades it.

    Args:
        course: whose gradebook is read.
        assignment: such as ``"transfer-learning"``.
        form: one of ``FORMATS``.
        output: file to write (``gradescope-results``: folder); in the course by default.
        options: what only some formats heed.

    Returns:
        What was written, and remarks: whose grade is missing, who was not found, what does not fit.

    Raises:
        FileNotFoundError: there is no gradebook, roster, release or solution.
        LookupError: no such assignment.
        ValueError: the roster lacks a column, or an option does not go with the format.
    """
    options = options or Options()
    if options.roster is not None and form not in ("canvas", "moodle"):
        raise ValueError(f"--roster goes with the formats canvas and moodle, not with {form}")
    path = output or course.root / FORMATS[form].format(assignment)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "gradescope-autograder":
        from autograder.exports.gradescope.package import write_zip

        return path, write_zip(course, assignment, path, options.isolation)
    if form == "gradescope-results":
        from autograder.exports.gradescope.results import write_results

        return path, write_results(course, assignment, path)
    if form.endswith("-feedback"):
        from autograder.exports.feedback import write_feedback

        return path, write_feedback(course, assignment, form.removesuffix("-feedback"), path)
    from autograder.exports.lms import write_grades

    return path, write_grades(course, assignment, form, path, options)
