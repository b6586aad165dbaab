"""What formgrader shows next to an answer that a person grades: the marking scheme, and comments to use again.

The marking scheme is in the master of the assignment, in the cell with the answer, between ``BEGIN MARK SCHEME`` and
``END MARK SCHEME``. nbgrader removes it from everything that students get. It is shown in formgrader only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbgrader.api import Comment, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ClearMarkScheme, ClearSolutions
from sqlalchemy.exc import SQLAlchemyError

_MOST_COMMENTS = 20
# a part of a scheme and its points: "**Question 1 (3).**", "**b) Plot (2 points)**", "Part 2 [4 pts]:"
_PART = re.compile(
    r"^ {0,3}(?:[-*+] +|#+ +)?(?P<bold>\*\*|__)?(?P<name>(?:\w{1,3}\) +)?[^\n*_()\[\]]{1,60}?) *"
    r"[(\[](?P<points>\d+(?:\.\d+)?)(?: *(?:points?|pts?|marks?|p))?\.?[)\]][.:]?(?P<end>\*\*|__)?",
    re.M | re.I,
)
_SAME = 1e-6


@dataclass(frozen=True)
class Notes:
    """What is shown next to an answer.

    Attributes:
        scheme: The marking scheme, in markdown; empty if there is none.
        answer: The instructor's own answer, in markdown; empty if there is none.
        parts: Names and points of the parts of the scheme; empty unless they add up to the points of the cell.
        comments: Comments that other submissions got in this cell, the most frequent first.
    """

    scheme: str = ""
    answer: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    comments: tuple[str, ...] = ()


class GraderNotes(Preprocessor):
    """A preprocessor that adds notes for graders to the page of a submission in formgrader, and to no other page."""

    def preprocess(self, notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Add ``grader_notes`` to the resources: grade id -> :class:`Notes`."""
        if "submission_id" in resources and "nbgrader" not in resources:  # formgrader's resources, and nobody else's
            resources["grader_notes"] = self._notes(notebook, resources)
        return notebook, resources

    def _notes(self, notebook: NotebookNode, resources: Any) -> dict[str, Notes]:
        course = CourseDirectory(parent=self)
        by_hand = {
            cell.metadata.nbgrader.grade_id: float(cell.metadata.nbgrader.get("points") or 0.0)
            for cell in notebook.cells
            if _by_hand(cell)
        }
        if not by_hand:
            return {}
        assignment, name = resources["assignment_id"], resources["notebook_id"]
        source = course.format_path(course.source_directory, ".", assignment)
        masters = self._masters(Path(course.root, source, f"{name}.ipynb"))
        used = _comments(course.db_url, assignment, name, resources["submission_id"])
        notes = {}
        for grade_id, points in by_hand.items():
            scheme, answer = masters.get(grade_id, ("", ""))
            notes[grade_id] = Notes(scheme, answer, parts_of(scheme, points), used.get(grade_id, ()))
        return notes

    def _masters(self, path: Path) -> dict[str, tuple[str, str]]:
        """Return marking scheme and instructor's answer of each cell of a master that has any of them."""
        try:
            marked = [cell for cell in json.loads(path.read_bytes())["cells"] if cell["metadata"].get("nbgrader")]
            masters = {cell["metadata"]["nbgrader"]["grade_id"]: (cell, "".join(cell["source"])) for cell in marked}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.log.warning("No marking scheme is shown, as %s cannot be read: %s", path, error)
            return {}
        scheme_marks = self._marks(ClearMarkScheme, "mark_scheme")
        answer_marks = self._marks(ClearSolutions, "solution")
        return {
            grade_id: (between(text, *scheme_marks), _answer(cell, without(text, *scheme_marks), answer_marks))
            for grade_id, (cell, text) in masters.items()
        }

    def _marks(self, step: type, what: str) -> tuple[str, str]:
        """Return how the course marks begin and end of what a step of nbgrader removes from the release."""
        names = f"begin_{what}_delimeter", f"end_{what}_delimeter"
        begin, end = (
            self.config[step.__name__].get(name) or step.class_traits()[name].default_value  # type: ignore[attr-defined]
            for name in names
        )
        return str(begin), str(end)


def _answer(cell: Any, text: str, marks: tuple[str, str]) -> str:
    """Return the instructor's answer in markdown: what is marked, or else all of the cell, like nbgrader."""
    found = between(text, *marks)
    if not found and cell["metadata"]["nbgrader"].get("solution"):
        found = text.strip()
    return f"```python\n{found}\n```" if found and cell.get("cell_type") == "code" else found


def between(text: str, begin: str, end: str) -> str:
    """Return the lines between two lines that contain marks, of all such regions."""
    return "\n".join(line for line, inside in _lines(text, begin, end) if inside).strip()


def without(text: str, begin: str, end: str) -> str:
    """Return a text without the regions that :func:`between` returns."""
    return "\n".join(line for line, inside in _lines(text, begin, end) if not inside)


def _lines(text: str, begin: str, end: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines without marks, and whether each is in a region between marks."""
    inside = False
    for line in text.split("\n"):
        if begin in line or end in line:
            inside = begin in line
        else:
            yield line, inside


def parts_of(scheme: str, points: float) -> tuple[tuple[str, float], ...]:
    r"""Return the parts of a marking scheme and their points; none unless they add up to the points of the cell.

    >>> parts_of("**Question 1 (3).** Says why.\n\n**Question 2 (4).** Shows it.", 7)
    (('Question 1', 3.0), ('Question 2', 4.0))
    """
    found = [
        (part["name"].strip(" .:"), float(part["points"]))
        for part in _PART.finditer(scheme)
        if part["bold"] == part["end"] or part["bold"] is None
    ]
    names = [name for name, _ in found]
    if len(found) < 2 or len(set(names)) < len(names) or abs(sum(value for _, value in found) - points) > _SAME:
        return ()
    return tuple(found)


def _by_hand(cell: NotebookNode) -> bool:
    marks = cell.metadata.get("nbgrader") or {}
    return bool(marks.get("task") or (marks.get("grade") and marks.get("solution")))


def _comments(db_url: str, assignment: str, notebook: str, submission: str) -> dict[str, tuple[str, ...]]:
    """Return comments by people in each cell of a notebook, without those of one submission."""
    try:
        with Gradebook(db_url) as gradebook:
            known = gradebook.find_notebook(notebook, assignment)
            rows = (
                gradebook.db.query(Comment.manual_comment, Comment.cell_id)
                .join(SubmittedNotebook, Comment.notebook_id == SubmittedNotebook.id)
                .join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
                .filter(SubmittedNotebook.notebook_id == known.id, SubmittedNotebook.id != submission)
            )
            cells = {cell.id: cell.name for cell in known.solution_cells} | {c.id: c.name for c in known.task_cells}
            counted: dict[str, Counter[str]] = {}
            for text, cell in rows:
                if text and text.strip() and cell in cells:
                    counted.setdefault(cells[cell], Counter())[own_words(text)] += 1
    except (SQLAlchemyError, LookupError):
        return {}
    return {
        cell: tuple(text for text, _ in found.most_common(_MOST_COMMENTS) if text) for cell, found in counted.items()
    }


POINTS_LINE = re.compile(r"^Points: [^\n]*$\n*", re.M)


def own_words(comment: str) -> str:
    """Return a comment without the line of points by question, which belongs to one submission."""
    return POINTS_LINE.sub("", comment).strip()
