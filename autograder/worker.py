"""The worker: an isolated process tree in which a submission's code runs, and the judge's connection to it.

Requests and replies are frames of limited size on one socket (:mod:`amllab.checks.frames`): outputs as JSON, answers in the
format of :mod:`amllab.checks.wire`. The judge keeps the time itself: whatever happens inside, it waits no longer than the
limits say, and a worker that does not answer is ended with everything that it started.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.checks.failure import Failure
from amllab.checks.frames import FrameError, receive_frame, send_frame
from amllab.checks.lab import Lab
from amllab.checks.submission import Submission, SubmissionError, problem
from autograder.launcher import Launcher, Tree

log = logging.getLogger(__name__)

# the worker keeps the limits of a cell or an answer itself; the judge steps in when it does not
_GRACE_SECONDS = 5.0
_START_SECONDS = 60.0
_HEAD_BYTES = 100
_REPORT_BYTES = 1500  # of what a broken worker says
_WHY_TIME = "a function that does not return cannot be graded, nor can anything behind it"
_WHY_MEMORY = "a process that takes all memory of the machine takes the others with it"
_FATAL = {
    "timeout": "stopped after {seconds:g} seconds",
    "died": "this cell ended the Python process",
    "memory": "this cell used more memory than the limit of {memory:.1f} GB",
    "budget": "not run: the time for the whole submission, {total:g} seconds, is used up",
    "failures": "not run: too many cells before it ended the Python process or hung",
}
_MOST_FAILURES = 10  # each costs a new process, in which all cells are run again


class WorkerFailed(RuntimeError):  # noqa: N818
    """A worker did not start: a fault of the grading or its machine, never of a submission, of which nothing has run yet."""


@lru_cache
def default_launcher() -> Launcher:
    """One launcher for whoever does not bring one; it starts its fork server when first used."""
    return Launcher()


class Worker(Submission):
    """Runs the cells of a notebook, then answers questions with what they defined.

    Use as a context manager; at its end its processes and their scratch directory are gone.

    Args:
        lab: whose limits hold.
        notebook: the notebook; its code cells get their outputs in place, as they come from the worker: untrusted.
        skip: indices of cells that are not run, their outputs stay as they are.
        launcher: starts the process tree.

    Attributes:
        failed: why no process tree could be started, where that happened: inside a check it would pass for a broken check.
    """

    def __init__(
        self, lab: Lab, notebook: NotebookNode, skip: Iterable[int] = (), launcher: Launcher | None = None
    ) -> None:
        super().__init__(lab.name)
        self.limits = lab.limits
        self.notebook = notebook
        self.skip = set(skip)
        self.launcher = launcher or default_launcher()
        self.failed: WorkerFailed | None = None
        self._tree: Tree | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Worker:
        try:
            self._run_cells()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything that the submission started, at once."""
        self._stop()

    def exchange(self, question: bytes) -> bytes:
        """Carries a question to the worker; one that died or was ended for an earlier question is started anew."""
        if self._tree is None:
            self._run_cells()
        state, body = self._request("ask", question, self.limits["answer_seconds"], self.limits["answer_bytes"])
        if state == "ok":
            return body
        if state == "tampered":
            raise problem({"problem": state, "name": body[:200].decode(errors="replace")})
        raise SubmissionError(state, self._failure(state))

    def _failure(self, state: str) -> Failure:
        if state == "timeout":
            seen = f"no answer within {self.limits['answer_seconds']} seconds"
        elif state == "memory":
            seen = f"the call used more memory than the limit of {self._gigabytes:.1f} GB"
            return Failure("the call returns", seen, _WHY_MEMORY)
        elif state == "budget":
            seen = f"the time for the whole submission, {self.limits['total_seconds']} seconds, is used up"
        elif state == "died":
            seen = "the process died during the call (out of memory, or ended by the code itself)"
        else:
            seen = "the call left no readable result: none, one that is too large, or no room for it was left"
        return Failure("the call returns", seen, _WHY_TIME)

    @property
    def _gigabytes(self) -> float:
        return float(self.limits["memory_bytes"]) / 1e9

    @property
    def seconds_left(self) -> float:
        """Seconds that the whole submission still has."""
        return float(self.limits["total_seconds"]) - (time.monotonic() - self._began)

    def _request(self, do: str, body: bytes, seconds: float, limit: int) -> tuple[str, bytes]:
        """One request; returns its state and the body of its reply. After a state of failure nothing runs any more."""
        if self.seconds_left <= 0:
            return "budget", b""
        if self._tree is None:
            self._tree = self._started()
        allowed = min(seconds, self.seconds_left)
        try:
            self._tree.connection.settimeout(allowed + _GRACE_SECONDS)
            request = json.dumps({"do": do, "seconds": allowed}).encode() + b"\n" + body
            send_frame(self._tree.connection, request)
            reply = receive_frame(self._tree.connection, limit + 1000, allowed + _GRACE_SECONDS)
            state, answered = self._read(reply)
        except TimeoutError:
            state, answered = "timeout", b""
        except FrameError:
            state, answered = "unreadable", b""
        except OSError:
            state, answered = "died", b""
        if state == "timeout" and allowed < seconds:
            state = "budget"
        if state not in ("ok", "tampered"):
            state = self._stop() or state
        return state, answered

    @staticmethod
    def _read(reply: bytes | None) -> tuple[str, bytes]:
        """State and body of a reply; whatever is not one is unreadable."""
        if reply is None:
            return "died", b""
        head, _, body = reply.partition(b"\n")
        if len(head) > _HEAD_BYTES:  # as JSON it could take many times as much memory here
            return "unreadable", b""
        try:
            state = json.loads(head)["state"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return "unreadable", b""
        if state == "broken":  # its own part failed; or code that has taken it over says so
            log.warning("a worker broke: %r", body[-_REPORT_BYTES:].decode(errors="replace"))
        return (state, body) if state in ("ok", "timeout", "died", "tampered") else ("unreadable", b"")

    def _started(self) -> Tree:
        """A process tree that waits for requests.

        Raises:
            IsolationError, WorkerFailed: nothing of the submission has run yet, so it is not its fault.
        """
        names = ("memory_bytes", "processes", "open_files", "file_bytes", "scratch_bytes")
        limits = {name: self.limits[name] for name in names} | {"cpu_seconds": 2 * self.limits["total_seconds"]}
        serve = {name: self.limits[name] for name in ("output_bytes", "answer_bytes")}
        tree = self.launcher.start(limits, serve)
        try:
            hello = receive_frame(tree.connection, 1 << 16, _START_SECONDS) or b"no message"
        except OSError as error:
            hello = str(error).encode()
        if not hello.startswith(b'{"state": "ready"}'):
            self.launcher.end(tree)
            self.failed = WorkerFailed(f"a worker did not start:\n{hello.decode(errors='replace')}")
            raise self.failed
        return tree

    def _stop(self) -> str:
        """Ends the process tree; returns ``"memory"`` where that had ended it before, else nothing."""
        tree, self._tree = self._tree, None
        return "memory" if tree is not None and self.launcher.end(tree) == "memory" else ""

    def _run_cells(self) -> None:
        """Runs the notebook's code cells in order; a cell that fails, hangs or kills the process costs only itself.

        A cell that hung or killed the process is left out from then on, and the others are run in a new one; a notebook
        that goes on like this is not run any further.
        """
        failures = 0
        while (failure := self._run_until_failure()) is not None:
            index, state = failure
            failures += 1
            log.warning("cell %d: %s", index, state)
            for later in [index] if failures < _MOST_FAILURES and state != "budget" else self._cells_from(index):
                self._leave_out(later, state if later == index or state == "budget" else "failures")

    def _cells_from(self, first: int) -> list[int]:
        cells = self.notebook.cells
        return [i for i in range(first, len(cells)) if i not in self.skip and _is_run(cells[i])]

    def _run_until_failure(self) -> tuple[int, str] | None:
        """Runs the cells; returns index and state of the first that ended the process, ``None`` when all were run."""
        for index in self._cells_from(0):
            cell = self.notebook.cells[index]
            limit = self.limits["output_bytes"]
            state, body = self._request("run", cell.source.encode(), self.limits["cell_seconds"], 4 * limit)
            if state != "ok":
                return index, state
            cell.outputs, cell.execution_count = _outputs(body), None
        return None

    def _leave_out(self, index: int, state: str) -> None:
        """From now on a cell is not run, and its output says why."""
        text = _FATAL.get(state, _FATAL["died"]).format(
            seconds=self.limits["cell_seconds"], memory=self._gigabytes, total=self.limits["total_seconds"]
        )
        self.skip.add(index)
        cell = self.notebook.cells[index]
        cell.outputs = [nbformat.v4.new_output("error", ename="Grading", evalue=text, traceback=[text])]


def _is_run(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _outputs(body: bytes) -> list[Any]:
    """The outputs in a reply, not cleaned yet; none where they are no JSON list."""
    try:
        outputs = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return outputs if isinstance(outputs, list) else []
