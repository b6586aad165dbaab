"""The grading of a class: seeds, the cache, and a second attempt where a busy machine may have cost points."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from amllab.checks.results import score
from autograder.errors import WorkerError
from autograder.gradebook.seeds import Seeds
from autograder.grading.cache import CachedGrading, GradingCache, key_of, written
from autograder.grading.grader import grade
from autograder.grading.result import GradingResult
from autograder.grading.session import GradingSession
from autograder.labs.own import require_thresholds
from autograder.labs.settings import load_lab
from autograder.notebooks.metadata import is_autograded, scores_of, skipped_cells
from autograder.notebooks.normalize import NormalizedSubmission
from autograder.sandbox.launcher import Launcher
from autograder.text import safe_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GradingConfig:
    """The settings of a course that grading a submission depends on.

    Attributes:
        assignment: Name of the lab's assignment.
        limits: Limits that override those of ``lab.toml``.
        release, solution: Paths of the notebooks.
        root: The course folder, which workers cannot see.
        cache: Folder of the cached gradings.
        seeds: Seeds of the checks' inputs.
        isolation: Isolation of the workers.
    """

    assignment: str
    limits: dict[str, int]
    release: Path
    solution: Path
    root: Path
    cache: Path
    seeds: Seeds
    isolation: str


class ClassSession(GradingSession):
    """A session that grades the submissions of a class one at a time and caches the results.

    Args:
        config: Settings of the course.
        launcher: Starts the workers; closed with the session.
        release: The release, as read from ``config.release``.
        reference: Address of a reference that the session shares with others; by default it starts its own.
    """

    def __init__(
        self, config: GradingConfig, launcher: Launcher, release: NotebookNode, reference: str | None = None
    ) -> None:
        lab = load_lab(config.assignment)
        require_thresholds(lab)
        lab = dataclasses.replace(lab, limits={**lab.limits, **config.limits})
        super().__init__(lab, release, config.solution, launcher, reference)
        self.config, self.cache = config, GradingCache(config.cache)

    def key(self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission) -> str:
        """Return the key under which the grading of this notebook is cached."""
        return key_of(
            notebook,
            self.lab,
            seed=self.config.seeds.of(student, notebook),
            notes=repaired.notes,
            readable=repaired.readable,
            isolation=self.config.isolation,
            solution=hashlib.sha256(self.solution.read_bytes()).hexdigest() if self.solution.is_file() else "",
        )

    def graded(self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission) -> CachedGrading:
        """Grade a repaired notebook and cache the result, unless a check broke.

        Raises:
            CourseError, ChecksBrokenError: The fault does not lie with the submission.
        """
        attempt, grading, again = self._grade_fairly(student, notebook, repaired)
        earned, possible = score(grading.results)
        sound = all(result.outcome != "error" for result in grading.results)
        # outputs of experiments stay as submitted
        untouched = [i for i in skipped_cells(attempt) if not is_autograded(attempt.cells[i])]
        scores = {cell: score for cell, score in scores_of(attempt).items() if score is not None}
        found = CachedGrading(
            written(attempt, untouched),
            earned,
            possible,
            grading.seconds,
            [*again, *_attention(grading, repaired)],
            sound,
            scores,
            grading.failed,
        )
        if sound:
            self.cache.put(self.key(student, notebook, repaired), found)
        return found

    def _grade_fairly(
        self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission
    ) -> tuple[NotebookNode, GradingResult, list[str]]:
        """Grade a notebook, and again exclusively if a busy machine may have cost it points.

        Returns:
            The graded notebook, its result, and a line of explanation if it was graded again.
        """
        if not repaired.readable:  # there is nothing to run
            return *self._grade(student, notebook, repaired), []
        crowded = ""
        try:
            with self.launcher.turns.shared():
                attempt, grading = self._grade(student, notebook, repaired)
                crowded = grading.crowded
        except WorkerError as error:  # a worker did not start in time; the only transient cause is a busy machine
            crowded = safe_line(str(error))
        if not crowded:
            return attempt, grading, []
        log.warning("%s: a time limit was reached while %s; graded again while nothing else runs", student, crowded)
        with self.launcher.turns.alone():
            attempt, grading = self._grade(student, notebook, repaired)
        line = f"graded again while nothing else ran, because a time limit was reached while {crowded}"
        if grading.crowded:
            line += "; this happened again: other programs keep this machine busy, grade again when they have ended"
        return attempt, grading, [safe_line(line, 600)]

    def _grade(
        self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission
    ) -> tuple[NotebookNode, GradingResult]:
        """Grade a copy of the notebook; return the copy and the result.

        A reference that failed is restarted once, since a busy machine can make it fail too.
        """
        seed = self.config.seeds.of(student, notebook)
        for last in (False, True):
            reference, attempt = self.reference, copy.deepcopy(notebook)
            submission = dataclasses.replace(repaired, notebook=attempt)
            grading = grade(submission, self.lab, reference, self.launcher, seed)
            if reference.failed is None:
                break
            self.end_reference()
            if last:
                raise reference.failed
            log.warning("%s: trying again with a new process", safe_line(str(reference.failed)))
        return attempt, grading


def _attention(grading: GradingResult, repaired: NormalizedSubmission) -> list[str]:
    """List what a person should know about a graded submission: unreadable, stopped cells, or broken checks."""
    if not repaired.readable:
        return [safe_line(" ".join(repaired.notes))]
    broken = [
        f"the check {result.name} raised an internal error, which is not the submission's fault: {result.failure and result.failure.seen}"
        for result in grading.results
        if result.outcome == "error"
    ]
    return [safe_line(line) for line in [*grading.stopped, *broken]]
