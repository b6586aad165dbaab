"""A fresh process that runs a notebook's cells and then answers the checks' questions: here what grading's worker is there.

It is a Jupyter kernel of its own in an empty folder, with the settings that grading has: one thread, no GPU, drawn images, no
downloads. Nothing of the notebook that is open is in it.
"""

from __future__ import annotations

import os
import queue
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from amllab.checks.failure import Failure
from amllab.checks.integrity import TAMPERED
from amllab.checks.lab import Lab
from amllab.checks.submission import Submission, SubmissionError, problem
from amllab.preflight.document import Cell

VARIABLE = "AMLLAB_PREFLIGHT"
_SETTINGS = {
    VARIABLE: "1",
    "AMLLAB_PROGRESS": "0",
    "AMLLAB_DATA": "drawn",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
_START_SECONDS = 120
_PATIENCE = 0.5  # seconds between two looks at a process that says nothing
# in a namespace of their own: the notebook's stays as it is
_PREPARE = "exec('from amllab.checks import integrity; integrity.known = integrity.identities()', {})"
_ANSWER = "exec({!r}, {{}})"
_WHY = "a function that does not return cannot be graded, nor can anything behind it"


@dataclass(frozen=True)
class Run:
    """What became of a cell.

    Attributes:
        cell: the cell.
        state: ``"ok"`` also where it raised an error, ``"timeout"`` or ``"died"``.
        error: type and message of the error, or empty.
        seconds: wall time.
    """

    cell: Cell
    state: str
    error: str
    seconds: float


class FreshSubmission(Submission):
    """Runs cells in a fresh process, then answers questions with what they defined. Use as a context manager.

    A cell or an answer that hangs or ends the process costs only itself: the others are run again in a new one.

    Args:
        lab: whose limits hold.
        cells: to run, in order.

    Attributes:
        runs: what became of each cell.
    """

    def __init__(self, lab: Lab, cells: Iterable[Cell]) -> None:
        super().__init__(lab.name)
        self.limits = lab.limits
        self.cells = list(cells)
        self._runs: dict[int, Run] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="amllab-preflight-", ignore_cleanup_errors=True)
        self._kernel: Any = None
        self._client: Any = None

    @property
    def runs(self) -> list[Run]:
        return [self._runs[i] for i in sorted(self._runs)]

    def __enter__(self) -> FreshSubmission:
        try:
            self._run_cells()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._stop()
        self._folder.cleanup()

    def defined(self, names: Iterable[str]) -> set[str]:
        """Which of these names are functions, now that the cells have run."""
        return {name for name in names if self._execute(f"callable({name}) or 1 / 0", _START_SECONDS) == ("ok", "")}

    def exchange(self, question: bytes) -> bytes:
        """Carries a question to the process, and its answer back, in files."""
        if self._client is None:
            self._run_cells()
        asked, reply = (Path(self._folder.name, f"{name}-{secrets.token_hex(4)}") for name in ("question", "answer"))
        asked.write_bytes(question)
        call = f"integrity.answer_file({str(asked)!r}, {str(reply)!r}, integrity.known)"
        source = _ANSWER.format(f"from amllab.checks import integrity; {call}")
        state, error = self._execute(source, self.limits["answer_seconds"])
        if state != "ok" or not reply.is_file():
            raise SubmissionError(state if state != "ok" else "unreadable", self._failure(state, error))
        answer = reply.read_bytes()
        asked.unlink()
        reply.unlink()
        if answer.startswith(TAMPERED):
            raise problem({"problem": "tampered", "name": answer.removeprefix(TAMPERED).decode(errors="replace")})
        return answer

    def _failure(self, state: str, error: str) -> Failure:
        seen = {
            "timeout": f"no answer within {self.limits['answer_seconds']:g} seconds",
            "died": "the process ended during the call (out of memory, or by the code itself)",
        }.get(state, f"the call left no result ({error})")
        return Failure("the call returns", seen, _WHY)

    def _run_cells(self) -> None:
        """Runs all cells that did not hang or end the process before; begins anew after one that does."""
        done = False
        while not done:
            done = self._run_until_failure()

    def _run_until_failure(self) -> bool:
        self._start()
        for i, cell in enumerate(self.cells):
            if i in self._runs and self._runs[i].state != "ok":
                continue
            began = time.monotonic()
            state, error = self._execute(cell.source, self.limits["cell_seconds"])
            self._runs[i] = Run(cell, state, error, time.monotonic() - began)
            if state != "ok":
                return False
        return True

    def _start(self) -> None:
        # what runs notebooks is there where a notebook is, and not needed by the rest of the library
        from jupyter_client.manager import KernelManager

        work = Path(tempfile.mkdtemp(dir=self._folder.name))
        self._kernel = KernelManager(kernel_name="python3")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # outputs of cells go another way
        self._kernel.start_kernel(cwd=str(work), env={**os.environ, **_SETTINGS}, **quiet)
        self._client = self._kernel.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_START_SECONDS)
        state, error = self._execute(_PREPARE, _START_SECONDS)
        if (state, error) != ("ok", ""):
            raise RuntimeError(f"a fresh process did not start: {state} {error}")

    def _stop(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
        if self._kernel is not None:
            self._kernel.shutdown_kernel(now=True)
        self._client = self._kernel = None

    def _execute(self, source: str, seconds: float) -> tuple[str, str]:
        """State of an execution, and the error that it ended with, if any. A process that hangs is ended."""
        until = time.monotonic() + seconds
        request = self._client.execute(source, store_history=False, allow_stdin=False)
        error = ""
        while time.monotonic() < until:
            try:
                message = self._client.get_iopub_msg(timeout=_PATIENCE)
            except queue.Empty:
                if self._kernel.is_alive():
                    continue
                self._stop()
                return "died", ""
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "error":
                error = f"{content['ename']}: {content['evalue']}"[:300]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return "ok", error
        self._stop()
        return "timeout", ""
