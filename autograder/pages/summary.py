"""What a feedback page says at its top: points of each exercise, failed checks, comments, lateness.

Everything is read from the graded notebook and the gradebook. An assignment that is no lab has no stored checks; of its
failed test cells, the error is listed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry

from autograder.results.class_results import CellScore
from autograder.results.scores import lateness
from autograder.results.stored_checks import StoredCheck, stored_in
from autograder.text import number, printable, safe_line

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.+?)[ \t#]*$", re.M)
_FENCED = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.M | re.S)
_MARKUP = re.compile(r"<[^>]*>|!?\[([^\]]*)\]\((?:[^()]|\([^()]*\))*\)|[*`]")
_ABSENT = "this cell is missing in the submitted notebook"
_SECTION = 2  # headings up to this level name exercises; those below divide them
_MOST_NAME, _MOST_ERROR = 100, 300  # characters
_HEADING_TAG = re.compile(r"<(/?)h([1-6])(?=[\s>])")


@dataclass(frozen=True)
class Exercise:
    """A graded cell.

    Attributes:
        id: Its grade id.
        name: Its name for people: the heading above it.
        score: Points; ``None`` if it waits for a person.
        points: Points possible.
        extra: Extra credit, included in the score.
        comment: Whether a person has commented on it.
        failed: Checks that did not pass; those that were not run because of another are left out.
        waiting: How many checks were not run because of another.
        error: For a test cell without stored checks that lost points: its error.
        absent: Whether the notebook does not have this cell.
    """

    id: str
    name: str
    score: float | None
    points: float
    extra: float = 0.0
    comment: bool = False
    failed: tuple[StoredCheck, ...] = ()
    waiting: int = 0
    error: str = ""
    absent: bool = False


@dataclass(frozen=True)
class Summary:
    """What a page says at its top.

    Attributes:
        title: The first heading of level 1 in the notebook, or the notebook's name.
        exercises: Graded cells, in the order of the notebook.
        comments: Grade ids and names of cells without points that a person commented on.
        penalty: Points lost for being late.
        late: How late it was submitted, such as ``"3.5 h"``; empty if it was in time.
        due: The student's own due date, if they have an extension.
    """

    title: str
    exercises: list[Exercise]
    comments: list[tuple[str, str]] = field(default_factory=list)
    penalty: float = 0.0
    late: str = ""
    due: str = ""

    @property
    def score(self) -> float:
        """Points so far, after the penalty."""
        return max(sum(e.score for e in self.exercises if e.score is not None) - self.penalty, 0.0)

    @property
    def points(self) -> float:
        """Points possible in all cells that are graded."""
        return sum(e.points for e in self.exercises if e.score is not None)

    @property
    def ungraded(self) -> float:
        """Points possible in the cells that wait for a person."""
        return sum(e.points for e in self.exercises if e.score is None)

    @property
    def failing(self) -> list[Exercise]:
        """Exercises with something in the list of what failed."""
        return [e for e in self.exercises if e.failed or e.error]


def summarise(notebook: NotebookNode, resources: Mapping[str, Any]) -> Summary:
    """Filter: summarise a graded notebook for its student.

    Args:
        notebook: The graded notebook, with the scores and comments that nbgrader's ``GetGrades`` added.
        resources: Of the template; nbgrader's part has the names of notebook, assignment and student, and the
            gradebook's address.
    """
    about = resources.get("nbgrader", {})
    names = names_of(notebook)
    waiting, extra, absent, lateness_of = _from_gradebook(about, names)
    exercises = [
        _exercise(cell, names, waiting, extra)
        for cell in notebook.cells
        if (cell.metadata.get("nbgrader") or {}).get("grade") or (cell.metadata.get("nbgrader") or {}).get("task")
    ]
    exercises += absent
    graded = {exercise.id for exercise in exercises}
    comments = [
        (cell.metadata.nbgrader.grade_id, names[cell.metadata.nbgrader.grade_id])
        for cell in notebook.cells
        if (cell.metadata.get("nbgrader") or {}).get("comment") and cell.metadata.nbgrader.grade_id not in graded
    ]
    titles = (text for level, text in _headings(notebook.cells) if level == 1)
    title = next(titles, str(about.get("notebook", "")))
    return Summary(title, exercises, comments, float(about.get("late_penalty") or 0.0), *lateness_of)


def names_of(notebook: NotebookNode) -> dict[str, str]:
    """Return a name for each of nbgrader's cells: the heading above it, or its grade id if there is none.

    The grade id is added where several graded cells have the same heading.
    """
    above: dict[str, str] = {}
    graded: Counter[str] = Counter()
    section = part = ""
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader") or {}
        own = marks.get("solution") or marks.get("grade")  # headings in an answer name nothing
        for level, text in [] if own else _headings([cell]):
            section, part = (text, "") if level <= _SECTION else (section, text)
        if grade_id := marks.get("grade_id"):
            above[grade_id] = section or part
            graded[section or part] += bool(marks.get("grade") or marks.get("task"))
    return {
        grade_id: f"{name} ({grade_id})" if name and graded[name] > 1 else name or grade_id
        for grade_id, name in above.items()
    }


def has_report(cell: NotebookNode) -> bool:
    """Filter: return whether a cell has a report of the grader.

    Its only result is the score, which nbgrader reads there. Pages show it in the heading of the cell.
    """
    return stored_in(cell) is not None


def demoted(page: str) -> str:
    """Filter: lower all headings by one level, below the title of the page.

    >>> demoted("<h1 id='x'>a</h1><h6>b</h6>")
    "<h2 id='x'>a</h2><h6>b</h6>"
    """
    return _HEADING_TAG.sub(lambda found: f"<{found[1]}h{min(int(found[2]) + 1, 6)}", page)


def _exercise(cell: NotebookNode, names: Mapping[str, str], waiting: set[str], extra: Mapping[str, float]) -> Exercise:
    marks = cell.metadata.nbgrader
    grade_id, points = marks.grade_id, float(marks.get("points") or 0.0)
    score = None if grade_id in waiting else float(marks.get("score") or 0.0)
    stored = stored_in(cell)
    checks = [] if stored is None else stored
    failed = tuple(check for check in checks if check.outcome in ("failed", "error"))
    skipped = sum(check.outcome == "skipped" for check in checks)
    lost = score is not None and score < points
    error = _error(cell) if stored is None and lost and not marks.get("solution") else ""
    more = extra.get(grade_id, 0.0)
    return Exercise(grade_id, names[grade_id], score, points, more, bool(marks.get("comment")), failed, skipped, error)


def _error(cell: NotebookNode) -> str:
    """Return the error of a test cell on one line; empty if it has none."""
    for output in cell.get("outputs", []):
        if output.get("output_type") == "error":
            text = printable(output.get("evalue", "")).strip().partition("\n")[0]
            return safe_line(f"{output.get('ename', '')}{': ' if text else ''}{text}", _MOST_ERROR)
    return ""


def _headings(cells: Iterable[NotebookNode]) -> Iterator[tuple[int, str]]:
    """Yield level and plain text of each heading."""
    for cell in cells:
        if cell.cell_type == "markdown":
            for marks, text in _HEADING.findall(_FENCED.sub("", cell.source)):
                if plain := safe_line(_MARKUP.sub(r"\1", text), _MOST_NAME).strip():
                    yield len(marks), plain


def _from_gradebook(
    about: Mapping[str, Any], there: Collection[str]
) -> tuple[set[str], dict[str, float], list[Exercise], tuple[str, str]]:
    """Return what a notebook alone does not tell.

    Args:
        about: nbgrader's names of notebook, assignment and student, and the address of the gradebook.
        there: Grade ids of the cells in the notebook.

    Returns:
        Cells that wait for a person, extra credit, graded cells that are missing in the notebook, and how late the
        submission is and its own due date.
    """
    if "db_url" not in about:
        return set(), {}, [], ("", "")
    try:
        with Gradebook(about["db_url"]) as gradebook:
            notebook = gradebook.find_submission_notebook(about["notebook"], about["assignment"], about["student"])
            scores = {
                grade.name: CellScore(
                    grade.score or 0.0,
                    grade.auto_score,
                    grade.manual_score is not None or bool(grade.extra_credit),
                    bool(grade.needs_manual_grade),
                )
                for grade in notebook.grades
            }
            extra = {grade.name: grade.extra_credit for grade in notebook.grades if grade.extra_credit}
            absent = [
                Exercise(
                    name,
                    name,
                    None if scores[name].to_grade else scores[name].score,
                    float(cell.max_score),
                    error=_ABSENT,
                    absent=True,
                )
                for cell in [*notebook.notebook.grade_cells, *notebook.notebook.task_cells]
                if (name := cell.name) not in there and name in scores
            ]
            submission = notebook.assignment
            times = lateness(submission.total_seconds_late), _own_due(submission.duedate, submission.extension)
    except MissingEntry:
        return set(), {}, [], ("", "")
    return {name for name, score in scores.items() if score.to_grade}, extra, absent, times


def _own_due(due: datetime | None, extension: timedelta | None) -> str:
    return f"{due:%Y-%m-%d %H:%M} UTC" if due is not None and extension else ""


def points(value: float) -> str:
    """Filter: format points without needless decimals."""
    return number(round(value, 2))
