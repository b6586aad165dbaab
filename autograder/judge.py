"""The judge: runs the checks of a lab against a submission, and writes scores and reports into its notebook."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.checks.lab import Lab
from amllab.checks.results import CheckResult, score, to_html, to_text
from amllab.checks.run import run_checks
from amllab.checks.submission import Submission, SubmissionError
from autograder.repair import EXPERIMENT, clean_outputs
from autograder.worker import Worker

log = logging.getLogger(__name__)

HIDDEN_CHECKS = Path(__file__).parent / "checks"


class ReferenceFailed(RuntimeError):  # noqa: N818
    """The reference gave no answer: a fault of the course, never of a submission."""


class Reference(Submission):
    """The instructor's solution: a submission like any other, started when first asked and kept for the whole class.

    Args:
        lab: whose reference it is.
        path: the solved notebook.
    """

    def __init__(self, lab: Lab, path: Path) -> None:
        super().__init__(lab.name)
        self._lab, self._path = lab, path
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
            self._worker = Worker(self._lab, notebook, skip=not_run(notebook)).__enter__()
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
    """

    results: list[CheckResult]
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)

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


def grade(
    notebook: NotebookNode, lab: Lab, reference: Submission, *, seed: int | None = None, notes: list[str] | None = None
) -> Grading:
    """Runs a repaired notebook in a worker, checks it, and writes outputs, reports and scores into it.

    Args:
        notebook: in the release's shape; changed in place.
        lab: whose checks are run, public and hidden.
        reference: answers the same questions.
        seed: of the inputs that the checks draw; fresh by default.
        notes: from the repair.
    """
    began = time.perf_counter()
    seed = secrets.randbits(32) if seed is None else seed
    with Worker(lab, notebook, skip=not_run(notebook)) as worker:
        paths = [lab.folder, HIDDEN_CHECKS / lab.name]
        results = run_checks(lab, paths, worker, reference=lambda: reference, seed=seed)
    for result in results:
        if result.outcome == "error":
            log.error("check %s broke: %s", result.name, result.failure and result.failure.seen)
    for cell in notebook.cells:
        if is_autograded(cell):
            _write_report(cell, [r for r in results if r.cell == cell.metadata.nbgrader.grade_id], seed)
        elif cell.cell_type == "code" and not _is_experiment(cell):  # those of experiments were cleaned by the repair
            cell.outputs = clean_outputs(cell.outputs, lab.limits["output_bytes"])
    return Grading(results, seed, time.perf_counter() - began, notes or [])


def _is_experiment(cell: NotebookNode) -> bool:
    return EXPERIMENT in cell.metadata.get("tags", [])


def _write_report(cell: NotebookNode, results: list[CheckResult], seed: int) -> None:
    """The report as a display, then the score as the cell's one result: nbgrader reads the latter as partial credit."""
    earned, possible = score(results)
    most = float(cell.metadata.nbgrader.points)
    if possible != most:
        raise ValueError(
            f"{cell.metadata.nbgrader.grade_id}: the checks are worth {possible:g}, the cell {most:g} points"
        )
    note = f"The inputs of these checks were drawn with seed {seed}."
    report = {"text/plain": to_text(results), "text/html": to_html(results, note=note)}
    points = nbformat.v4.new_output("execute_result", data={"text/plain": f"{earned:g}"}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", data=report), points]
    cell.execution_count = 1
