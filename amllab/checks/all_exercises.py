"""``check_all()``: the public checks of all exercises of the open notebook, in one table."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from amllab.checks.exercises import Exercise, exercises_of
from amllab.checks.notebook import open_lab
from amllab.checks.open_notebook import OpenNotebook, variables
from amllab.checks.render import points_in_words
from amllab.checks.results import CheckResult, score
from amllab.checks.runner import run_checks
from amllab.templates import MARKS, render
from amllab.worker.environment import SETTINGS


@dataclass(frozen=True)
class Row:
    """The results of one exercise.

    Attributes:
        exercise: The exercise.
        results: Results of its public checks.
    """

    exercise: Exercise
    results: Sequence[CheckResult]

    @property
    def outcome(self) -> str:
        """Return ``"passed"`` if all of its public checks passed, else ``"failed"``."""
        return "passed" if all(result.outcome == "passed" for result in self.results) else "failed"

    @property
    def points(self) -> str:
        """Return its public points in words."""
        earned, possible = score(self.results)
        return f"{earned:g} of {possible:g}"

    @property
    def first_failure(self) -> str:
        """Return what is missing, or the title of the first check that failed; empty if all passed."""
        first = next((result for result in self.results if result.outcome in ("failed", "error")), None)
        if first is None:
            return ""
        missing = first.failure is not None and first.failure.symptom == "missing"
        return first.failure.seen if missing and first.failure else first.title


class AllChecks:
    """Results of all exercises that display themselves: as a table in a notebook, as text elsewhere.

    Args:
        title: Title of the lab.
        rows: The results of each exercise.
        problem: Why nothing was run, shown in place of the results.
    """

    def __init__(self, title: str = "", rows: Sequence[Row] = (), problem: str = "") -> None:
        self.title = title
        self.rows = rows
        self.problem = problem

    @property
    def results(self) -> list[CheckResult]:
        """Results of all checks, in the order of the exercises."""
        return [result for row in self.rows for result in row.results]

    @property
    def total(self) -> str:
        """Return the public points of all exercises in words, and how many more hidden checks give."""
        hidden = [row.exercise.hidden_points(row.results) for row in self.rows]
        known = [points for points in hidden if points is not None]
        return "".join(points_in_words(self.results, sum(known) if len(known) == len(hidden) else None)) + "."

    @property
    def advice(self) -> str:
        """Return how to see the explanations of the first failure; empty if there is none."""
        failed = next((row.exercise.name for row in self.rows if row.outcome == "failed"), None)
        return f'check("{failed}") explains what failed.' if failed else ""

    def __repr__(self) -> str:
        if self.problem:
            return self.problem
        names = max(len(row.exercise.name) for row in self.rows)
        points = max(len(row.points) for row in self.rows)
        lines = [
            f"{MARKS[row.outcome]} {row.exercise.name:<{names}}  {row.points:>{points}}  {row.first_failure}".rstrip()
            for row in self.rows
        ]
        return "\n".join([f"{self.title}: public checks", *lines, *filter(None, [self.total, self.advice])])

    def _repr_html_(self) -> str:
        if self.problem:
            return render("panel.html.j2", outcome="skipped", text=self.problem)
        return render(
            "all_exercises.html.j2",
            outcome="failed" if self.advice else "passed",
            title=self.title,
            rows=self.rows,
            total=self.total,
            advice=self.advice,
        )


def check_all(*, lab: str | None = None) -> AllChecks:
    """Run the public checks of all exercises of a lab on the functions that this notebook defines.

    An exercise whose functions are missing has no points; its row says which cell to run. Grading and the preflight run
    a notebook for other purposes: there this function does nothing.

    Args:
        lab: Name of the lab, if the functions that this notebook defines do not tell which lab it belongs to.

    Returns:
        The results; on the last line of a cell they are shown as a table of the exercises, with their points in the
        public checks and what failed first.

    Raises:
        LookupError: There is no such lab, or several fit; the message lists the choices.
        ValueError: The settings of the lab cannot be read.
        RuntimeError: Not called from a notebook or an IPython session.
    """
    namespace = variables("check_all")
    if all(os.environ.get(name) == value for name, value in SETTINGS.items()):
        return AllChecks(problem="Not run: this code already runs in grading or in a preflight.")
    chosen = open_lab(lab, namespace)
    submission = OpenNotebook(chosen.name, namespace)
    seed = secrets.randbits(63)
    rows = [
        Row(exercise, run_checks(chosen, [chosen.folder / f"test_{exercise.name}.py"], submission, seed=seed))
        for exercise in exercises_of(chosen)
    ]
    return AllChecks(chosen.title, rows, "" if rows else f"The lab {chosen.title} has no public checks.")
