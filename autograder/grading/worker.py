"""The worker: an isolated process tree in which a submission's code runs, and the grader's connection to it.

Requests and replies are frames of limited size on one socket (:mod:`amllab.protocol.frames`): outputs as JSON, answers
in the format of :mod:`amllab.protocol.wire`. The grader measures the time itself: whatever happens inside, it waits no
longer than the limits allow, and it ends a worker that does not answer, with everything that the worker started.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.lab import Lab
from amllab.protocol.frames import FrameError, receive_frame, send_frame
from amllab.worker.causes import error_in_words
from amllab.worker.hanging import short_seconds
from amllab.worker.interleaved import Interleaved
from autograder.errors import CourseError, IsolationError, LabError, WorkerError
from autograder.notebooks.metadata import is_autograded
from autograder.sandbox.contention import Load, Use
from autograder.sandbox.launcher import Launcher, Tree

log = logging.getLogger(__name__)

# the worker enforces the limits of cells and answers itself; the grader steps in if it does not
_GRACE_SECONDS = 5.0
_START_SECONDS = 60.0
_HEAD_BYTES = 100
_NAME_BYTES, _MOST_HANGING = 1000, 20  # of a function that hangs; how many are remembered
_ENOUGH = 1 / 3  # share of the time of an answer, as processor time: a slow answer takes less
_REPORT_BYTES = 1500  # end of the message from a broken worker
_STATES = ("ok", "timeout", "again", "died", "tampered")  # that a worker may reply
_FATAL = {
    "timeout": "stopped after {cell_seconds:g} seconds",
    "died": "this cell ended the Python process",
    "memory": "this cell used more memory than the limit of {gigabytes:.1f} GB",
    "budget": "not run: the time for the whole submission, {total_seconds:g} seconds, is used up",
    "failures": "not run: too many cells before it hung or ended the Python process",
}


@lru_cache
def default_launcher() -> Launcher:
    """Return the launcher for callers that provide none; it starts its fork server on first use."""
    return Launcher()


class Worker(Interleaved):
    """An isolated process tree that runs the cells of a notebook.

    Closing the worker ends the process tree and removes its scratch directory.

    Args:
        lab: The lab, whose limits apply.
        notebook: The notebook. Its code cells receive their outputs in place, as the worker sends them: untrusted.
        skip: Indices of cells that are not run; their outputs stay unchanged.
        launcher: Starts the process tree; by default the launcher that this process shares.

    Attributes:
        failed: The error if no process tree could be started. It is stored because, raised inside a check, it would
            look like a broken check.
        crowded: How other processes starved the worker of CPU time until it reached a time limit; empty if they did
            not.
        own_cores: Whether the worker is restricted to its share of the processors.
    """

    own_cores = True

    def __init__(
        self, lab: Lab, notebook: NotebookNode, skip: Iterable[int] = (), launcher: Launcher | None = None
    ) -> None:
        skipped = set(skip)
        code = [i for i, cell in enumerate(notebook.cells) if _is_run(cell)]
        self._indices = [i for i in code if i not in skipped]  # of the cells that are run
        checks = {
            cell.metadata.nbgrader.grade_id: sum(index < i for index in self._indices)
            for i, cell in enumerate(notebook.cells)
            if is_autograded(cell)
        }
        super().__init__(
            lab,
            [notebook.cells[i].source for i in self._indices],
            checks,
            [notebook.cells[i].source for i in code if i in skipped and not is_autograded(notebook.cells[i])],
        )
        self.notebook = notebook
        self.launcher = launcher or default_launcher()
        self.failed: CourseError | None = None
        self.crowded = ""
        self._hanging: set[str] = set()  # functions that used up the time of an answer
        self._slow: set[str] = set()  # functions that did so once, on a busy machine
        self._stopped = 0  # questions in a row that such a function has ended
        self._longest = 0.0  # seconds of the longest answer so far
        self._halved = False  # whether the short limit of the last question was halved
        # whether other processes starved the last request that reached a time limit, and its seconds of processor time
        self._starved, self._got = False, 0.0
        self._tree: Tree | None = None
        self._load: Load | None = None
        self._began = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether there is a process tree; if not, the next request starts one."""
        return self._tree is not None

    def run_cell(self, number: int) -> tuple[str, bool]:
        """Run a cell and store its outputs; return its state, and whether it left something running."""
        cell, limit = self.notebook.cells[self._indices[number]], self.limits["output_bytes"]
        watch = self.settle_seconds(number)
        state, body, runs_on = self._request(
            "run", cell.source.encode(), self.limits["cell_seconds"], 4 * limit, watch=watch
        )
        if state == "ok":
            cell.outputs, cell.execution_count = _outputs(body), None
            self.errors.pop(number, None)
            if error := _error_of(cell):
                self.errors[number] = error
        return state, runs_on

    def put(self, question: bytes) -> tuple[str, bytes]:
        """Put a question within the limits of an answer; return its state, and the answer.

        A function that used up this time in an earlier question gets less, but never less than twice what the longest
        answer took: a new process may have to compile it again. On a busy machine, where it may just have been slow, it
        takes two such questions, unless it got enough processor time in the first, and the short limit is not halved.
        """
        seconds, began = self.answer_seconds, time.monotonic()
        known = sorted(self._hanging)
        self._halved = self._stopped > 0 and not self.crowded
        short = min(max(short_seconds(seconds, self._stopped if self._halved else 0), 2 * self._longest), seconds)
        state, body, _ = self._request(
            "ask", question, seconds, self.limits["answer_bytes"], short=short, hanging=known
        )
        name = body[:_NAME_BYTES].decode(errors="replace")
        if state == "timeout" and name and len(self._hanging | self._slow) < _MOST_HANGING:
            slow = self._starved and self._got < _ENOUGH * seconds and name not in self._slow
            (self._slow if slow else self._hanging).add(name)
        if state == "again" and name not in known:  # no worker of ours says this
            return "unreadable", b""
        if state == "again" and self._halved and self._starved:
            self._stopped = 0  # so this happens once
            return "repeat", b""
        if state == "ok":
            self._longest = max(self._longest, time.monotonic() - began)
        self._stopped = self._stopped + 1 if state == "again" else 0
        return state, body

    def reach(self, cell: str | None) -> None:
        """Set the check cell of the next questions; a new one has the whole short limit again."""
        if cell != self.cell:
            self._stopped = 0
        super().reach(cell)

    def watch(self, seconds: float) -> str:
        """Wait without asking anything; return ``"ok"`` if the process still runs at the end."""
        return self._request("watch", b"", seconds, 0)[0]

    def stop(self) -> None:
        """End the process tree; the next request starts a new one."""
        self._stop()

    def leave_out(self, number: int, state: str) -> None:
        """Exclude a cell from all further runs; its output says why."""
        super().leave_out(number, state)
        text = self.with_limits(_FATAL.get(state, _FATAL["died"]))
        index = self._indices[number]
        log.warning("cell %d: %s", index, state)
        output = nbformat.v4.new_output("error", ename="Grading", evalue=text, traceback=[text])
        self.notebook.cells[index].outputs = [output]

    @property
    def stopped(self) -> dict[int, str]:
        """Index of each cell that a limit ended or kept from running -> the reason, in the grader's own words."""
        indices = [self._indices[number] for number in sorted(self.left_out)]
        return {index: self.notebook.cells[index].outputs[0].evalue for index in indices}

    @property
    def failures_above_checks(self) -> dict[int, str]:
        """Index of each cell above the last check cell that did not run to its end -> the error, or what stopped it."""
        last = max(self._above.values(), default=0)
        found = {self._indices[number]: error for number, error in self.errors.items() if number < last}
        return found | {index: why for index, why in self.stopped.items() if index in self._indices[:last]}

    @property
    def seconds_left(self) -> float:
        """Seconds left for the whole submission."""
        return float(self.limits["total_seconds"]) - (time.monotonic() - self._began)

    def _request(self, do: str, body: bytes, seconds: float, limit: int, **more: object) -> tuple[str, bytes, bool]:
        """Send one request; return its state, the body of the reply, and whether the cell left something running.

        After any state but ``"ok"`` or ``"tampered"``, the process tree has ended.
        """
        if self.seconds_left <= 0:
            self._note_load("budget")
            self._stop()
            return "budget", b"", False
        if self._tree is None:
            self._tree = self._started()
            self._load = Load(self._tree.number, self._tree.cores)
        since = self._load.mark() if self._load is not None else None
        allowed, runs_on = min(seconds, self.seconds_left), False
        try:
            self._tree.connection.settimeout(allowed + _GRACE_SECONDS)
            request = json.dumps({"do": do, "seconds": allowed, **more}).encode() + b"\n" + body
            send_frame(self._tree.connection, request)
            reply = receive_frame(self._tree.connection, limit + 1000, allowed + _GRACE_SECONDS)
            state, answered, runs_on = self._read(reply)
        except TimeoutError:
            state, answered = "timeout", b""
        except FrameError:
            state, answered = "unreadable", b""
        except OSError:
            state, answered = "died", b""
        if state == "timeout" and allowed < seconds:
            state = "budget"
        self._note_load(state, since)
        if state not in ("ok", "tampered"):
            state = self._stop() or state
        return state, answered, runs_on

    def _note_load(self, state: str, since: Use | None = None) -> None:
        """Record whether other processes starved the worker of CPU time, if it has reached a time limit.

        The time counts from ``since`` for a single request, and from the start for the limit of the whole submission.
        """
        if state not in ("timeout", "again", "budget") or self._load is None:
            return
        since = self._load.first if state == "budget" or since is None else since
        taken, self._got = self._load.taken(since), self._load.got(since)
        self._starved = bool(taken)
        if not self.crowded and not (state == "again" and self._halved):  # that question is put again
            self.crowded = taken

    @staticmethod
    def _read(reply: bytes | None) -> tuple[str, bytes, bool]:
        """Return the state and body of a reply, and whether a cell left something running.

        Without a reply, the state is ``"died"``; for anything that is not a valid reply, it is ``"unreadable"``.
        """
        if reply is None:
            return "died", b"", False
        head, _, body = reply.partition(b"\n")
        if len(head) > _HEAD_BYTES:  # parsed as JSON, it could take many times as much memory in this process
            return "unreadable", b"", False
        try:
            said = json.loads(head)
            state, runs_on = said["state"], said.get("runs_on") is True
        except (AttributeError, ValueError, KeyError, TypeError, RecursionError):
            return "unreadable", b"", False
        if state == "broken":  # its own code failed, or code that has taken it over claims so
            log.warning("a worker raised an internal error: %r", body[-_REPORT_BYTES:].decode(errors="replace"))
        return (state, body, runs_on) if state in _STATES else ("unreadable", b"", False)

    def _started(self) -> Tree:
        """Start a process tree, and return it when it is ready for requests.

        Raises:
            IsolationError, LabError, WorkerError: Nothing of the submission has run yet, so it is not at fault.
        """
        names = ("memory_bytes", "processes", "open_files", "file_bytes", "scratch_bytes")
        limits = {name: self.limits[name] for name in names} | {"cpu_seconds": 2 * self.limits["total_seconds"]}
        serve = {name: self.limits[name] for name in ("output_bytes", "answer_bytes")}
        try:
            tree = self.launcher.start(self._lab, limits, serve, own_cores=self.own_cores)
        except (IsolationError, LabError) as error:
            self.failed = error
            raise
        try:
            hello = receive_frame(tree.connection, 1 << 16, _START_SECONDS) or b"no message"
        except OSError as error:
            hello = str(error).encode()
        if not hello.startswith(b'{"state": "ready"}'):
            self.launcher.end(tree)
            self.failed = WorkerError(f"a worker did not start:\n{hello.decode(errors='replace')}")
            raise self.failed
        return tree

    def _stop(self) -> str:
        """End the process tree; return ``"memory"`` if the memory limit had ended it before, else an empty string."""
        tree, self._tree = self._tree, None
        return "memory" if tree is not None and self.launcher.end(tree) == "memory" else ""


def _is_run(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _error_of(cell: NotebookNode) -> str:
    """Return the error that ended a cell, as far as its outputs can be trusted; empty if there is none."""
    for output in cell.outputs:
        if isinstance(output, dict) and output.get("output_type") == "error":
            lines = output.get("traceback")
            traceback = "\n".join(map(str, lines)) if isinstance(lines, list) else ""
            return error_in_words(str(output.get("ename")), str(output.get("evalue")), traceback, cell.source)
    return ""


def _outputs(body: bytes) -> list[Any]:
    """Return the outputs in a reply, not cleaned yet; empty unless the body is a JSON list."""
    try:
        outputs = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return outputs if isinstance(outputs, list) else []
