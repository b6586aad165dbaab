"""Grades for the platforms that courses use: ``autograder export LAB --format ...``.

The formats of Canvas and Moodle are plugins of nbgrader as well, so that its own command takes them::

    nbgrader export --exporter=autograder.exports.canvas.CanvasExportPlugin --assignment transfer-learning
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autograder.course import Course
from autograder.exports.formats import FORMATS, Options

__all__ = ["FORMATS", "Options", "export"]


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
    from autograder.exports.gradebook import write_grades

    return path, write_grades(course, assignment, form, path, options)
