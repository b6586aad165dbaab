"""The contents of a class report as data: checks, mistakes, and failures of grading."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from autograder.report.item_statistics import TRUSTED_FROM, Item, Summary, correlation, items, summary
from autograder.results.class_results import Cell, ClassResults, Submission
from autograder.results.stored_checks import LIMITS, TAMPERED, StoredCheck

FULL = 1 - 1e-9  # a mean share from here on means all students, despite rounding of floats


@dataclass
class CheckStatistics:
    """Statistics of one check over the class.

    Attributes:
        number: its number in the page's tables and plots, from 1.
        cell: key of the cell for which it counts.
        name: its name.
        title: its title.
        points: the maximum score.
        outcomes: number of students by outcome.
        item: its statistics as an item of a test.
        seconds: median wall time.
        remarks: problems that an instructor should review.
    """

    number: int
    cell: str
    name: str
    title: str
    points: float
    outcomes: Counter[str]
    item: Item
    seconds: float
    remarks: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of students with a result."""
        return self.outcomes.total()

    @property
    def pass_rate(self) -> float:
        """Share of the students with a result who passed, in [0, 1]."""
        return self.outcomes["passed"] / self.count


@dataclass(frozen=True)
class CellStatistics:
    """Statistics of one cell over the class, from the gradebook.

    Attributes:
        cell: the cell.
        scores: scores of the students who have one.
        summary: summary of these scores; ``None`` if nobody has one yet.
        waiting: number of students for whom a person has to review the cell.
        by_hand: number of students whose score a person gave or changed.
        full: number of students with all points.
        nothing: number of students with no points.
        discrimination: of the cell as an item among the other cells, over students who wait for no review.
    """

    cell: Cell
    scores: list[float]
    summary: Summary | None
    waiting: int
    by_hand: int
    full: int
    nothing: int
    discrimination: float | None


@dataclass(frozen=True)
class MistakeStatistics:
    """A recognised mistake: how many students made it in a cell."""

    name: str
    cell: str
    students: int


@dataclass(frozen=True)
class Remark:
    """A remark on the grading itself, about some students.

    Attributes:
        title: the problem.
        meaning: its consequences, and how to deal with it.
        entries: pairs of student and text; the text may come from a submission.
    """

    title: str
    meaning: str
    entries: list[tuple[str, str]]

    @property
    def students(self) -> int:
        """Number of students concerned."""
        return len({student for student, _ in self.entries})


@dataclass(frozen=True)
class Analysis:
    """All data that a report shows; see the classes of the attributes."""

    results: ClassResults
    totals: Summary
    cells: list[CellStatistics]
    checks: list[CheckStatistics]
    mistakes: list[MistakeStatistics]
    seconds: list[float]
    remarks: list[Remark]

    @property
    def trusted(self) -> bool:
        """Whether there are enough students to trust discriminations."""
        return len(self.results.checked) >= TRUSTED_FROM


def analyse(results: ClassResults) -> Analysis:
    """Compute the statistics of a class with at least one graded submission."""
    totals = summary([submission.total for submission in results.graded])
    assert totals is not None
    seconds = [submission.seconds for submission in results.graded]
    return Analysis(
        results=results,
        totals=totals,
        cells=[_cell(cell, results) for cell in results.cells],
        checks=_checks(results),
        mistakes=_mistakes(results),
        seconds=[s for s in seconds if s is not None],
        remarks=[remark for remark in _remarks(results) if remark.entries],
    )


def _cell(cell: Cell, results: ClassResults) -> CellStatistics:
    found = [submission.scores[cell.key] for submission in results.graded]
    known = [score.score for score in found if not score.to_grade]
    complete = [s for s in results.graded if not s.waiting]
    own = np.array([s.scores[cell.key].score for s in complete])
    others = np.array([sum(x.score for key, x in s.scores.items() if key != cell.key) for s in complete])
    return CellStatistics(
        cell,
        known,
        summary(known),
        waiting=sum(score.waiting for score in found),
        by_hand=sum(score.by_hand for score in found),
        full=sum(score >= cell.points * FULL for score in known),
        nothing=sum(score <= 0 for score in known),
        discrimination=correlation(own, others) if len(results.cells) > 1 else None,
    )


def _of(submission: Submission, cell: Cell) -> list[StoredCheck]:
    stored = submission.stored.get(cell.notebook)
    return stored.checks.get(cell.grade_id, []) if stored is not None else []


def _checks(results: ClassResults) -> list[CheckStatistics]:
    """Compute the statistics of each check with a result in any submission, cell by cell."""
    students = results.checked
    by_check: dict[tuple[str, str], dict[int, StoredCheck]] = {}
    for cell in results.automatic:
        for i, submission in enumerate(students):
            for check in _of(submission, cell):
                by_check.setdefault((cell.key, check.name), {})[i] = check
    if not by_check:
        return []
    earned = np.full((len(students), len(by_check)), np.nan)
    points = np.ones_like(earned)
    for column, found in enumerate(by_check.values()):
        for row, check in found.items():
            points[row, column] = check.points
            if check.outcome != "error":  # an error says nothing about the submission
                earned[row, column] = check.earned
    statistics = [
        _check(number, key[0], list(found.values()), item)
        for number, (key, found), item in zip(
            range(1, len(by_check) + 1), by_check.items(), items(earned, points), strict=True
        )
    ]
    if len(students) >= TRUSTED_FROM:
        for check_statistics in statistics:
            check_statistics.remarks = list(_look_at(check_statistics))
    return statistics


def _check(number: int, cell: str, found: list[StoredCheck], item: Item) -> CheckStatistics:
    last = found[-1]  # if a course changed titles or points between gradings, those of the last submission are shown
    outcomes = Counter(check.outcome for check in found)
    seconds = median(check.seconds for check in found)
    return CheckStatistics(number, cell, last.name, last.title, last.points, outcomes, item, seconds)


def _look_at(check: CheckStatistics) -> Iterator[str]:
    item = check.item
    if item.difficulty is None:
        yield "It raised an internal error on every submission."
        return
    if item.difficulty >= FULL:
        yield "Everyone passes: it does not distinguish submissions. Fine for a prerequisite of other checks."
    if item.difficulty <= 1 - FULL:
        yield "Nobody passes: make sure that the exercise asks for it, and that the check is right."
    if item.discrimination is not None and item.discrimination < 0:
        chance = abs(item.discrimination) < 2 / item.count**0.5
        doubt = " The difference is small enough to be chance." if chance else ""
        yield (
            "Students who do better elsewhere do worse here: look for an ambiguity in the exercise, or a correct "
            f"solution that the check rejects.{doubt}"
        )


def _mistakes(results: ClassResults) -> list[MistakeStatistics]:
    """Count the students who made each recognised mistake, the most frequent first."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for submission in results.checked:
        for cell in results.automatic:
            stored = submission.stored[cell.notebook]
            for mistake in stored.mistakes.get(cell.grade_id, []) if stored is not None else []:
                found[mistake, cell.key].add(submission.student)
    statistics = [MistakeStatistics(name, cell_key, len(students)) for (name, cell_key), students in found.items()]
    return sorted(statistics, key=lambda m: (-m.students, m.cell, m.name))


def _remarks(results: ClassResults) -> Iterator[Remark]:
    """Yield remarks on failures of grading, the most serious first."""
    states: dict[str, list[Submission]] = defaultdict(list)
    for submission in results.graded:
        states[results.state(submission)].append(submission)
    current = states[""] + states["ordinary"]
    yield Remark(
        "Submitted, not graded",
        f"Run 'nbgrader autograde {results.assignment}' again: its log has the reason for each student.",
        [(s.student, "") for s in results.submissions if not s.graded],
    )
    yield Remark(
        "Checks with internal errors",
        "The fault is in the check or the course, but these submissions earned no points for it: fix the check and grade "
        "them again.",
        [(s.student, f"{c.title} — {c.broke}") for s, c in _each(current, results) if c.outcome == "error"],
    )
    yield Remark(
        "Run without isolation",
        "Their code ran with all permissions of the grader: do not trust scores and outputs.",
        [(s.student, "") for s in current if any(x is not None and x.isolation == "none" for x in s.stored.values())],
    )
    yield Remark(
        "Tests in the process of the submission",
        f"{results.assignment} is no lab: its tests are cells of the notebook. Code of a submission can change what they "
        "find.",
        [(s.student, "") for s in states["ordinary"]],
    )
    yield Remark(
        "Replaced functions that the checks use",
        "The notebook replaces functions of a library or of the checks: read it.",
        [(s.student, c.title) for s, c in _each(current, results) if c.symptom == TAMPERED],
    )
    yield Remark(
        "Ended by a limit",
        "An endless loop or too much memory is the submission's fault; a limit that many submissions reach may be too tight.",
        [*_stopped_cells(current), *_stopped_checks(current, results)],
    )
    yield Remark(
        "Nothing could be run",
        "No notebook, or none that can be read: all automatic points are 0. Left out of the statistics of checks.",
        [(s.student, " ".join(_notes(s))) for s in current if not s.readable],
    )
    yield Remark(
        "Repaired before grading",
        "They were graded; the notes are also at the top of the students' feedback.",
        [(s.student, note) for s in current if s.readable for note in _notes(s)],
    )
    yield Remark(
        "Stored results differ from the gradebook",
        "The notebook was changed or restored after grading: scores are the gradebook's, results of checks were left out.",
        [(s.student, "") for s in states["differs"]],
    )
    yield Remark(
        "No autograded notebook",
        "It was removed, or cannot be read: scores are the gradebook's, results of checks are not known.",
        [(s.student, "") for s in states["absent"]],
    )
    yield Remark(
        "Graded by an older version",
        "Results of checks were not stored then: scores are the gradebook's. "
        f"'nbgrader autograde {results.assignment} --force' grades again.",
        [(s.student, "") for s in states["older"]],
    )


def _each(submissions: Sequence[Submission], results: ClassResults) -> Iterator[tuple[Submission, StoredCheck]]:
    for submission in submissions:
        for cell in results.automatic:
            for check in _of(submission, cell):
                yield submission, check


def _notes(submission: Submission) -> list[str]:
    return [note for stored in submission.stored.values() if stored is not None for note in stored.notes]


def _stopped_cells(submissions: Sequence[Submission]) -> Iterator[tuple[str, str]]:
    for submission in submissions:
        for stored in submission.stored.values():
            for stop in stored.stopped if stored is not None else []:
                yield submission.student, stop


def _stopped_checks(submissions: Sequence[Submission], results: ClassResults) -> Iterator[tuple[str, str]]:
    """Yield one line for each student and limit: a single endless function affects many checks."""
    counts: Counter[tuple[str, str]] = Counter()
    for submission, check in _each(submissions, results):
        if check.outcome == "failed" and check.symptom in LIMITS:
            counts[submission.student, check.symptom] += 1
    for (student, limit), count in counts.items():
        yield student, f"{LIMITS[limit]}, in {count} {'check' if count == 1 else 'checks'}"
