"""Exports of the grades in the gradebook, as nbgrader's own table or as that of a learning platform."""

from __future__ import annotations

from pathlib import Path

from nbgrader.plugins.export import CsvExportPlugin

from autograder.collect.record import Record
from autograder.course import Course
from autograder.exports.canvas import CanvasExportPlugin
from autograder.exports.formats import Options
from autograder.exports.moodle import MoodleExportPlugin
from autograder.results.class_results import from_gradebook, require_gradebook


def write_grades(course: Course, assignment: str, form: str, path: Path, options: Options) -> list[str]:
    """Run nbgrader's own exporter (``csv``) or that of a learning platform, and return its remarks.

    nbgrader's own table has a line for everyone in the gradebook, with 0 for students who submitted nothing.
    """
    require_gradebook(course, assignment)
    with course.gradebook() as gradebook:
        if form == "csv":
            # raises for an unknown assignment, for which nbgrader's exporter would write an empty table
            from_gradebook(gradebook, assignment)
            CsvExportPlugin(to=str(path), assignment=[assignment]).export(gradebook)
            return []
        kind = {"canvas": CanvasExportPlugin, "moodle": MoodleExportPlugin}[form]
        plugin = kind(to=str(path), assignment=[assignment], roster=str(options.roster or ""), column=options.column,
                      partial=options.partial)  # fmt: skip
        plugin.record = Record.read(course.root)
        return plugin.run(gradebook)
