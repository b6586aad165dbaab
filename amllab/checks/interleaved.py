"""A notebook that runs in a process of its own, and is asked about each exercise where its check cell stands.

Cells run from top to bottom, as far as the check cell that a question belongs to: what a cell below it does to a name, or to the
process, has no say in the answer. Grading (:mod:`autograder.grading.worker`) and the preflight (:mod:`amllab.preflight.fresh`) share this,
so that both come to the same answers.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from amllab.checks import leftover
from amllab.checks.causes import cause_of
from amllab.checks.submission import Submission, SubmissionError

MOST_FAILURES = 10  # each costs a new process, in which the cells are run again
_MARGIN_SECONDS = 1.0  # for which a cell is watched longer than it took to end the process


class Interleaved(Submission):
    """Runs cells one after the other, and answers questions with what those above the check cell have defined.

    A cell that hangs or ends the process costs only itself: it is left out, and the others are run in a new process. So does one
    that ends the process some time after it was answered (:mod:`amllab.checks.leftover`). Use as a context manager.

    Args:
        lab: name of the lab.
        cells: sources of the cells that are run, in order.
        checks: grade id -> how many of the cells stand above this check cell; in the order of the notebook.
        not_run: sources of the experiments, which are not run.

    Attributes:
        left_out: number of a cell -> why it is not run any more: ``"timeout"``, ``"died"``, ``"memory"``, ``"budget"`` or
            ``"failures"``.
        errors: number of a cell -> the error that it ended in.
    """

    def __init__(self, lab: str, cells: Sequence[str], checks: Mapping[str, int], not_run: Sequence[str] = ()) -> None:
        super().__init__(lab)
        self.cells, self.not_run = list(cells), list(not_run)
        self._above = dict(checks)
        self.left_out: dict[int, str] = {}
        self.errors: dict[int, str] = {}
        self._next = 0  # of the cells: those before it have run in the present process
        self._most = 0  # cells that have run in any process
        self._asked = 0  # questions to the present process
        self._running_on: dict[int, float] = {}  # cells that left something running in it -> when they were answered
        self._late: set[int] = set()  # cells that are known to end a process some time after they were answered
        self._ended_in: set[int | bytes] = (
            set()
        )  # what was under way when one of them did so, since there was something new
        self._survived: dict[int, float] = {}  # of these: seconds that a process is known to have lived on

    def __enter__(self) -> Self:
        """Runs what stands above the first check cell; all of it where there is none."""
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
        return list(self._above)

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether there is a process; the next request starts one."""

    @property
    def reached(self) -> int:
        """Cells that have run in the present process."""
        return self._next if self.is_running else 0

    def can_reach(self, cell: str | None) -> bool:
        """Whether no cell below this check cell has run in the present process."""
        return self.reached <= self._place(cell)

    @abstractmethod
    def run_cell(self, number: int) -> tuple[str, bool]:
        """Runs a cell; its state, and whether it left something running. After another state than ``"ok"`` there is no process."""

    def settle_seconds(self, number: int) -> float:
        """For how long the process is watched behind a cell that left something running: the first time only."""
        return leftover.SETTLE_SECONDS if number >= self._most else 0.0

    @abstractmethod
    def put(self, question: bytes) -> tuple[str, bytes]:
        """Puts a question: its state, and the answer. After another state than ``"ok"`` or ``"tampered"`` there is no process."""

    @abstractmethod
    def watch(self, seconds: float) -> str:
        """Waits, and asks nothing; ``"ok"`` where the process is there in the end."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the process."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything that the submission started, at once."""

    @abstractmethod
    def failure(self, state: str, body: bytes) -> SubmissionError:
        """What becomes of a question with this state."""

    def leave_out(self, number: int, state: str) -> None:
        """From now on a cell is not run."""
        self.left_out[number] = state

    def exchange(self, question: bytes) -> bytes:
        """Puts a question when all cells above its check cell have run; where the process ends, it is not always the question's fault."""
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
            if culprit is not None:
                self._blame(culprit, question)
            elif state != "died" or alone or repeated:
                raise self.failure(state, body)
            else:  # what an earlier call left running may have ended it
                repeated = True

    def run_rest(self) -> None:
        """Runs the cells that no question was waiting for: a person looks at their outputs."""
        for number in self._late.difference(self.left_out):
            self.leave_out(number, "died")
        self._run_unasked(len(self.cells))

    def cause(self, name: str) -> str:
        """Why the notebook does not define a name, as far as its cells tell."""
        broken = {number: _LEFT_OUT.get(state, _LEFT_OUT["died"]) for number, state in self.left_out.items()}
        broken |= {number: f"ended in {error}" for number, error in self.errors.items() if number not in broken}
        return cause_of(name, self.cells, broken, self._place(self.cell), self.not_run)

    def _place(self, cell: str | None) -> int:
        """How many cells stand above a check cell; all of them where that is not in the notebook."""
        return self._above.get(cell or "", len(self.cells))

    def _run_unasked(self, stop: int) -> None:
        """Runs cells that no question is waiting for: where the time is used up, those that did not run say so."""
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
        """Leaves a cell out; and all others that have not run where it was one too many, or no time is left."""
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
        """Notes a cell that ended the process since it was answered.

        What it defines is there until then: it is left out where a request does not come to its end before that, or else when all
        is asked. So it makes no difference to the points how soon it ends the process.

        Args:
            number: of the cell.
            request: that the process ended in: a cell, or a question.
        """
        self._late.add(number)
        if request in self._ended_in:
            self._give_up(number, "died")
        self._ended_in.add(request)

    def _culprit(self) -> int | None:
        """The cell that has ended the process since it was answered, if one has: cells are run again and watched to find out."""
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
        """Whether a process ends when nothing is asked of it after this cell."""
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
    "budget": "was not run, as the time was used up",
    "failures": "was not run, as too many cells before it ended the Python process or hung",
}
