"""Results of a class: the scores in the gradebook, which count, joined with the results that the grader stored."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nbgrader.api import Assignment as AssignmentRow
from nbgrader.api import BaseCell, Grade, Gradebook, MissingEntry, Notebook, SubmittedAssignment, SubmittedNotebook
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from amllab.lab import all_labs
from autograder.course import Course
from autograder.errors import NotGradedError
from autograder.gradebook.regrading import digest_of
from autograder.results.stored_checks import Stored, read

_SAME = 1e-6  # points: floats in the gradebook that differ by less count as equal


@dataclass(frozen=True)
class Cell:
    """A graded cell.

    Attributes:
        key: its grade id, after the notebook's name if the assignment has several notebooks.
        notebook: name of its notebook.
        grade_id: its id within that notebook.
        points: the maximum score.
        automatic: whether its score comes from checks.
    """

    key: str
    notebook: str
    grade_id: str
    points: float
    automatic: bool


@dataclass(frozen=True)
class CellScore:
    """A student's score in a cell.

    Attributes:
        score: the score that counts, in points.
        automatic: the score from the checks, ``None`` before grading.
        by_hand: whether a person gave or changed the score.
        waiting: whether a person has to review the cell.
    """

    score: float
    automatic: float | None
    by_hand: bool
    waiting: bool

    @property
    def to_grade(self) -> bool:
        """Whether nobody has given a score yet; the cell counts as 0 points until then."""
        return self.waiting and self.automatic is None and not self.by_hand


@dataclass
class Submission:
    """The results of one student's submission.

    Attributes:
        student: the id in the gradebook.
        scores: by the key of the cell; empty if the gradebook has no submission.
        penalty: points deducted for lateness.
        seconds_late: seconds after the due date, with the student's extension.
        extension: by how much the student's due date is later than that of the class.
        stored: results that the grader stored, by notebook; ``None`` if the autograded notebook is missing or cannot be
            read.
        graded: whether all automatic cells have scores.
        submitted: whether it is in ``submitted/``.
        outdated: why its scores are not those of the current submission and cells; empty if they are.
    """

    student: str
    scores: dict[str, CellScore] = field(default_factory=dict)
    penalty: float = 0.0
    seconds_late: float = 0.0
    extension: timedelta = timedelta()
    stored: dict[str, Stored | None] = field(default_factory=dict)
    graded: bool = False
    submitted: bool = True
    outdated: str = ""

    @property
    def total(self) -> float:
        """Points after the penalty, as nbgrader exports them."""
        return max(sum(score.score for score in self.scores.values()) - self.penalty, 0.0)

    @property
    def waiting(self) -> bool:
        """Whether it is graded, but a person still has to review cells in it."""
        return self.graded and any(score.waiting for score in self.scores.values())

    @property
    def seconds(self) -> float | None:
        """Seconds that grading took; ``None`` if unknown."""
        known = [s.seconds for s in self.stored.values() if s is not None and s.seconds is not None]
        return sum(known) if known else None

    @property
    def readable(self) -> bool:
        """Whether any part of it could be run, as far as known."""
        return any(stored is None or stored.readable for stored in self.stored.values()) or not self.stored


@dataclass
class ClassResults:
    """All submissions of an assignment.

    Attributes:
        assignment: its name.
        cells: in the order of the notebooks.
        submissions: by student id, whether graded or only submitted.
        missing: students in the gradebook who submitted nothing.
    """

    assignment: str
    cells: list[Cell]
    submissions: list[Submission]
    missing: list[str]

    @property
    def points(self) -> float:
        """Maximum points of the assignment."""
        return sum(cell.points for cell in self.cells)

    @property
    def graded(self) -> list[Submission]:
        """Submissions that are graded."""
        return [submission for submission in self.submissions if submission.graded]

    @property
    def checked(self) -> list[Submission]:
        """Graded submissions with stored results that match the gradebook, and of which some part could be run."""
        return [s for s in self.graded if self.state(s) == "" and s.readable]

    def state(self, submission: Submission) -> str:
        """Return why the check results of a graded submission cannot be used; empty if they can.

        Reasons: ``ordinary`` (no lab), ``absent`` (no notebook), ``older`` (none stored), ``differs`` (other scores).
        """
        if any(stored is not None and stored.ordinary for stored in submission.stored.values()):
            return "ordinary"  # of several notebooks, one may not be submitted
        if None in submission.stored.values() or not submission.stored:
            return "absent"
        for cell in self.automatic:
            stored = submission.stored[cell.notebook]
            checks = stored.checks.get(cell.grade_id) if stored is not None else None
            if checks is None:
                return "older"
            if abs(sum(check.earned for check in checks) - (submission.scores[cell.key].automatic or 0.0)) > _SAME:
                return "differs"
        return ""

    @property
    def automatic(self) -> list[Cell]:
        """Cells whose scores come from checks."""
        return [cell for cell in self.cells if cell.automatic]


def collect(course: Course, assignment: str, students: Collection[str] | None = None) -> ClassResults:
    """Read the gradebook and the autograded notebooks.

    Args:
        course: the course to which they belong.
        assignment: such as ``"transfer-learning"``.
        students: students whose autograded notebooks are read; all by default, which takes seconds for a large class.

    Raises:
        FileNotFoundError: if there is no gradebook.
        LookupError: if the gradebook does not have the assignment, or nothing of it is graded.
        ValueError: if the gradebook cannot be read.
    """
    submitted = submitters(course, assignment)
    require_gradebook(course, assignment)
    try:
        with course.gradebook() as gradebook:
            results = from_gradebook(gradebook, assignment)
    except NotGradedError:
        raise NotGradedError(
            f"no submission for {assignment} is graded yet: {next_step(assignment, submitted)}"
        ) from None
    except SQLAlchemyError as error:
        raise ValueError(f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}") from None
    known = {submission.student for submission in results.submissions}
    results.submissions += [Submission(student) for student in submitted - known]
    results.submissions.sort(key=lambda submission: submission.student)
    results.missing = [student for student in results.missing if student not in submitted]
    if not results.graded:
        raise NotGradedError(f"no submission for {assignment} is graded yet: {next_step(assignment, submitted)}")
    for submission in results.submissions:
        submission.submitted = submission.student in submitted
    notebooks = list(dict.fromkeys(cell.notebook for cell in results.cells))
    for submission in results.graded:
        if students is not None and submission.student not in students:
            continue
        folder = course.directories["autograded_directory"] / submission.student / assignment
        # an id with a slash would lead to another folder
        inside = Path(submission.student).name == submission.student
        submission.stored = {name: read(folder / f"{name}.ipynb") if inside else None for name in notebooks}
        submission.outdated = _outdated(course, results, submission)
    return results


def _outdated(course: Course, results: ClassResults, submission: Submission) -> str:
    folder = course.directories["submitted_directory"] / submission.student / results.assignment
    for name, stored in submission.stored.items():
        cells = {cell.grade_id: cell.points for cell in results.cells if cell.notebook == name}
        if stored is not None and stored.submitted and not stored.ordinary and stored.cells != cells:
            return "the graded cells have changed since it was graded"
        if stored is not None and stored.submitted and submission.submitted and stored.submitted != digest_of(folder):
            return "it was submitted again after grading"
    return ""


def require_gradebook(course: Course, assignment: str) -> None:
    """Check that the course has a gradebook: nbgrader would create an empty one, which a report should not do.

    Raises:
        FileNotFoundError: if there is none; the message says how to create it.
    """
    url = make_url(course.db_url)
    if url.drivername.startswith("sqlite") and url.database and not Path(url.database).is_file():
        step = next_step(assignment, submitters(course, assignment))
        raise FileNotFoundError(f"the course has no gradebook yet: {step}")


def next_step(assignment: str, submitted: Collection[str]) -> str:
    """Return which command to run to get results."""
    if submitted:
        return f"run 'nbgrader autograde {assignment}'"
    return (
        f"submitted/ has no submissions either. Put the downloads into downloaded/{assignment}/archive/, then run "
        f"'nbgrader zip_collect {assignment}' and 'nbgrader autograde {assignment}'"
    )


def from_gradebook(gradebook: Gradebook, name: str) -> ClassResults:
    """Read all scores of an assignment from an open gradebook, without results of single checks.

    Raises:
        LookupError: if the gradebook does not have the assignment.
    """
    try:
        assignment = gradebook.find_assignment(name)
    except MissingEntry:
        if name in (lab.replace("_", "-") for lab in all_labs()):
            raise NotGradedError(f"{name} is not in the gradebook yet: run 'nbgrader autograde {name}'") from None
        known = ", ".join(row.name for row in gradebook.assignments) or "none"
        raise LookupError(f"no assignment {name!r} in the gradebook; there are: {known}") from None
    cells = list(_cells(assignment))
    keys = {(cell.notebook, cell.grade_id): cell.key for cell in cells}
    submitted = gradebook.db.query(
        SubmittedAssignment.student_id, SubmittedAssignment.timestamp, SubmittedAssignment.extension
    ).filter(SubmittedAssignment.assignment_id == assignment.id)
    submissions = {
        student: Submission(
            student, seconds_late=_seconds_late(at, assignment.duedate, extension), extension=extension or timedelta()
        )
        for student, at, extension in submitted
    }
    for row in _grades(gradebook, assignment):
        key = keys.get((row.notebook, row.cell))
        if key is not None:
            by_hand = row.manual_score is not None or bool(row.extra_credit)
            score = CellScore(row.score or 0.0, row.auto_score, by_hand, bool(row.needs_manual_grade))
            submissions[row.student].scores[key] = score
    penalties = gradebook.db.query(SubmittedAssignment.student_id, SubmittedNotebook.late_submission_penalty).join(
        SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id
    )
    for student, penalty in penalties.filter(SubmittedAssignment.assignment_id == assignment.id):
        submissions[student].penalty += penalty or 0.0
    for submission in submissions.values():
        scores = [submission.scores.get(cell.key) for cell in cells]
        automatic = [s for s, cell in zip(scores, cells, strict=True) if cell.automatic]
        # an assignment that only people grade counts as graded as soon as it is in the gradebook
        submission.graded = None not in scores and all(s is not None and s.automatic is not None for s in automatic)
    missing = [student.id for student in gradebook.students if student.id not in submissions]
    return ClassResults(name, cells, list(submissions.values()), missing)


def _seconds_late(at: datetime | None, due: datetime | None, extension: timedelta | None) -> float:
    """Return the seconds after the due date, as nbgrader counts them; 0 if a time is unknown."""
    if at is None or due is None:
        return 0.0
    return max(0.0, (at - due - (extension or timedelta())).total_seconds())


def _cells(assignment: AssignmentRow) -> Iterator[Cell]:
    """Yield the assignment's graded cells in the order of the notebook, as far as the gradebook stores it."""
    several = len(assignment.notebooks) > 1
    for notebook in assignment.notebooks:
        place = {cell.name: i for i, cell in enumerate(notebook.source_cells)}
        answers = {cell.name for cell in notebook.solution_cells}
        graded = [*notebook.grade_cells, *notebook.task_cells]
        for cell in sorted(graded, key=lambda cell: place.get(cell.name, len(place))):
            key = f"{notebook.name}: {cell.name}" if several else cell.name
            automatic = cell in notebook.grade_cells and cell.cell_type == "code" and cell.name not in answers
            yield Cell(key, notebook.name, cell.name, float(cell.max_score), automatic)


def _grades(gradebook: Gradebook, assignment: AssignmentRow) -> Iterator[Any]:
    """Return all grades of an assignment in one query: nbgrader's objects query every field of every row."""
    grades: Iterator[Any] = (
        gradebook.db.query(
            SubmittedAssignment.student_id.label("student"),
            Notebook.name.label("notebook"),
            BaseCell.name.label("cell"),
            Grade.score.label("score"),
            Grade.auto_score,
            Grade.manual_score,
            Grade.extra_credit,
            Grade.needs_manual_grade,
        )
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Notebook, SubmittedNotebook.notebook_id == Notebook.id)
        .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
        .join(BaseCell, Grade.cell_id == BaseCell.id)
        .filter(SubmittedAssignment.assignment_id == assignment.id)
    )
    return grades


def submitters(course: Course, assignment: str) -> set[str]:
    """Return the students who have a folder for the assignment in ``submitted/``, whatever it contains."""
    folders = course.directories["submitted_directory"].glob(f"*/{glob.escape(assignment)}")
    return {folder.parent.name for folder in folders if folder.is_dir()}


def status(submission: Submission) -> str:
    """Return the progress of grading: ``not graded``, ``to grade manually`` or ``graded``."""
    graded = "to grade manually" if submission.waiting else "graded"
    return graded if submission.graded else "not graded"
