"""The grader: runs the checks of a lab on a submission and writes scores and reports into its notebook."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from amllab.checks.results import CheckResult
from amllab.checks.runner import run_checks
from amllab.lab import Lab
from amllab.protocol.failure import Failure
from amllab.protocol.lab_probes import ProbesError, probes_of
from amllab.protocol.submission import Submission, SubmissionError
from autograder.errors import LabError
from autograder.grading.mistakes import recognise
from autograder.grading.report_cells import NOT_ISOLATED, write_report
from autograder.grading.result import GradingResult
from autograder.grading.worker import Worker
from autograder.labs.locations import hidden_checks
from autograder.notebooks.metadata import is_autograded, is_experiment, skipped_cells
from autograder.notebooks.normalize import NormalizedSubmission
from autograder.notebooks.reading import quoted
from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import clean_outputs, machine_paths, scrub
from autograder.sandbox.launcher import Launcher
from autograder.text import counted

log = logging.getLogger(__name__)
MOST_FAILED = 5  # cells that failed, in the note at the top


class UnreadableSubmission(Submission):
    """A submission with nothing to run: every question fails with a message that says so."""

    def exchange(self, question: bytes) -> bytes:
        """Raise the error that says that there is no notebook."""
        seen, why = "a file that cannot be read; see the note at the top", "none of its code could be run"
        raise SubmissionError("missing", Failure("a notebook", seen, why))


def grade(
    submitted: NormalizedSubmission, lab: Lab, reference: Submission, launcher: Launcher, seed: int | None = None
) -> GradingResult:
    """Run a submission in a worker, check it, and write outputs, reports and scores into its notebook.

    If the reference fails, the checks that asked it break, and ``reference.failed`` holds its error.

    Args:
        submitted: The submission in the shape of the release; no worker is started if it is not readable.
        lab: The lab whose checks are run, public and hidden.
        reference: The reference solution, which answers the same questions.
        launcher: Starts the worker.
        seed: Seed of the inputs that the checks sample; random by default.

    Raises:
        IsolationError, LabError, WorkerError, ChecksBrokenError: The fault lies with the machine or the course.
    """
    began = time.perf_counter()
    seed = secrets.randbits(63) if seed is None else seed
    notebook = submitted.notebook
    paths = [lab.folder, hidden_checks(lab.name)]
    with ExitStack() as stack:
        for cell in notebook.cells:
            if cell.cell_type == "code" and not is_experiment(cell):
                cell.outputs = []  # autograder.grading.submitted_outputs shows submitted outputs again where needed
        submission: Submission = UnreadableSubmission(lab.name)
        if submitted.readable:
            submission = stack.enter_context(Worker(lab, notebook, skipped_cells(notebook), launcher))
        try:
            probes_of(lab.name)
        except ProbesError as error:  # inside a check it would look like a broken check
            raise LabError(str(error)) from error
        results = run_checks(lab, paths, submission, reference=lambda: reference, seed=seed)
        if isinstance(submission, Worker) and submission.failed is None:
            submission.run_rest()
        if isinstance(submission, Worker) and submission.failed is not None:
            raise submission.failed
        stopped = _stopped(submission) if isinstance(submission, Worker) else []
        crowded = submission.crowded if isinstance(submission, Worker) else ""
        failed = _failed(submission) if isinstance(submission, Worker) else []
    for result in results:
        if result.outcome == "error":
            log.error("check %s raised an internal error: %s", result.name, result.failure and result.failure.seen)
    hide = machine_paths(launcher.course)
    results = [_scrubbed(result, hide) for result in results]
    note = f"The inputs of these checks were sampled with seed {seed}." + ("" if launcher.isolates else NOT_ISOLATED)
    with limited():
        for cell in notebook.cells:
            # the repair has already cleaned the outputs of experiments
            if cell.cell_type == "code" and not is_autograded(cell) and not is_experiment(cell):
                cell.outputs = clean_outputs(cell.outputs, lab.limits["output_bytes"], hide)
    seconds = time.perf_counter() - began
    mistakes = recognise(lab.name, results)
    grading = GradingResult(
        results,
        seed,
        seconds,
        submitted.notes,
        launcher.isolation,
        submitted.readable,
        stopped,
        mistakes,
        crowded,
        [scrub(note, hide) for note in failed],
    )
    graded = [cell for cell in notebook.cells if is_autograded(cell)]
    for cell in graded:
        write_report(cell, grading, note, with_submission=cell is graded[0])
    return grading


def _stopped(worker: Worker) -> list[str]:
    """Describe the cells that the worker left out, one line per reason.

    The reasons come from the worker's own record, since a cell can print anything into its outputs.
    """
    numbers: dict[str, list[str]] = {}
    for index, why in worker.stopped.items():
        numbers.setdefault(why, []).append(str(index + 1))
    return [f"cell{'s' if len(cells) > 1 else ''} {', '.join(cells)}: {why}" for why, cells in numbers.items()]


def _failed(worker: Worker) -> list[str]:
    """Describe the cells above the last check that failed: functions of later cells may lack what they define."""
    notes = []
    for index, why in sorted(worker.failures_above_checks.items()):
        first = next(filter(None, map(str.strip, worker.notebook.cells[index].source.splitlines())), "")
        notes.append(f"The cell that begins with {quoted(first)} did not run to its end: {quoted(why)}.")
    if len(notes) > MOST_FAILED:
        notes[MOST_FAILED:] = [f"{counted(len(notes) - MOST_FAILED, 'more cell')} did not run to the end either."]
    return notes


def _scrubbed(result: CheckResult, hide: Mapping[str, str]) -> CheckResult:
    """Return the result without paths of this machine, which messages of exceptions can contain."""
    if result.failure is None:
        return result
    texts: dict[str, Any] = {k: scrub(v, hide) for k, v in vars(result.failure).items() if isinstance(v, str)}
    return replace(result, failure=replace(result.failure, **texts))
