"""The common part of the exports to learning platforms, as plugins of nbgrader's ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.plugins.export import ExportPlugin
from traitlets import Bool, Unicode

from amllab.lab import find_lab
from autograder.collect.record import Record
from autograder.exports.formats import FORMATS
from autograder.exports.grades import StudentGrade, student_grades


def title_of(assignment: str) -> str:
    """Return the lab's title, or the assignment's name if no lab is installed for it."""
    try:
        return find_lab(assignment).title
    except (LookupError, ValueError):
        return assignment


class LearningPlatformPlugin(ExportPlugin):  # type: ignore[misc]
    """An exporter for the grades of one assignment; each platform defines the format."""

    roster = Unicode("", help="CSV exported from the platform, to fill in").tag(config=True)
    column = Unicode("", help="Heading of the grade column").tag(config=True)
    partial = Bool(False, help="Also export submissions whose manual grading is not finished").tag(config=True)

    record: Record | None = None

    def export(self, gradebook: Gradebook) -> None:
        """Write the file when called by nbgrader, with remarks in its log."""
        self.record = Record.read(Path(self.parent.coursedir.root))
        for remark in self.run(gradebook):
            self.log.warning(remark)

    def run(self, gradebook: Gradebook) -> list[str]:
        """Write the file and return remarks: missing grades, students not found, values that do not match."""
        assignment = self._chosen(gradebook)
        found, points = student_grades(gradebook, assignment, self.partial, self.record)
        if self.student:
            found = [standing for standing in found if standing.student in map(str, self.student)]
        text, remarks = self.write(found, points, assignment)
        form = type(self).__module__.rpartition(".")[2]
        path = Path(self.to or FORMATS[form].format(assignment).rpartition("/")[2])
        path.write_text(text, encoding="utf-8", newline="")
        return remarks

    def write(self, found: Sequence[StudentGrade], points: float, assignment: str) -> tuple[str, list[str]]:
        """Return the content of the file, and remarks."""
        raise NotImplementedError

    def _chosen(self, gradebook: Gradebook) -> str:
        chosen = [str(name) for name in self.assignment] or [row.name for row in gradebook.assignments]
        if len(chosen) != 1:
            raise ValueError(f"name one assignment with --assignment; there are: {', '.join(chosen) or 'none'}")
        return chosen[0]
