"""The judge: runs the checks of a lab against a submission, and writes scores and reports into its notebook."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.checks.failure import Failure
from amllab.checks.lab import Lab
from amllab.checks.results import CheckResult, score, to_html, to_text
from amllab.checks.run import run_checks
from amllab.checks.submission import Submission, SubmissionError
from autograder.grading.mistakes import Mistake, recognise
from autograder.grading.worker import Worker, WorkerFailed, default_launcher
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.notebooks.metadata import STORED, STORED_VERSION, is_autograded
from autograder.notebooks.normalize import EXPERIMENT
from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import clean_outputs, machine_paths, scrub
from autograder.sandbox import IsolationError
from autograder.sandbox.launcher import Launcher

log = logging.getLogger(__name__)

NOT_ISOLATED = " This submission ran without isolation: its score and its outputs are not to be trusted."
MAX_STORED_TEXT = 500  # characters of the exception of a check that broke


class ReferenceFailed(RuntimeError):  # noqa: N818
    """The reference gave no answer: a fault of the course, never of a submission."""


class Reference(Submission):
    """The instructor's solution: a submission like any other, started when first asked and kept for the whole class.

    Args:
        lab: whose reference it is.
        path: the solved notebook.
        launcher: starts its worker.

    Attributes:
        failed: what it last failed with: a check that could not ask it is broken, and says nothing of the submission.
    """

    def __init__(self, lab: Lab, path: Path, launcher: Launcher | None = None) -> None:
        super().__init__(lab.name)
        self._lab, self._path, self._launcher = lab, path, launcher
        self._workers: list[Worker] = []  # at most one for each check cell
        self.failed: Exception | None = None

    def exchange(self, question: bytes) -> bytes:
        return self._reached().exchange(question)

    def ask(self, probe: str, /, **arguments: Any) -> Any:
        """As for any submission.

        Raises:
            ReferenceFailed: the solution is missing, or gave no answer.
            WorkerFailed, IsolationError: no process could be started for it.
        """
        try:
            return super().ask(probe, **arguments)
        except SubmissionError as error:
            self.failed = ReferenceFailed(f"the reference failed on {probe}: {error}")
            raise self.failed from error
        except (ReferenceFailed, WorkerFailed, IsolationError) as error:
            self.failed = error
            raise

    def _reached(self) -> Worker:
        """A process that has come as far as the check cell: where a question was about a later one, that is not the same any more."""
        if any(w.seconds_left < self._lab.limits["total_seconds"] / 2 for w in self._workers):
            self.close()  # a class takes longer than the time that one submission has
        fitting = [worker for worker in self._workers if worker.can_reach(self.cell)]
        if not fitting:
            fitting = [self._started()]
            self._workers += fitting
        worker = max(fitting, key=lambda worker: worker.reached)
        worker.reach(self.cell)
        return worker

    def _started(self) -> Worker:
        if not self._path.is_file():
            raise ReferenceFailed(
                f"the solution {self._path.parent.name}/{self._path.name} does not exist: run "
                f"'autograder build {self._path.parent.name}'"
            )
        notebook = nbformat.read(self._path, as_version=4)
        worker = Worker(self._lab, notebook, not_run(notebook), self._launcher)
        worker.own_cores = False  # all submissions wait for it
        return worker.__enter__()

    def close(self) -> None:
        while self._workers:
            self._workers.pop().close()


@dataclass
class Grading:
    """What came of one submission.

    Attributes:
        results: of all checks.
        seed: from which the checks drew their inputs.
        seconds: wall time of it all.
        notes: what was mended beforehand.
        isolation: how the submission was kept apart.
        readable: whether anything of the submission could be run.
        stopped: which cells a limit ended or kept from running, and why, in the judge's own words.
        mistakes: cell -> the known mistake that its failures look like.
        crowded: how others kept the processors from it until a limit of time was reached; empty where they did not.
    """

    results: list[CheckResult]
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    isolation: str = "namespaces"
    readable: bool = True
    stopped: list[str] = field(default_factory=list)
    mistakes: dict[str, Mistake] = field(default_factory=dict)
    crowded: str = ""

    def remarks(self, cell: str) -> list[str]:
        """Sentences about a cell's failures taken together."""
        return [str(self.mistakes[cell])] if cell in self.mistakes else []

    def as_dict(self) -> dict[str, object]:
        earned, possible = score(self.results)
        cells = {cell: score(self.results, cell) for cell in dict.fromkeys(r.cell for r in self.results)}
        return {
            "score": earned,
            "max_score": possible,
            "cells": {cell: {"score": got, "max_score": most} for cell, (got, most) in cells.items()},
            "checks": [r.as_dict() for r in self.results],
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "notes": self.notes,
            "isolation": self.isolation,
            "readable": self.readable,
            "stopped": self.stopped,
            "crowded": self.crowded,
            "mistakes": {cell: mistake.name for cell, mistake in self.mistakes.items()},
        }


def not_run(notebook: NotebookNode) -> list[int]:
    """Indices of the cells that grading does not run: experiments, and the cells that the judge fills in."""
    return [
        i for i, cell in enumerate(notebook.cells) if is_autograded(cell) or EXPERIMENT in cell.metadata.get("tags", [])
    ]


class Unreadable(Submission):
    """A submission of which nothing can be run: every question is answered by saying so."""

    def exchange(self, question: bytes) -> bytes:
        seen, why = "a file that cannot be read; the note on top says why", "nothing of it could be run"
        raise SubmissionError("missing", Failure("a notebook", seen, why))


def grade(
    notebook: NotebookNode,
    lab: Lab,
    reference: Submission,
    *,
    seed: int | None = None,
    notes: list[str] | None = None,
    readable: bool = True,
    launcher: Launcher | None = None,
) -> Grading:
    """Runs a repaired notebook in a worker, checks it, and writes outputs, reports and scores into it.

    Args:
        notebook: in the release's shape; changed in place.
        lab: whose checks are run, public and hidden.
        reference: answers the same questions.
        seed: of the inputs that the checks draw; fresh by default.
        notes: from the repair.
        readable: whether anything of the submission is in the notebook; if not, no worker is started.
        launcher: starts the worker.

    Raises:
        IsolationError, WorkerFailed, ReferenceFailed, ChecksBroken: faults of the machine or the course.
    """
    began = time.perf_counter()
    seed = secrets.randbits(63) if seed is None else seed
    launcher = launcher or default_launcher()
    paths = [lab.folder, HIDDEN_CHECKS / lab.name]
    with ExitStack() as stack:
        for cell in notebook.cells:
            if cell.cell_type == "code" and not _is_experiment(cell):
                cell.outputs = []  # as submitted; see autograder.grading.submitted_outputs for what becomes of them
        submission: Submission = Unreadable(lab.name)
        if readable:
            submission = stack.enter_context(Worker(lab, notebook, not_run(notebook), launcher))
        results = run_checks(lab, paths, submission, reference=lambda: reference, seed=seed)
        if isinstance(submission, Worker) and submission.failed is None:
            submission.run_rest()
        if isinstance(submission, Worker) and submission.failed is not None:
            raise submission.failed
        stopped = _stopped(submission) if isinstance(submission, Worker) else []
        crowded = submission.crowded if isinstance(submission, Worker) else ""
    for result in results:
        if result.outcome == "error":
            log.error("check %s broke: %s", result.name, result.failure and result.failure.seen)
    hide = machine_paths(launcher.course)
    results = [_scrubbed(result, hide) for result in results]
    note = f"The inputs of these checks were drawn with seed {seed}." + ("" if launcher.isolates else NOT_ISOLATED)
    with limited():
        for cell in notebook.cells:
            # outputs of experiments were cleaned by the repair
            if cell.cell_type == "code" and not is_autograded(cell) and not _is_experiment(cell):
                cell.outputs = clean_outputs(cell.outputs, lab.limits["output_bytes"], hide)
    seconds = time.perf_counter() - began
    mistakes = recognise(lab.name, results)
    grading = Grading(results, seed, seconds, notes or [], launcher.isolation, readable, stopped, mistakes, crowded)
    graded = [cell for cell in notebook.cells if is_autograded(cell)]
    for cell in graded:
        _write_report(cell, grading, note, with_submission=cell is graded[0])
    return grading


def _stopped(worker: Worker) -> list[str]:
    """What the worker says of the cells that it left out: outputs alone do not tell, a cell can print what it likes."""
    numbers: dict[str, list[str]] = {}
    for index, why in worker.stopped.items():
        numbers.setdefault(why, []).append(str(index + 1))
    return [f"cell{'s' if len(cells) > 1 else ''} {', '.join(cells)}: {why}" for why, cells in numbers.items()]


def _scrubbed(result: CheckResult, hide: Mapping[str, str]) -> CheckResult:
    """The result without the machine's paths: messages of exceptions can hold them."""
    if result.failure is None:
        return result
    texts: dict[str, Any] = {k: scrub(v, hide) for k, v in vars(result.failure).items() if isinstance(v, str)}
    return replace(result, failure=replace(result.failure, **texts))


def _is_experiment(cell: NotebookNode) -> bool:
    return EXPERIMENT in cell.metadata.get("tags", [])


def _write_report(cell: NotebookNode, grading: Grading, note: str, *, with_submission: bool) -> None:
    """The report as a display, then the score as the cell's one result: nbgrader reads the latter as partial credit.

    Args:
        cell: whose outputs become these two.
        grading: of the whole submission.
        note: at the end of the report.
        with_submission: also stores what is known of the submission as a whole; for one of its cells.
    """
    results = [r for r in grading.results if r.cell == cell.metadata.nbgrader.grade_id]
    earned, possible = score(results)
    most = float(cell.metadata.nbgrader.points)
    if possible != most:
        raise ValueError(
            f"{cell.metadata.nbgrader.grade_id}: the checks are worth {possible:g}, the cell {most:g} points"
        )
    grade_id = cell.metadata.nbgrader.grade_id
    remarks, mistake = grading.remarks(grade_id), grading.mistakes.get(grade_id)
    report = {
        "text/plain": f"{to_text(results, remarks)}\n{note}",
        "text/html": to_html(results, note=note, remarks=remarks),
    }
    stored: dict[str, Any] = {"version": STORED_VERSION, "checks": [_stored_check(r) for r in results]}
    stored["mistakes"] = [{"name": mistake.name}] if mistake else []
    if with_submission:
        stored["submission"] = _stored_submission(grading)
    points = nbformat.v4.new_output("execute_result", data={"text/plain": f"{earned:g}"}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", data=report, metadata={STORED: stored}), points]
    cell.execution_count = 1


def _stored_check(result: CheckResult) -> dict[str, Any]:
    """A result without its sentences, which stand in the report beside it."""
    broke = result.failure.seen[:MAX_STORED_TEXT] if result.outcome == "error" and result.failure else ""
    return {
        "name": result.name,
        "title": result.title,
        "points": result.points,
        "earned": result.earned,
        "outcome": result.outcome,
        "symptom": result.failure.symptom if result.failure else "",
        "seconds": round(result.seconds, 3),
        "broke": broke,
    }


def _stored_submission(grading: Grading) -> dict[str, Any]:
    return {
        "seed": str(grading.seed),  # too long for the numbers of programs in JavaScript, which may save this notebook
        "seconds": round(grading.seconds, 2),
        "isolation": grading.isolation,
        "readable": grading.readable,
        "stopped": grading.stopped,
        "notes": grading.notes,
    }
