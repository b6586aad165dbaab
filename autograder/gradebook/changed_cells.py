"""Keep the graded cells of the release and of the gradebook in agreement when the master text changes.

Once there are submissions, nbgrader refuses changed cells, but only after it has removed the release. This module
detects the difference before anything is changed (:func:`difference`), and updates the gradebook on request
(:func:`take_over`); remaining cells keep their scores. If a command of nbgrader fails, the previous release is not lost
(:class:`autograder.nbgrader_plugins.release_exporters.ReleaseExporter`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import (
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    MissingEntry,
    Notebook,
    SolutionCell,
    SourceCell,
    TaskCell,
)
from nbgrader.utils import is_grade, is_locked, is_solution, is_task
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from amllab.lab import Lab
from autograder.course import Course
from autograder.errors import ChangedCellsError
from autograder.text import counted

_TABLES = {"grade": GradeCell, "solution": SolutionCell, "task": TaskCell}  # role of a cell -> table of the gradebook
OPTION = "--change-cells"  # option of 'autograder build'


@dataclass(frozen=True)
class Marked:
    """A cell that nbgrader records: its roles, and its text, which identifies it after it has been renamed."""

    roles: frozenset[str]
    kind: str
    source: str
    points: float | None = None


@dataclass
class Difference:
    """The difference between the cells of a master text and those in the gradebook.

    Attributes:
        renamed: Old name -> new name, of cells with the same text and roles.
        added: Name -> cell, of cells that are new.
        removed: Name -> cell, of cells that no longer exist.
        changed: Names of cells whose roles changed, such as cells that checks used to grade and a person grades now.
        points: Name -> points before and now.
        submissions: Number of submissions in the gradebook.
        by_hand: Removed cell -> students who have a manual score or comment in it.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    added: dict[str, Marked] = field(default_factory=dict)
    removed: dict[str, Marked] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    points: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    submissions: int = 0
    by_hand: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.renamed or self.added or self.removed or self.changed)

    def lines(self) -> list[str]:
        """Return a description of the changes, one line each."""
        kept = "scores and comments stay" if self.submissions else ""
        lines = [f"renamed: {old} is now {new}" + (f"; {kept}" if kept else "") for old, new in self.renamed.items()]
        lines += [f"changed: {name} is graded in another way or no longer graded" for name in self.changed]
        lines += [f"added: {name}{_worth(cell)}" for name, cell in self.added.items()]
        for name, cell in self.removed.items():
            hand = (
                f"; {', '.join(self.by_hand[name])} lose their manual scores and comments"
                if name in self.by_hand
                else ""
            )
            lines.append(f"removed: {name}{_worth(cell)}{hand}")
        lines += [
            f"points: {name} is worth {_number(now)}, not {_number(was)}" for name, (was, now) in self.points.items()
        ]
        return lines


def _worth(cell: Marked) -> str:
    return "" if cell.points is None else f" ({_number(cell.points)} points)"


def _number(points: float | None) -> str:
    return "nothing" if points is None else f"{points:g}"


def marked_cells(notebook: NotebookNode) -> dict[str, Marked]:
    """Return the cells of a notebook that nbgrader's ``SaveCells`` records, by grade id."""
    roles = {"grade": is_grade, "solution": is_solution, "task": is_task}
    found = {}
    for cell in notebook.cells:
        has = frozenset(role for role, is_one in roles.items() if is_one(cell))
        if has or is_locked(cell):
            points = float(cell.metadata.nbgrader["points"]) if has & {"grade", "task"} else None
            found[cell.metadata.nbgrader["grade_id"]] = Marked(has, cell.cell_type, cell.source, points)
    return found


def recorded_cells(notebook: Notebook) -> dict[str, Marked]:
    """Return the recorded cells of a notebook in the gradebook, by grade id."""
    roles: dict[str, set[str]] = {}
    points: dict[str, float] = {}
    for role, cells in (
        ("grade", notebook.grade_cells),
        ("solution", notebook.solution_cells),
        ("task", notebook.task_cells),
    ):
        for cell in cells:
            roles.setdefault(cell.name, set()).add(role)
            if role != "solution":
                points[cell.name] = float(cell.max_score)
    found = {}
    for cell in notebook.source_cells:
        found[cell.name] = Marked(
            frozenset(roles.get(cell.name, ())), cell.cell_type, cell.source, points.get(cell.name)
        )
    return found


def differing(recorded: Notebook, release: NotebookNode) -> list[str]:
    """Return the names of cells whose roles, kinds or points differ between the gradebook and a release."""
    old, new = recorded_cells(recorded), marked_cells(release)
    return sorted(
        name
        for name in old.keys() | new.keys()
        if name not in old or name not in new or replace(old[name], source="") != replace(new[name], source="")
    )


def difference(gradebook: Gradebook, assignment: str, name: str, notebook: NotebookNode) -> Difference:
    """Compare the graded cells of a master text with those in the gradebook.

    Args:
        gradebook: The open gradebook.
        assignment: Name of the assignment.
        name: Name of the notebook, without ``.ipynb``.
        notebook: The master text, with solutions or as released.

    Returns:
        The difference; empty if the notebook is not in the gradebook yet.

    Raises:
        ChangedCellsError: If the gradebook has submissions of a notebook with another name.
    """
    try:
        found = gradebook.find_assignment(assignment)
    except MissingEntry:
        return Difference()
    others = [other.name for other in found.notebooks if other.name != name]
    if others and found.submissions:
        raise ChangedCellsError(
            f"{counted(len(found.submissions), 'submission')} of {assignment} in the gradebook "
            f"{'is' if len(found.submissions) == 1 else 'are'} for {others[0]}.ipynb, not for "
            f"{name}.ipynb: give the notebook its old name again, and keep one notebook per lab"
        )
    recorded = next((other for other in found.notebooks if other.name == name), None)
    if recorded is None:
        return Difference()
    old, new = recorded_cells(recorded), marked_cells(without_solutions(notebook))
    gone = {name: cell for name, cell in old.items() if name not in new}
    come = {name: cell for name, cell in new.items() if name not in old}
    renamed = dict(_renamed(gone, come))
    result = Difference(
        renamed,
        {name: cell for name, cell in come.items() if name not in renamed.values()},
        {name: cell for name, cell in gone.items() if name not in renamed},
        sorted(name for name in old.keys() & new.keys() if old[name].roles != new[name].roles),
        submissions=len(recorded.submissions),
    )
    before = {renamed.get(name, name): cell.points for name, cell in old.items()}
    result.points = {
        name: (before[name], cell.points)
        for name, cell in new.items()
        if name in before and before[name] != cell.points
    }
    result.by_hand = _by_hand(recorded, result.removed)
    return result


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with stubs instead of solutions, as nbgrader records it."""
    from nbgrader.preprocessors import ClearSolutions

    cleared: NotebookNode = ClearSolutions(enforce_metadata=False).preprocess(nbformat.from_dict(notebook), {})[0]
    return cleared


def _renamed(gone: dict[str, Marked], come: dict[str, Marked]) -> Iterator[tuple[str, str]]:
    """Yield old and new names of cells that differ only in name and points, if the match is unique."""

    def looks(cell: Marked) -> tuple[object, ...]:
        return cell.roles, cell.kind, cell.source.strip()

    for old, cell in gone.items():
        alike = [name for name, other in come.items() if looks(other) == looks(cell)]
        if len(alike) == 1 and sum(looks(other) == looks(cell) for other in gone.values()) == 1:
            yield old, alike[0]


def _by_hand(notebook: Notebook, cells: dict[str, Marked]) -> dict[str, list[str]]:
    """Map the given cells in which a person entered a score or a comment to the students concerned."""
    found: dict[str, set[str]] = {}
    for submission in notebook.submissions:
        marks = [(g.name, g.manual_score is not None or g.extra_credit) for g in submission.grades]
        marks += [(c.name, c.manual_comment) for c in submission.comments]
        for name, given in marks:
            if given and name in cells:
                found.setdefault(name, set()).add(submission.student.id)
    return {name: sorted(students) for name, students in found.items()}


def take_over(gradebook: Gradebook, assignment: str, name: str, notebook: NotebookNode, change: Difference) -> None:
    """Update the gradebook with the cells of a changed master text; all other cells keep their scores and comments.

    Args:
        gradebook: The open gradebook.
        assignment: Name of the assignment.
        name: Name of the notebook, without ``.ipynb``.
        notebook: The master text, with solutions or as released.
        change: The :func:`difference` of these.
    """
    recorded, new = gradebook.find_notebook(name, assignment), marked_cells(without_solutions(notebook))
    session = gradebook.db
    for cell in [*recorded._base_cells, *recorded.source_cells]:
        cell.name = change.renamed.get(cell.name, cell.name)
    for role, table in _TABLES.items():
        there = {cell.name: cell for cell in recorded._base_cells if type(cell) is table}
        wanted = {name: cell for name, cell in new.items() if role in cell.roles}
        for cell in [cell for name, cell in there.items() if name not in wanted]:
            _remove(session, cell)
        for missing in [name for name in wanted if name not in there]:
            _add(session, recorded, role, missing, wanted[missing])
    for source in [cell for cell in recorded.source_cells if cell.name not in new]:
        session.delete(source)
    sources = {cell.name for cell in recorded.source_cells}
    for missing in [name for name in new if name not in sources]:
        session.add(
            SourceCell(name=missing, notebook=recorded, cell_type=new[missing].kind, source=new[missing].source)
        )
    session.commit()  # all or nothing


def _remove(session: Session, cell: BaseCell) -> None:
    for marks in (Grade, Comment):
        for mark in session.query(marks).filter(marks.cell_id == cell.id):
            session.delete(mark)
    session.flush()
    session.delete(cell)


def _add(session: Session, notebook: Notebook, role: str, name: str, cell: Marked) -> None:
    """Add a cell, with empty rows for its score and comment in all submissions, as nbgrader does for new cells."""
    worth = {"max_score": cell.points, "cell_type": cell.kind} if role != "solution" else {}
    row = _TABLES[role](name=name, notebook=notebook, **worth)
    session.add(row)
    session.flush()
    for submission in notebook.submissions:
        if role != "solution":
            session.add(Grade(cell_id=row.id, notebook=submission))
        if role != "grade":
            session.add(Comment(cell_id=row.id, notebook=submission))


def settle(course: Course, lab: Lab, notebook: NotebookNode, *, change_cells: bool) -> list[str]:
    """Make sure that the gradebook can accept the release of a notebook, before the release is written.

    The gradebook is backed up before it is changed, if it is an SQLite file.

    Args:
        course: The course with the gradebook.
        lab: The lab to build.
        notebook: The master text.
        change_cells: Whether the gradebook may be changed if it has submissions.

    Returns:
        Lines that tell a person what was changed and what to do next; empty if nothing was changed.

    Raises:
        ChangedCellsError: If the gradebook would have to be changed, but may not.
    """
    url = make_url(course.db_url)
    file = Path(url.database) if url.drivername.startswith("sqlite") and url.database else None
    if file is not None and not file.is_file():
        return []
    with course.gradebook() as gradebook:
        change = difference(gradebook, lab.assignment, lab.notebook, notebook)
        if not change or not change.submissions:
            return []
        if not change_cells:
            raise ChangedCellsError(refusal(lab.assignment, change))
        kept = None
        if file is not None:
            kept = file.with_name(f"{file.name}.{datetime.now(UTC):%Y-%m-%d-%H%M%S}")
            shutil.copy2(file, kept)
        take_over(gradebook, lab.assignment, lab.notebook, notebook, change)
    return [
        *change.lines(),
        *([f"backup of the gradebook: {kept.name}"] if kept else []),
        f"{counted(change.submissions, 'submission has', 'submissions have')} these cells now; to grade "
        f"{'it' if change.submissions == 1 else 'them'} again, run 'nbgrader autograde {lab.assignment}'",
    ]


def refusal(assignment: str, change: Difference, *, is_lab: bool = True) -> str:
    """Return a message with the reason for refusing a release, the changes, and the command that applies them."""
    remedy = (
        "All other cells keep their scores and comments. Undo the change in the master text, or run "
        f"'autograder build {assignment} {OPTION}', then 'nbgrader autograde {assignment}'"
        if is_lab
        else f"Undo the change. Or, to lose all scores of {assignment}, run 'nbgrader db assignment remove {assignment} --force'"
    )
    return "\n  ".join(
        [
            f"{assignment} has {counted(change.submissions, 'submission')} in the gradebook, but the master text has other graded cells:",
            *change.lines(),
            f"Nothing was written. {remedy}",
        ]
    )
