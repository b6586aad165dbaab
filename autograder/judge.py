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
from autograder.launcher import Launcher
from autograder.outputs import clean_outputs, machine_paths, scrub
from autograder.repair import EXPERIMENT
from autograder.worker import Worker, default_launcher

log = logging.getLogger(__name__)

HIDDEN_CHECKS = Path(__file__).parent / "checks"
NOT_ISOLATED = " This submission ran without isolation: its score and its outputs are not to be trusted."


class ReferenceFailed(RuntimeError):  # noqa: N818
    """The reference gave no answer: a fault of the course, never of a submission."""


class Reference(Submission):
    """The instructor's solution: a submission like any other, started when first asked and kept for the whole class.

    Args:
        lab: whose reference it is.
        path: the solved notebook.
        launcher: starts its worker.
    """

    def __init__(self, lab: Lab, path: Path, launcher: Launcher | None = None) -> None:
        super().__init__(lab.name)
        self._lab, self._path, self._launcher = lab, path, launcher
        self._worker: Worker | None = None

    def exchange(self, question: bytes) -> bytes:
        raise NotImplementedError("the reference passes questions on in ask()")

    def ask(self, probe: str, /, **arguments: Any) -> Any:
        """As for any submission.

        Raises:
            ReferenceFailed: the solution is missing, or gave no answer.
        """
        try:
            return self._started().ask(probe, **arguments)
        except SubmissionError as error:
            raise ReferenceFailed(f"the reference failed on {probe}: {error}") from error

    def _started(self) -> Worker:
        if self._worker is None:
            if not self._path.is_file():
                raise ReferenceFailed(
                    f"the solution {self._path.parent.name}/{self._path.name} does not exist: run "
                    f"'nbgrader generate_solution {self._path.parent.name}'"
                )
            notebook = nbformat.read(self._path, as_version=4)
            self._worker = Worker(self._lab, notebook, not_run(notebook), self._launcher).__enter__()
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


@dataclass
class Grading:
    """What came of one submission.

    Attributes:
        results: of all checks.
        seed: from which the checks drew their inputs.
        seconds: wall time of it all.
        notes: what was mended beforehand.
        isolation: how the submission was kept apart.
    """

    results: list[CheckResult]
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    isolation: str = "namespaces"

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
        }


def is_autograded(cell: NotebookNode) -> bool:
    """Whether a cell's score comes from checks."""
    nbgrader = cell.metadata.get("nbgrader") or {}
    return cell.cell_type == "code" and bool(nbgrader.get("grade")) and not nbgrader.get("solution")


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
        submission: Submission = Unreadable(lab.name)
        if readable:
            submission = stack.enter_context(Worker(lab, notebook, not_run(notebook), launcher))
        results = run_checks(lab, paths, submission, reference=lambda: reference, seed=seed)
        if isinstance(submission, Worker) and submission.failed is not None:
            raise submission.failed
    for result in results:
        if result.outcome == "error":
            log.error("check %s broke: %s", result.name, result.failure and result.failure.seen)
    hide = machine_paths(launcher.course)
    results = [_scrubbed(result, hide) for result in results]
    note = f"The inputs of these checks were drawn with seed {seed}." + ("" if launcher.isolates else NOT_ISOLATED)
    for cell in notebook.cells:
        if is_autograded(cell):
            _write_report(cell, [r for r in results if r.cell == cell.metadata.nbgrader.grade_id], note)
        elif cell.cell_type == "code" and not _is_experiment(cell):  # those of experiments were cleaned by the repair
            cell.outputs = clean_outputs(cell.outputs, lab.limits["output_bytes"], hide)
    return Grading(results, seed, time.perf_counter() - began, notes or [], launcher.isolation)


def _scrubbed(result: CheckResult, hide: Mapping[str, str]) -> CheckResult:
    """The result without the machine's paths: messages of exceptions can hold them."""
    if result.failure is None:
        return result
    texts: dict[str, Any] = {k: scrub(v, hide) for k, v in vars(result.failure).items() if isinstance(v, str)}
    return replace(result, failure=replace(result.failure, **texts))


def _is_experiment(cell: NotebookNode) -> bool:
    return EXPERIMENT in cell.metadata.get("tags", [])


def _write_report(cell: NotebookNode, results: list[CheckResult], note: str) -> None:
    """The report as a display, then the score as the cell's one result: nbgrader reads the latter as partial credit."""
    earned, possible = score(results)
    most = float(cell.metadata.nbgrader.points)
    if possible != most:
        raise ValueError(
            f"{cell.metadata.nbgrader.grade_id}: the checks are worth {possible:g}, the cell {most:g} points"
        )
    report = {"text/plain": f"{to_text(results)}\n{note}", "text/html": to_html(results, note=note)}
    points = nbformat.v4.new_output("execute_result", data={"text/plain": f"{earned:g}"}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", data=report), points]
    cell.execution_count = 1
