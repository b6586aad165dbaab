"""Grades submissions of a course, one after the other: what a process needs for it is made once."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import hmac
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from amllab.checks.lab import Lab, find_lab
from amllab.checks.results import score
from autograder.errors import WorkerError
from autograder.grading.cache import CachedGrading, GradingCache, key_of, written
from autograder.grading.grader import grade
from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceClient
from autograder.grading.result import GradingResult
from autograder.notebooks.metadata import is_autograded, scores_of, skipped_cells
from autograder.notebooks.normalize import NormalizedSubmission
from autograder.sandbox.launcher import Launcher
from autograder.text import safe_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GradingConfig:
    """What grading a submission needs to know of the course.

    Attributes:
        assignment: of the lab.
        limits: that replace those of ``lab.toml``.
        release, solution: notebooks.
        root: the course's folder, which no worker sees.
        kept: folder of gradings.
        secret: from which seeds are made; see :func:`seed_of`.
        seed: of all submissions; by default each has its own.
        isolation: of the workers.
    """

    assignment: str
    limits: dict[str, int]
    release: Path
    solution: Path
    root: Path
    cache: Path
    secret: str
    seed: int | None
    isolation: str


class GradingSession:
    """Grades submissions of one assignment.

    Args:
        setting: of the course.
        launcher: starts the workers; closed by whoever made it.
        release: as read from ``setting.release``.
        reference: where a reference answers that other judges ask too (:class:`autograder.grading.reference_server.ReferenceServer`); by default this one
            starts its own.
    """

    def __init__(
        self, setting: GradingConfig, launcher: Launcher, release: NotebookNode, reference: str | None = None
    ) -> None:
        self.setting, self.launcher, self.release = setting, launcher, release
        self._address = reference
        lab = find_lab(setting.assignment)
        self.lab: Lab = dataclasses.replace(lab, limits={**lab.limits, **setting.limits})
        self.cache = GradingCache(setting.cache)
        self._reference: Reference | None = None

    def seed(self, student: str, notebook: NotebookNode) -> int:
        return seed_of(self.setting.secret, student, notebook) if self.setting.seed is None else self.setting.seed

    def key(self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission) -> str:
        """Under which the grading of this notebook is kept."""
        solution = self.setting.solution
        return key_of(
            notebook,
            self.lab,
            seed=self.seed(student, notebook),
            notes=repaired.notes,
            readable=repaired.readable,
            isolation=self.setting.isolation,
            solution=hashlib.sha256(solution.read_bytes()).hexdigest() if solution.is_file() else "",
        )

    def graded(self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission) -> CachedGrading:
        """Grades a repaired notebook, and keeps what came of it.

        Raises:
            (CourseError, ChecksBroken): nothing is wrong with the submission.
        """
        attempt, grading, again = self._grade_fairly(student, notebook, repaired)
        earned, possible = score(grading.results)
        sound = all(result.outcome != "error" for result in grading.results)
        # outputs of experiments stay as they were handed in
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
        )
        if sound:
            self.cache.put(self.key(student, notebook, repaired), found)
        return found

    def _grade_fairly(
        self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission
    ) -> tuple[NotebookNode, GradingResult, list[str]]:
        """The graded notebook, and a line where a busy machine made it necessary to grade again, alone, before points are taken."""
        if not repaired.readable:  # nothing of it runs
            return *self._grade(student, notebook, repaired), []
        crowded = ""
        try:
            with self.launcher.turns.beside():
                attempt, grading = self._grade(student, notebook, repaired)
                crowded = grading.crowded
        except WorkerError as error:  # it did not start in time, for which there is no other cause that passes
            crowded = safe_line(str(error))
        if not crowded:
            return attempt, grading, []
        log.warning("%s: a limit of time was reached while %s; graded again, alone", student, crowded)
        with self.launcher.turns.alone():
            attempt, grading = self._grade(student, notebook, repaired)
        line = f"graded again, alone, since a limit of time was reached while {crowded}"
        if grading.crowded:
            line += "; the second time too: other programs keep this machine busy, grade again when they have ended"
        return attempt, grading, [safe_line(line, 600)]

    def _grade(
        self, student: str, notebook: NotebookNode, repaired: NormalizedSubmission
    ) -> tuple[NotebookNode, GradingResult]:
        """The graded notebook. A reference that failed is started again, once: a busy machine can do that to it too."""
        seed = self.seed(student, notebook)
        for last in (False, True):
            if self._reference is None:
                self._reference = self.new_reference()
            reference, attempt = self._reference, copy.deepcopy(notebook)
            grading = grade(
                attempt,
                self.lab,
                reference,
                seed=seed,
                notes=repaired.notes,
                readable=repaired.readable,
                launcher=self.launcher,
            )
            if reference.failed is None:
                break
            self.close()
            if last:
                raise reference.failed
            log.warning("%s: once more, with a new process", safe_line(str(reference.failed)))
        return attempt, grading

    def new_reference(self) -> Reference:
        if self._address is not None:
            return ReferenceClient(self.lab, self.setting.solution, self._address)
        return Reference(self.lab, self.setting.solution, self.launcher)

    def close(self) -> None:
        """Ends the reference's worker."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None


def _attention(grading: GradingResult, repaired: NormalizedSubmission) -> list[str]:
    """What a person should know of a graded submission: unreadable, stopped, or a check that broke on it."""
    if not repaired.readable:
        return [safe_line(" ".join(repaired.notes))]
    broken = [
        f"the check {result.name} broke, which is no fault of the submission: {result.failure and result.failure.seen}"
        for result in grading.results
        if result.outcome == "error"
    ]
    return [safe_line(line) for line in [*grading.stopped, *broken]]


def seed_of(secret: str, student: str, notebook: NotebookNode) -> int:
    """The seed of a submission's checks: the same whenever the same code is graded again, and never to be foreseen.

    Args:
        secret: the assignment's random id in the gradebook, which no submission gets to see.
        student: whose submission it is.
        notebook: before it is run; all that is run counts (:func:`what_is_run`), so that no code can be written for its own
            seed, and nothing else, so that nobody draws questions until they like them.
    """
    code = [student, what_is_run(notebook)]
    return int.from_bytes(hmac.digest(secret.encode(), json.dumps(code).encode(), "sha256")[:8], "big") >> 1


def what_is_run(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a worker gets to do for a notebook, in order: the sources of the cells that are run, and between them the checks.

    Where a check stands counts as the code around it does: how many cells are run before it can tell the code something.
    """
    skipped = set(skipped_cells(notebook))
    steps = []
    for i, cell in enumerate(notebook.cells):
        if is_autograded(cell):
            steps.append(("check", cell.metadata.nbgrader.grade_id))
        elif i not in skipped and cell.cell_type == "code" and cell.source.strip():
            steps.append(("run", cell.source))
    return steps
