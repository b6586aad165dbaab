"""Exports to the platforms that courses use: ``autograder export LAB --format ...``.

The exports of grades to Canvas and Moodle are also plugins of nbgrader, so that its own command can use them::

    nbgrader export --exporter=autograder.exports.canvas.CanvasExportPlugin --assignment transfer-learning
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from amllab.lab import find_lab
from autograder.exports.formats import FORMATS, Options

if TYPE_CHECKING:  # the command line needs only the names of the formats, and no gradebook
    from autograder.course import Course

__all__ = ["FORMATS", "Options", "export"]


def require_lab(assignment: str, form: str) -> None:
    """Reject an assignment without checks.

    Raises:
        LookupError: There is no such lab.
    """
    try:
        find_lab(assignment)
    except LookupError as error:
        raise LookupError(f"{error}. The format {form} needs the checks of a lab") from None


def export(
    course: Course, assignment: str, form: str, output: Path | None = None, options: Options | None = None
) -> tuple[Path, Sequence[str]]:
    """Write the grades or the feedback of an assignment, or an autograder for it.

    Grades tell students something about the questions. So what is graded for the first time after an export gets others
    (:mod:`autograder.gradebook.rounds`).

    Args:
        course: Course whose gradebook to read.
        assignment: Name of the assignment, such as ``"transfer-learning"``.
        form: One of ``FORMATS``.
        output: File to write (for ``pdf`` and ``gradescope-results``, a folder); in the course by default.
        options: Options that apply only to some formats.

    Returns:
        Path of the output, and remarks: missing grades, students who were not found, values that do not match.

    Raises:
        FileNotFoundError: There is no gradebook, roster, feedback, release or solution.
        LookupError: There is no such assignment.
        ValueError: The roster lacks a column, or an option does not apply to the format.
    """
    options = options or Options()
    if options.roster is not None and form not in ("canvas", "moodle"):
        raise ValueError(f"--roster is only for the formats canvas and moodle, not for {form}")
    path = output or course.root / FORMATS[form].format(assignment)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form.startswith("gradescope"):
        require_lab(assignment, form)
    if form == "gradescope-autograder":
        from autograder.exports.gradescope.package import write_zip

        with _in_one_step(path) as draft:
            return path, write_zip(course, assignment, draft, options.isolation)
    if form == "gradescope-results":
        from autograder.exports.gradescope.results import write_results

        remarks = write_results(course, assignment, path)
        _end_round(course, assignment)
        return path, remarks
    if form == "pdf":
        from autograder.exports.pdf import write_pdfs

        return path, write_pdfs(course, assignment, path)
    if form.endswith("-feedback"):
        from autograder.exports.feedback import write_feedback

        with _in_one_step(path) as draft:
            return path, write_feedback(course, assignment, form.removesuffix("-feedback"), draft)
    from autograder.exports.gradebook import write_grades

    with _in_one_step(path) as draft:
        remarks = write_grades(course, assignment, form, draft, options)
    _end_round(course, assignment)
    return path, remarks


@contextmanager
def _in_one_step(path: Path) -> Iterator[Path]:
    """Yield where to write a file, which then replaces ``path``: a command that is interrupted leaves the old file."""
    if path.exists() and not path.is_file():  # a folder, which is an error, or a pipe
        yield path
        return
    path = Path(os.path.realpath(path))  # Path.resolve raises no OSError for links that form a loop
    try:
        folder = tempfile.TemporaryDirectory(prefix=".draft-of-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    with folder:
        yield (draft := Path(folder.name, path.name))
        os.replace(draft, path)


def _end_round(course: Course, assignment: str) -> None:
    from autograder.gradebook.rounds import Rounds

    with course.gradebook() as gradebook:
        secret = gradebook.find_assignment(assignment).id
    rounds = Rounds(course.db_url, secret)
    rounds.end()
    rounds.close()
