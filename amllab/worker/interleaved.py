"""A notebook that runs in its own process and answers each question at the check cell of its exercise.

Cells run from top to bottom, down to the check cell that a question belongs to: what a later cell does to a name, or to
the process, does not affect the answer. Grading (:mod:`autograder.grading.worker`) and the preflight
(:mod:`amllab.preflight.kernel_submission`) share this module, so that both give the same answers.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from amllab.lab import Lab
from amllab.protocol.failure import Failure
from amllab.protocol.submission import Submission, SubmissionError, problem
from amllab.worker import leftover
from amllab.worker.causes import cause_of
from amllab.worker.hanging import answer_seconds

MOST_FAILURES = 10  # each costs a new process that runs the cells again
# how much longer a cell is watched than it took to end the process
_MARGIN_SECONDS = 1.0


class Interleaved(Submission):
    """A submission that runs cells in order, and answers questions with what the cells above the check cell define.

    A cell that hangs or ends the process affects only itself: it is left out, and the others run in a new process. The
    same holds for a cell that ends the process some time after it has finished (:mod:`amllab.worker.leftover`). Use as
    a context manager.

    Args:
        lab: The lab, whose limits apply.
        cells: Sources of the cells to run, in order.
        checks: Grade id of a check cell -> how many of the cells are above it, in the order of the notebook.
        not_run: Sources of the experiments, which are not run.

    Attributes:
        left_out: Number of a cell -> why it is no longer run: ``"timeout"``, ``"died"``, ``"memory"``, ``"budget"`` or
            ``"failures"``.
        errors: Number of a cell -> the error that it ended in.
    """

    def __init__(self, lab: Lab, cells: Sequence[str], checks: Mapping[str, int], not_run: Sequence[str] = ()) -> None:
        super().__init__(lab.name)
        self._lab, self.limits = lab, lab.limits
        self.cells, self.not_run = list(cells), list(not_run)
        self._above = dict(checks)
        self.left_out: dict[int, str] = {}
        self.errors: dict[int, str] = {}
        self._next = 0  # the next cell; those before it have run in the current process
        self._most = 0  # the highest number of cells that have run in any process
        self._asked = 0  # questions to the current process
        self._running_on: dict[int, float] = {}  # cells that left something running in it -> when they finished
        self._late: set[int] = set()  # cells known to end a process some time after they have finished
        # requests during which one of them did so, since the last progress
        self._ended_in: set[int | bytes] = set()
        self._survived: dict[int, float] = {}  # cells that ran on -> seconds a process is known to survive them

    def __enter__(self) -> Self:
        """Run the cells above the first check cell, or all cells if there is none."""
        try:
            self._run_unasked(min(self._above.values(), default=len(self.cells)))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def order(self) -> list[str]:
        """Grade ids of the check cells, from top to bottom."""
        return list(self._above)

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether there is a process; if not, the next request starts one."""

    @property
    def reached(self) -> int:
        """Number of cells that have run in the current process."""
        return self._next if self.is_running else 0

    def can_reach(self, cell: str | None) -> bool:
        """Return whether no cell below this check cell has run in the current process."""
        return self.reached <= self._place(cell)

    @abstractmethod
    def run_cell(self, number: int) -> tuple[str, bool]:
        """Run a cell; return its state, and whether it left something running.

        After any state other than ``"ok"`` there is no process.
        """

    def settle_seconds(self, number: int) -> float:
        """Return how long to watch the process after a cell that left something running: the first time only."""
        return leftover.SETTLE_SECONDS if number >= self._most else 0.0

    @abstractmethod
    def put(self, question: bytes) -> tuple[str, bytes]:
        """Put a question; return its state, and the answer.

        After any state other than ``"ok"`` or ``"tampered"`` there is no process. ``"repeat"`` asks for another try.
        """

    @abstractmethod
    def watch(self, seconds: float) -> str:
        """Wait without asking anything; return ``"ok"`` if the process is still there at the end."""

    @abstractmethod
    def stop(self) -> None:
        """End the process."""

    def close(self) -> None:
        """End everything that the submission started, at once."""
        self.stop()

    def failure(self, state: str, body: bytes) -> SubmissionError:
        """Return the error for a question that ended in this state."""
        if state == "tampered":
            return problem({"problem": state, "name": body[:200].decode(errors="replace")})
        seen = self.with_limits(_NO_ANSWER.get(state, _NO_ANSWER["unreadable"]))
        if state == "unreadable" and body:
            seen += f" ({body.decode(errors='replace')})"
        if state == "again":
            name, state = body.decode(errors="replace").partition(":")[0], "timeout"
            seen = f"`{name}` did not return, and was stopped: {seen}"
        return SubmissionError(state, Failure("the call returns", seen, _WHY_MEMORY if state == "memory" else _WHY))

    @property
    def answer_seconds(self) -> float:
        """The limit of an answer at the current check cell."""
        return answer_seconds(self.limits, self.cell)

    def with_limits(self, text: str) -> str:
        """Return a text with the lab's limits in place of their names in braces."""
        more = {"answer_seconds": self.answer_seconds, "gigabytes": self.limits["memory_bytes"] / 1e9}
        return text.format(**{**self.limits, **more})

    def leave_out(self, number: int, state: str) -> None:
        """Exclude a cell from all further runs."""
        self.left_out[number] = state

    def exchange(self, question: bytes) -> bytes:
        """Put a question once all cells above its check cell have run.

        If the process ends, the question is not always at fault: a cell may have left something running.
        """
        repeated = False
        while True:
            self._run_above(self._place(self.cell))
            alone = not self._asked and not self._running_on
            state, body = self.put(question)
            self._asked += 1
            if state == "ok":
                self._ended_in.clear()
                return body
            culprit = self._culprit() if state == "died" else None
            if state == "repeat":
                continue
            if culprit is not None:
                self._blame(culprit, question)
            elif state != "died" or alone or repeated:
                raise self.failure(state, body)
            else:  # an earlier call may have left something running that ended it
                repeated = True

    def run_rest(self) -> None:
        """Run the cells that no question needed, so that a person can look at their outputs.

        Cells known to end the process later are left out.
        """
        for number in self._late.difference(self.left_out):
            self.leave_out(number, "died")
        self._run_unasked(len(self.cells))

    def cause(self, name: str) -> str:
        """Return why the notebook does not define a name, as far as its cells tell."""
        broken = {number: _LEFT_OUT.get(state, _LEFT_OUT["died"]) for number, state in self.left_out.items()}
        broken |= {number: f"failed with {error}" for number, error in self.errors.items() if number not in broken}
        return cause_of(name, self.cells, broken, self._place(self.cell), self.not_run)

    def _place(self, cell: str | None) -> int:
        """Return how many cells are above a check cell; all of them if it is not in the notebook."""
        return self._above.get(cell or "", len(self.cells))

    def _run_unasked(self, stop: int) -> None:
        """Run cells that no question needs; if time runs out, those that did not run are recorded as left out."""
        with suppress(SubmissionError):
            self._run_above(stop)

    def _run_above(self, stop: int) -> None:
        while True:
            if not self.is_running:
                self._next = self._asked = 0
                self._running_on.clear()
            while self._next < stop and self._next in self.left_out:
                self._next += 1
            if self._next >= stop:
                return
            number = self._next
            state, runs_on = self.run_cell(number)
            if state == "ok":
                self._next = number + 1
                if self._next > self._most:
                    self._most = self._next
                    self._ended_in.clear()
                if runs_on:
                    self._running_on[number] = time.monotonic()
                continue
            culprit = self._culprit() if state == "died" else None
            if culprit is None:
                self._give_up(number, state)
            else:
                self._blame(culprit, number)

    def _give_up(self, number: int, state: str) -> None:
        """Leave a cell out, and all that have not run as well if it is one too many or no time is left."""
        if state != "budget":
            self.leave_out(number, state)
            if len(self.left_out) < MOST_FAILURES:
                return
            state = "failures"
        for later in range(max(number, self._most), len(self.cells)):
            if later not in self.left_out:
                self.leave_out(later, state)
        if state == "budget" and number < self._most:
            raise self.failure(state, b"")

    def _blame(self, number: int, request: int | bytes) -> None:
        """Record that a cell ended the process after it had finished.

        What it defines is available until then. It is left out if a request cannot be completed in that time, or else
        once everything is asked. How soon it ends the process therefore makes no difference to the points.

        Args:
            number: Number of the cell.
            request: The request during which the process ended: a cell, or a question.
        """
        self._late.add(number)
        if request in self._ended_in:
            self._give_up(number, "died")
        self._ended_in.add(request)

    def _culprit(self) -> int | None:
        """Return the cell that ended the process after it had finished, if there is one.

        To find out, cells are run again and watched.
        """
        ended, suspects = time.monotonic(), dict(self._running_on)
        if known := self._late.intersection(suspects):
            return min(known)
        for number, answered in suspects.items():
            seconds = ended - answered + _MARGIN_SECONDS
            if seconds > self._survived.get(number, 0):
                if self._ends_after(number, seconds):
                    return number
                self._survived[number] = seconds
        return None

    def _ends_after(self, number: int, seconds: float) -> bool:
        """Return whether a process ends when nothing is asked of it after this cell."""
        self.stop()
        try:
            for before in range(number + 1):
                if before not in self.left_out:
                    state, _ = self.run_cell(before)
                    if state != "ok":
                        return state == "died"
            return self.watch(seconds) == "died"
        finally:
            self.stop()


_LEFT_OUT = {
    "timeout": "took too long and was stopped",
    "died": "ended the Python process",
    "memory": "used more memory than the limit",
    "budget": "was not run, as the time limit was reached",
    "failures": "was not run, as too many cells before it ended the Python process or hung",
}
_NO_ANSWER = {
    "timeout": "no answer within {answer_seconds:g} seconds",
    "again": "in an earlier question, it did not end in time either",
    "died": "the process died during the call (out of memory, or ended by the code itself)",
    "memory": "the call used more memory than the limit of {gigabytes:.1f} GB",
    "budget": "the time for the whole submission, {total_seconds} seconds, is used up",
    "unreadable": "the call left no readable result: there was none, it was too large, or no memory was left for it",
}
_WHY = "a function that does not return cannot be graded, and neither can anything after it"
_WHY_MEMORY = "a process that uses up all memory of the machine takes other processes down with it"
