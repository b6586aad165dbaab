"""The worker: a process of its own, in which a submission's code runs.

The process is a Jupyter kernel, started and talked to with nbclient; isolation belongs into the kernel provisioner that
starts it. Questions and answers travel as files in the worker's scratch directory (:mod:`amllab.checks.wire`): the judge
reads plain data of limited size, nothing else.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import nbformat
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from amllab.checks.failure import Failure
from amllab.checks.lab import Lab
from amllab.checks.submission import Submission, SubmissionError

log = logging.getLogger(__name__)

# what a worker's process may know of the grader's environment
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_STARTUP_SECONDS = 120
_SERVE = "__import__('amllab.checks.serve', fromlist=['serve']).serve({question!r}, {reply!r})"
_WHY_TIME = "a function that does not return cannot be graded, nor can anything behind it"


class Worker(Submission):
    """Runs the cells of a notebook in a kernel, then answers questions with what they defined.

    Use as a context manager; at its end the kernel and its scratch directory are gone.

    Args:
        lab: whose limits hold.
        notebook: the notebook; its code cells get their outputs in place.
        skip: indices of cells that are not run, their outputs stay as they are.
    """

    def __init__(self, lab: Lab, notebook: NotebookNode, skip: Iterable[int] = ()) -> None:
        super().__init__(lab.name)
        self.limits = lab.limits
        self.notebook = notebook
        self.skip = set(skip)
        self.scratch = Path(tempfile.mkdtemp(prefix="amllab-worker-"))
        self._client: NotebookClient | None = None
        self._questions = 0

    def __enter__(self) -> Worker:
        try:
            self._start()
            self._run_cells()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the kernel at once and removes its scratch directory."""
        self._stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def exchange(self, question: bytes) -> bytes:
        """Carries a question to the kernel; a kernel that died or was ended for an earlier question is started anew."""
        if self._client is None:
            self._start()
            self._run_cells()
        self._questions += 1
        asked, reply = (self.scratch / f"{name}-{self._questions}" for name in ("question", "answer"))
        asked.write_bytes(question)
        cell = nbformat.v4.new_code_cell(_SERVE.format(question=str(asked), reply=str(reply)))
        seconds = self.limits["answer_seconds"]
        try:
            self._execute(cell, seconds)
            return _read_regular_file(reply, self.limits["answer_bytes"])
        except CellTimeoutError:
            self._stop()
            seen = f"no answer within {seconds} seconds"
            raise SubmissionError("timeout", Failure("the call returns in time", seen, _WHY_TIME)) from None
        except DeadKernelError:
            self._stop()
            seen = "the process died during the call (out of memory, or ended by the code itself)"
            raise SubmissionError("died", Failure("the call returns", seen, _WHY_TIME)) from None
        except OSError as error:
            seen = f"the call left no readable result ({error.strerror or error})"
            raise SubmissionError("unreadable", Failure("the call returns", seen, _WHY_TIME)) from None

    def _start(self) -> None:
        env = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        home = {name: str(self.scratch) for name in ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR")}
        # threads that wait do not spin: on a busy machine a training would otherwise take many times as long
        quiet = {
            "OMP_WAIT_POLICY": "PASSIVE",
            "AMLLAB_PROGRESS": "0",
            "AMLLAB_DATA": "drawn",
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
        }
        # sockets in the scratch directory: no port of the machine is opened
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(self.scratch / "kernel"))
        client = NotebookClient(
            nbformat.v4.new_notebook(), km=manager, allow_errors=True, startup_timeout=_STARTUP_SECONDS
        )
        nowhere = subprocess.DEVNULL
        client.extra_arguments = ["--HistoryManager.hist_file=:memory:"]
        client.start_new_kernel(cwd=str(self.scratch), env={**env, **home, **quiet}, stdout=nowhere, stderr=nowhere)
        client.start_new_kernel_client()
        self._client = client

    def _stop(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if client.kc is not None:
            client.kc.stop_channels()
        if client.km is not None:
            _wait(client.km.shutdown_kernel(now=True))

    def _execute(self, cell: NotebookNode, seconds: int) -> None:
        """Runs one cell; raises ``CellTimeoutError`` or ``DeadKernelError``, an error in the cell is an output."""
        if self._client is None:
            raise DeadKernelError("no kernel")
        self._client.timeout = seconds
        self._client.nb.cells = [cell]
        self._client.execute_cell(cell, 0, store_history=False)

    def _run_cells(self) -> None:
        """Runs the notebook's code cells in order; a cell that fails, hangs or kills the kernel costs only itself.

        A cell that hung or killed the kernel is left out from then on, so that the others can be run in a new one.
        """
        for index, cell in enumerate(self.notebook.cells):
            if cell.cell_type != "code" or index in self.skip or not cell.source.strip():
                continue
            cell.outputs, cell.execution_count = [], None
            seconds = self.limits["cell_seconds"]
            try:
                self._execute(cell, seconds)
            except (CellTimeoutError, DeadKernelError) as error:
                timed_out = isinstance(error, CellTimeoutError)
                text = f"stopped after {seconds} seconds" if timed_out else "this cell ended the Python process"
                log.warning("cell %d: %s", index, text)
                self.skip.add(index)
                cell.outputs = [nbformat.v4.new_output("error", ename="Grading", evalue=text, traceback=[text])]
                self._stop()
                self._start()
                self._run_cells()
                return


def _wait(awaitable: object) -> None:
    """Runs nbclient's and jupyter_client's coroutines to their end, whether or not a loop is running."""

    async def wait() -> None:
        await awaitable  # type: ignore[misc]

    run_sync(wait)()


def _read_regular_file(path: Path, limit: int) -> bytes:
    """Reads a file that the worker wrote: no link, no device, not larger than ``limit`` bytes."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > limit:
            raise OSError(f"{status.st_size} bytes, allowed are {limit}")
        return file.read(limit + 1)
