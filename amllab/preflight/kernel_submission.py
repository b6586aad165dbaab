"""A fresh process that runs a notebook's cells and answers the checks' questions, like the worker in grading.

The process is a separate Jupyter kernel in an empty folder, with the settings of grading: one thread, no GPU, synthetic
images, no downloads. It shares no state with the open notebook.
"""

from __future__ import annotations

import os
import queue
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amllab.lab import Lab
from amllab.preflight.document import Cell
from amllab.worker import leftover
from amllab.worker.causes import error_in_words
from amllab.worker.environment import variables_of
from amllab.worker.integrity import TAMPERED
from amllab.worker.interleaved import Interleaved

VARIABLE = "AMLLAB_PREFLIGHT"
_START_SECONDS = 120
_PATIENCE = 0.5  # seconds to wait for a message before checking whether the process is alive
_LOOK_SECONDS = 0.05  # seconds between two checks whether the process has ended
# run in separate namespaces, so that the notebook's stays unchanged
_PREPARE = (
    "from amllab.lab import find_lab; from amllab.worker import integrity; "
    "integrity.known = integrity.identities(find_lab({!r}))"
)
_ANSWER = (
    "from pathlib import Path; from amllab.worker import integrity; "
    "Path({reply!r}).write_bytes(integrity.answer_question(Path({asked!r}).read_bytes(), integrity.known))"
)
_APART = "exec({!r}, {{}})"


@dataclass(frozen=True)
class Run:
    """The outcome of running a cell.

    Attributes:
        cell: the cell.
        state: ``"ok"`` (even if the cell raised an error), ``"timeout"``, ``"died"``, or ``"failures"`` if it was not
            run because too many cells hung or ended the process.
        error: type and message of the error, or empty.
        seconds: wall time in seconds.
    """

    cell: Cell
    state: str
    error: str
    seconds: float


class FreshSubmission(Interleaved):
    """A submission whose cells run in a fresh process; closing it ends the process and removes its folder.

    Args:
        lab: lab whose limits apply.
        cells: cells to run, in order.
        checks: grade id -> number of the cells above this check cell; in the order of the notebook.
        not_run: the experiments.
        lacking: names of modules that grading does not have; importing them fails here as well.
    """

    def __init__(
        self,
        lab: Lab,
        cells: Iterable[Cell],
        checks: Mapping[str, int] | None = None,
        not_run: Iterable[Cell] = (),
        lacking: Iterable[str] = (),
    ) -> None:
        self._cells = list(cells)
        super().__init__(lab, [c.source for c in self._cells], checks or {}, [c.source for c in not_run])
        self._lacking = sorted(lacking)
        self._runs: dict[int, Run] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="amllab-preflight-", ignore_cleanup_errors=True)
        self._kernel: Any = None
        self._client: Any = None
        # threads, tasks etc. of the kernel itself, and those that cells and answers left running
        self._running: set[str] = set()
        self._has_answered = False  # since the last cell

    @property
    def runs(self) -> list[Run]:
        """The outcomes of the cells that were run or left out."""
        return [self._runs[i] for i in sorted(self._runs)]

    def close(self) -> None:
        """End the process and remove its folder."""
        self.stop()
        self._folder.cleanup()

    def defined(self, names: Iterable[str]) -> set[str]:
        """Return which of these names are functions after all cells have run."""
        self.run_rest()
        if not self.is_running:
            self._start()
        return {name for name in names if self._execute(f"callable({name}) or 1 / 0", _START_SECONDS)[:2] == ("ok", "")}

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._client is not None

    def run_cell(self, number: int) -> tuple[str, bool]:
        """Run a cell; return its state and whether it left something running."""
        cell, began = self._cells[number], time.monotonic()
        if not self.is_running:
            self._start()
        elif self._has_answered:
            self._note_running()
        state, error, traceback = self._execute(cell.source, self.limits["cell_seconds"])
        runs_on = False
        if state == "ok":
            seconds = time.monotonic() - began
            state, runs_on = self._settle(self.settle_seconds(number))
            self._runs[number] = Run(cell, state, error, seconds)
            self.errors.pop(number, None)
            if error:
                name, _, message = error.partition(": ")
                self.errors[number] = error_in_words(name, message, traceback, cell.source)
        return state, runs_on

    def put(self, question: bytes) -> tuple[str, bytes]:
        """Send a question to the process and return its state and the answer; both travel in files."""
        if not self.is_running:
            self._start()
        asked, reply = (Path(self._folder.name, f"{name}-{secrets.token_hex(4)}") for name in ("question", "answer"))
        asked.write_bytes(question)
        source = _APART.format(_ANSWER.format(asked=str(asked), reply=str(reply)))
        state, error, _ = self._execute(source, self.answer_seconds)
        self._has_answered = True
        if state == "ok" and not reply.is_file():
            state, answer = "unreadable", error.encode()
        else:
            answer = reply.read_bytes() if state == "ok" else b""
        for file in (asked, reply):
            file.unlink(missing_ok=True)
        if answer.startswith(TAMPERED):
            return "tampered", answer.removeprefix(TAMPERED)
        return state, answer

    def watch(self, seconds: float) -> str:
        """Wait; return ``"ok"`` if the process is still alive after ``seconds``, else ``"died"``."""
        until = time.monotonic() + seconds
        while self._kernel.is_alive():
            if time.monotonic() > until:
                return "ok"
            time.sleep(_LOOK_SECONDS)
        self.stop()
        return "died"

    def leave_out(self, number: int, state: str) -> None:
        """Stop running a cell from now on, and record the reason."""
        super().leave_out(number, state)
        self._runs[number] = Run(self._cells[number], state, "", 0.0)

    def _start(self) -> None:
        # imported only here: the rest of the library does not need it
        from jupyter_client.manager import KernelManager

        work = Path(tempfile.mkdtemp(dir=self._folder.name))
        self._kernel = KernelManager(kernel_name="python3")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # outputs of cells arrive as messages
        variables = {**os.environ, **variables_of(self._lab), VARIABLE: "1"}
        self._kernel.start_kernel(cwd=str(work), env=variables, **quiet)
        self._client = self._kernel.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_START_SECONDS)
        refuse = _APART.format(f"from amllab.preflight.packages import refuse; refuse({self._lacking!r})")
        prepare = _APART.format(_PREPARE.format(self._lab.name))
        for source in (prepare, *([refuse] if self._lacking else [])):
            state, error, _ = self._execute(source, _START_SECONDS)
            if (state, error) != ("ok", ""):
                raise RuntimeError(f"a fresh process did not start: {state} {error}")
        self._note_running()

    def _note_running(self) -> None:
        """Record what is running in the process, so that the next cell is not blamed for it."""
        self._running, self._has_answered = self._left() or set(), False

    def stop(self) -> None:
        """End the process."""
        if self._client is not None:
            self._client.stop_channels()
        if self._kernel is not None:
            self._kernel.shutdown_kernel(now=True)
        self._client = self._kernel = None

    def _settle(self, seconds: float) -> tuple[str, bool]:
        """Check what the last cell left running, and watch the process for ``seconds`` if there is anything new.

        Returns:
            ``"died"`` if the process ends, else ``"ok"``; and whether the cell left something running.
        """
        before, found = self._running, self._left()
        if found is None or leftover.ENDING in found:
            self.stop()
            return "died", True
        self._running = found
        return (self.watch(seconds), True) if found - before else ("ok", False)

    def _left(self) -> set[str] | None:
        """Return what is running in the process.

        Return ``None`` if the process has ended, and what was running before if it does not reply.
        """
        asked = self._client.execute(
            "", silent=True, store_history=False, user_expressions={"left": leftover.EXPRESSION}
        )
        until = time.monotonic() + _PATIENCE * 10
        while time.monotonic() < until:
            try:
                reply = self._client.get_shell_msg(timeout=_PATIENCE)
            except queue.Empty:
                if not self._kernel.is_alive():
                    return None
                continue
            if reply["parent_header"].get("msg_id") == asked:
                return leftover.names_in(reply["content"])
        return self._running

    def _execute(self, source: str, seconds: float) -> tuple[str, str, str]:
        """Execute code; return the state, the error that it ended with, if any, and the traceback.

        The process is ended if the code takes longer than ``seconds``.
        """
        until = time.monotonic() + seconds
        request = self._client.execute(source, store_history=False, allow_stdin=False)
        error = traceback = ""
        while time.monotonic() < until:
            try:
                message = self._client.get_iopub_msg(timeout=_PATIENCE)
            except queue.Empty:
                if self._kernel.is_alive():
                    continue
                self.stop()
                return "died", "", ""
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "error":
                error = f"{content['ename']}: {content['evalue']}"[:300]
                traceback = "\n".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return "ok", error, traceback
        self.stop()
        return "timeout", "", ""
