"""Run the notebooks of a submission isolated, with the results of nbgrader's own ``Execute``.

All notebooks of a submission run in one process tree, one after the other in the same folder, each in a kernel of its
own. A cell that ends the kernel, exceeds a limit of the machine or cannot be interrupted makes nbgrader give up on the
submission. Here it is left out, its output says why, and the others run again without it.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder.sandbox.launcher import Launcher
from autograder.stock.process import NotebookProcess
from autograder.text import safe_line

log = logging.getLogger(__name__)

_MOST_LEFT_OUT = 4  # cells; each costs another run
_GRACE_SECONDS = 10.0  # the worker interrupts cells itself; the grader steps in if it does not
_KERNEL_SECONDS = 90.0
_WHY = {
    "timeout": "stopped: it did not end when its time limit of {timeout} seconds interrupted it",
    "died": "this cell ended the Python process",
    "memory": "this cell used more memory than the limit of {gigabytes:.1f} GB",
    "budget": "not run: the time for the whole submission, {total_seconds:g} seconds, is used up",
    "failures": "not run: too many cells before it hung or ended the Python process",
}


@dataclass(frozen=True)
class Code:
    """A cell to run.

    Attributes:
        index: Its position in the notebook.
        source: Its source.
        limits: How nbclient limits it: values of its traits by name.
    """

    index: int
    source: str
    limits: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A notebook to run.

    Attributes:
        name: Its name, without ``.ipynb``.
        text: The file, which is in the folder while it runs.
        cells: The cells to run, in order.
    """

    name: str
    text: str
    cells: Sequence[Code]


@dataclass
class Ran:
    """A notebook that was run.

    Attributes:
        sources: Sources of the cells that were to be run.
        cells: Position of a cell -> its outputs as the worker sent them, and its execution count.
        stopped: Cells that were left out, and why, one line each.
    """

    sources: list[str]
    cells: dict[int, tuple[list[Any], Any]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """The notebooks of a submission that were run.

    Attributes:
        notebooks: By name.
        seconds: Wall time.
        crowded: How other processes starved it of CPU time until a limit was reached; empty if they did not.
        absent: Files that could not be written into its folder.
    """

    notebooks: dict[str, Ran]
    seconds: float
    crowded: str = ""
    absent: list[str] = field(default_factory=list)


class Runner:
    """Runs submissions of one assignment.

    Args:
        launcher: Starts the process trees.
        limits: Limits by name, as in :data:`autograder.stock.process.LIMITS`.
        environment: Environment variables of the kernels.
        arguments: Further arguments of the kernels.
    """

    def __init__(
        self, launcher: Launcher, limits: Mapping[str, int], environment: Mapping[str, str], arguments: Sequence[str]
    ) -> None:
        self.launcher, self.limits = launcher, limits
        self._environment, self._arguments = environment, arguments

    def try_out(self) -> None:
        """Start a process tree and end it.

        Raises:
            IsolationError, WorkerError: The machine does not isolate, or the worker does not start.
        """
        self._process(0).end()

    def run(self, student: str, jobs: Sequence[Job], files: Mapping[str, Path]) -> Outcome:
        """Run the notebooks of a submission, and again while nothing else runs if a busy machine may have cost points.

        Args:
            student: The student, for the log.
            jobs: The notebooks, in order.
            files: Other files of the submission: path in its folder -> path of the file.

        Raises:
            IsolationError, WorkerError: The fault does not lie with the submission.
        """
        with self.launcher.turns.shared():
            outcome = self._run(jobs, files)
        if not outcome.crowded:
            return outcome
        log.warning(
            "%s: a time limit was reached while %s; run again while nothing else runs",
            safe_line(student),
            outcome.crowded,
        )
        with self.launcher.turns.alone():
            return self._run(jobs, files)

    def _run(self, jobs: Sequence[Job], files: Mapping[str, Path]) -> Outcome:
        began = time.monotonic()
        left_out: dict[tuple[str, int], str] = {}
        crowded = ""
        while True:
            absent: list[str] = []
            found, failed, starved = self._attempt(jobs, files, left_out, began, absent)
            crowded = crowded or starved
            if failed is None:
                return Outcome(found, time.monotonic() - began, crowded, absent)
            place, state = failed
            left_out[place] = state
            if state == "budget" or len(left_out) >= _MOST_LEFT_OUT:
                self._leave_rest_out(jobs, left_out, place, "failures" if state != "budget" else state)

    def _leave_rest_out(
        self, jobs: Sequence[Job], left_out: dict[tuple[str, int], str], place: tuple[str, int], state: str
    ) -> None:
        places = [(job.name, cell.index) for job in jobs for cell in job.cells]
        # if time is over, not even the cells before can run again
        for later in places if state == "budget" else places[places.index(place) :]:
            left_out.setdefault(later, state)

    def _attempt(
        self,
        jobs: Sequence[Job],
        files: Mapping[str, Path],
        left_out: Mapping[tuple[str, int], str],
        began: float,
        absent: list[str],
    ) -> tuple[dict[str, Ran], tuple[tuple[str, int], str] | None, str]:
        """Run all notebooks without the cells that are left out, and add files that cannot be written to ``absent``.

        Returns:
            The notebooks; the cell that ended the process and how, if one did; and how the machine starved them.
        """
        found = {job.name: Ran([cell.source for cell in job.cells]) for job in jobs}
        runs = [job for job in jobs if any((job.name, cell.index) not in left_out for cell in job.cells)]
        process = self._process(len(runs)) if runs else None
        crowded = ""
        try:
            if process is not None:
                for name, path in files.items():
                    with path.open("rb") as content:
                        if not process.write(name, content):
                            absent.append(name)
            for job in jobs:
                if process is not None and job in runs:
                    process.write(f"{job.name}.ipynb", io.BytesIO(job.text.encode()))
                    process.ask({"do": "kernel"}, b"", _KERNEL_SECONDS)
                for cell in job.cells:
                    place, ran = (job.name, cell.index), found[job.name]
                    if place in left_out or process is None:
                        self._note(ran, cell, left_out.get(place, "failures"))
                        continue
                    left = self.limits["total_seconds"] - (time.monotonic() - began)
                    since = process.mark()
                    state, outputs, late = self._cell(process, cell, left) if left > 0 else ("budget", {}, False)
                    if late or state in ("timeout", "budget"):
                        crowded = crowded or process.starved(since)
                    if state != "ok":
                        ended, process = process.end(), None
                        return found, (place, ended or state), crowded
                    cells = outputs.get("outputs")
                    ran.cells[cell.index] = (cells if isinstance(cells, list) else [], outputs.get("execution_count"))
        finally:
            if process is not None:
                process.end()
        return found, None, crowded

    def _cell(self, process: NotebookProcess, cell: Code, left: float) -> tuple[str, dict[str, Any], bool]:
        own = cell.limits["timeout"]
        allowed = min(own + cell.limits["iopub_timeout"] + _GRACE_SECONDS, left) if own else left
        state, outputs = process.ask({"do": "run", **cell.limits}, cell.source.encode(), allowed)
        if state == "timeout" and allowed == left:
            state = "budget"
        return state, outputs, process.late

    def _note(self, ran: Ran, cell: Code, state: str) -> None:
        """Let the output of a cell say why it was left out; nbgrader gives such a cell no points."""
        values = {**self.limits, "timeout": cell.limits["timeout"], "gigabytes": self.limits["memory_bytes"] / 1e9}
        text = _WHY[state].format(**values)
        ran.cells[cell.index] = (
            [{"output_type": "error", "ename": "Grading", "evalue": text, "traceback": [text]}],
            None,
        )
        ran.stopped.append(f"cell {cell.index + 1}: {text}")

    def _process(self, notebooks: int) -> NotebookProcess:
        return NotebookProcess(self.launcher, self.limits, notebooks, self._environment, self._arguments)
