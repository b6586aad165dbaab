"""Grading ahead: processes that grade the class on all cores, while nbgrader goes through it one by one.

Every process is a judge of its own; all of them share one fork server for the workers of submissions, and one reference. What they find is kept
(:mod:`autograder.grading.cache`), and taken from there when nbgrader comes to a submission: the same scores, book and log as one after
the other. A judge that dies costs its submission a second attempt, and the others nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import hashlib
import hmac
import json
import logging
import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
from nbformat import NotebookNode
from pebble import ProcessExpired, ProcessFuture, ProcessPool
from tqdm import tqdm

from amllab.checks.lab import Lab, find_lab
from amllab.checks.results import score
from amllab.checks.run import ChecksBroken
from autograder.grading.cache import Graded, Kept, key_of, written
from autograder.grading.grader import Grading, Reference, ReferenceFailed, grade, not_run
from autograder.grading.reference_server import Serving, SharedReference
from autograder.grading.worker import WorkerFailed
from autograder.notebooks.metadata import is_autograded, scores_of
from autograder.notebooks.normalize import Repaired, read_release, repair
from autograder.sandbox import IsolationError
from autograder.sandbox.launcher import Launcher

log = logging.getLogger(__name__)


class ClusterFailed(RuntimeError):  # noqa: N818
    """The other machines cannot grade: none is there, or what runs on them is another version."""


# faults of the course or of its machines: they would cost every student the same
COURSE_FAULTS = (ReferenceFailed, ChecksBroken, WorkerFailed, IsolationError, ClusterFailed)
_SUBMISSIONS_A_PROCESS = 200  # then it makes room for a new one: its reference keeps what it has answered
_SPARE = 0.9  # share of the memory at hand that is planned with
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Setting:
    """What grading a submission needs to know of the course.

    Attributes:
        assignment: of the lab.
        limits: that replace those of ``lab.toml``.
        release, solution: notebooks.
        root: the course's folder, which no worker sees.
        kept: folder of gradings.
        secret: from which seeds are made; see :func:`seed_of`.
        seed: of all submissions; by default each has its own.
        isolation: of the workers.
    """

    assignment: str
    limits: dict[str, int]
    release: Path
    solution: Path
    root: Path
    kept: Path
    secret: str
    seed: int | None
    isolation: str


class Judge:
    """Grades submissions of one assignment.

    Args:
        setting: of the course.
        launcher: starts the workers; closed by whoever made it.
        release: as read from ``setting.release``.
        reference: where a reference answers that other judges ask too (:class:`autograder.grading.reference_server.Serving`); by default this one
            starts its own.
    """

    def __init__(
        self, setting: Setting, launcher: Launcher, release: NotebookNode, reference: str | None = None
    ) -> None:
        self.setting, self.launcher, self.release = setting, launcher, release
        self._address = reference
        lab = find_lab(setting.assignment)
        self.lab: Lab = dataclasses.replace(lab, limits={**lab.limits, **setting.limits})
        self.kept = Kept(setting.kept)
        self._reference: Reference | None = None

    def seed(self, student: str, notebook: NotebookNode) -> int:
        return seed_of(self.setting.secret, student, notebook) if self.setting.seed is None else self.setting.seed

    def key(self, student: str, notebook: NotebookNode, repaired: Repaired) -> str:
        """Under which the grading of this notebook is kept."""
        solution = self.setting.solution
        return key_of(
            notebook,
            self.lab,
            seed=self.seed(student, notebook),
            notes=repaired.notes,
            readable=repaired.readable,
            isolation=self.setting.isolation,
            solution=hashlib.sha256(solution.read_bytes()).hexdigest() if solution.is_file() else "",
        )

    def graded(self, student: str, notebook: NotebookNode, repaired: Repaired) -> Graded:
        """Grades a repaired notebook, and keeps what came of it.

        Raises:
            COURSE_FAULTS: nothing is wrong with the submission.
        """
        attempt, grading, again = self._grade_fairly(student, notebook, repaired)
        earned, possible = score(grading.results)
        sound = all(result.outcome != "error" for result in grading.results)
        # outputs of experiments stay as they were handed in
        untouched = [i for i in not_run(attempt) if not is_autograded(attempt.cells[i])]
        scores = {cell: score for cell, score in scores_of(attempt).items() if score is not None}
        found = Graded(
            written(attempt, untouched),
            earned,
            possible,
            grading.seconds,
            [*again, *_attention(grading, repaired)],
            sound,
            scores,
        )
        if sound:
            self.kept.put(self.key(student, notebook, repaired), found)
        return found

    def _grade_fairly(
        self, student: str, notebook: NotebookNode, repaired: Repaired
    ) -> tuple[NotebookNode, Grading, list[str]]:
        """The graded notebook, and a line where a busy machine made it necessary to grade again, alone, before points are taken."""
        if not repaired.readable:  # nothing of it runs
            return *self._grade(student, notebook, repaired), []
        crowded = ""
        try:
            with self.launcher.turns.beside():
                attempt, grading = self._grade(student, notebook, repaired)
                crowded = grading.crowded
        except WorkerFailed as error:  # it did not start in time, for which there is no other cause that passes
            crowded = one_line(str(error))
        if not crowded:
            return attempt, grading, []
        log.warning("%s: a limit of time was reached while %s; graded again, alone", student, crowded)
        with self.launcher.turns.alone():
            attempt, grading = self._grade(student, notebook, repaired)
        line = f"graded again, alone, since a limit of time was reached while {crowded}"
        if grading.crowded:
            line += "; the second time too: other programs keep this machine busy, grade again when they have ended"
        return attempt, grading, [one_line(line, 600)]

    def _grade(self, student: str, notebook: NotebookNode, repaired: Repaired) -> tuple[NotebookNode, Grading]:
        """The graded notebook. A reference that failed is started again, once: a busy machine can do that to it too."""
        seed = self.seed(student, notebook)
        for last in (False, True):
            if self._reference is None:
                self._reference = self.new_reference()
            reference, attempt = self._reference, copy.deepcopy(notebook)
            grading = grade(
                attempt,
                self.lab,
                reference,
                seed=seed,
                notes=repaired.notes,
                readable=repaired.readable,
                launcher=self.launcher,
            )
            if reference.failed is None:
                break
            self.close()
            if last:
                raise reference.failed
            log.warning("%s: once more, with a new process", one_line(str(reference.failed)))
        return attempt, grading

    def new_reference(self) -> Reference:
        if self._address is not None:
            return SharedReference(self.lab, self.setting.solution, self._address)
        return Reference(self.lab, self.setting.solution, self.launcher)

    def close(self) -> None:
        """Ends the reference's worker."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None


def _attention(grading: Grading, repaired: Repaired) -> list[str]:
    """What a person should know of a graded submission: unreadable, stopped, or a check that broke on it."""
    if not repaired.readable:
        return [one_line(" ".join(repaired.notes))]
    broken = [
        f"the check {result.name} broke, which is no fault of the submission: {result.failure and result.failure.seen}"
        for result in grading.results
        if result.outcome == "error"
    ]
    return [one_line(line) for line in [*grading.stopped, *broken]]


def seed_of(secret: str, student: str, notebook: NotebookNode) -> int:
    """The seed of a submission's checks: the same whenever the same code is graded again, and never to be foreseen.

    Args:
        secret: the assignment's random id in the gradebook, which no submission gets to see.
        student: whose submission it is.
        notebook: before it is run; all that is run counts (:func:`what_is_run`), so that no code can be written for its own
            seed, and nothing else, so that nobody draws questions until they like them.
    """
    code = [student, what_is_run(notebook)]
    return int.from_bytes(hmac.digest(secret.encode(), json.dumps(code).encode(), "sha256")[:8], "big") >> 1


def what_is_run(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a worker gets to do for a notebook, in order: the sources of the cells that are run, and between them the checks.

    Where a check stands counts as the code around it does: how many cells are run before it can tell the code something.
    """
    skipped = set(not_run(notebook))
    steps = []
    for i, cell in enumerate(notebook.cells):
        if is_autograded(cell):
            steps.append(("check", cell.metadata.nbgrader.grade_id))
        elif i not in skipped and cell.cell_type == "code" and cell.source.strip():
            steps.append(("run", cell.source))
    return steps


def one_line(text: str, most: int = 300) -> str:
    """Text that may come from a submission, fit for a log: on one line, nothing that a terminal would obey."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= most else line[:most] + " ..."


# In the processes that grade ahead

_judge: Judge | None = None


def _begin(setting: Setting, address: str, reference: str | None) -> None:
    global _judge
    launcher = Launcher(setting.isolation, setting.root, address=address)
    _judge = Judge(setting, launcher, read_release(setting.release), reference)


def _grade_ahead(student: str, path: Path, again: bool) -> str:
    """Grades what was handed in, unless that was done before; returns the key that it is kept under."""
    assert _judge is not None
    repaired = repair(path, _judge.release)
    key = _judge.key(student, repaired.notebook, repaired)
    if again or _judge.kept.get(key) is None:
        _judge.graded(student, repaired.notebook, repaired)
        gc.collect()  # pytest leaves cycles that hold the answers: without it every submission takes up more memory
    return key


def _with_readable_errors(grade_ahead: Callable[..., str], *arguments: Any) -> str:
    """Grades a submission; an error that another process could not read would end the grading of all others."""
    try:
        return grade_ahead(*arguments)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(traceback.format_exc()) from None
        raise


# In the process of nbgrader


class Ahead:
    """Processes that grade submissions in the order in which they are given.

    Args:
        setting: of the course.
        launcher: whose fork server is shared.
        submissions: student -> notebook as handed in.
        jobs: number of processes.
        again: also grades those of which a grading is kept.
        seconds: that one submission may take at most, in all; a process that needs longer is ended.
        reference: makes the one that all processes ask; by default each starts its own.
    """

    def __init__(
        self,
        setting: Setting,
        launcher: Launcher,
        submissions: dict[str, Path],
        *,
        jobs: int,
        again: bool,
        seconds: float,
        reference: Callable[[], Reference] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "autograder.scheduling.preload"])
        launcher.at_a_time = jobs
        forkserver.ensure_running()  # it imports while the launcher's server does so too
        address = launcher.address
        self._serving = Serving(reference()) if reference is not None else None
        arguments = (setting, address, self._serving and self._serving.address)
        self._pool = ProcessPool(jobs, _SUBMISSIONS_A_PROCESS, initializer=_begin, initargs=arguments, context=context)
        self._schedule: Callable[[str], ProcessFuture] = lambda student: self._pool.schedule(
            # a second time alone, and waiting for the others before it
            _with_readable_errors,
            args=[_grade_ahead, student, submissions[student], again],
            timeout=3 * seconds,
        )
        self._waiting = {student: self._schedule(student) for student in submissions}
        self._progress = Progress(len(submissions))

    def take(self, student: str) -> str | None:
        """Waits until a submission is graded; returns the key of its grading, or ``None`` if it was not among those given.

        Raises:
            COURSE_FAULTS: as the process met them.
            RuntimeError: two processes ended over it.
        """
        for last in (False, True):
            future = self._waiting.get(student)
            if future is None:
                return None
            try:
                key: str = self._result(future)
            except (ProcessExpired, NotYet) as error:
                what = f"the process that graded it {_end(error)}"
                if last:
                    self._progress.failed += 1
                    raise RuntimeError(f"{student} is not graded: {what}, twice") from error
                log.warning("%s: once more, %s", student, what)
                self._waiting[student] = self._schedule(student)
            else:
                del self._waiting[student]
                return key
        raise AssertionError

    def _result(self, future: ProcessFuture) -> Any:
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except NotYet:
                if future.done():  # by its own limit of time, or just now
                    return future.result()
            finally:
                self._progress.show(sum(not future.done() for future in self._waiting.values()))

    def close(self) -> None:
        """Ends all processes, also in the middle of their work."""
        self._progress.close()
        self._pool.stop()
        self._pool.join()
        if self._serving is not None:
            self._serving.close()


class Progress:
    """A bar for people who look on, with the time left; a log in a file has its lines.

    Args:
        total: number of submissions.

    Attributes:
        failed: how many of them could not be graded.
    """

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total, unit="submission", desc="graded", disable=None, smoothing=0.1)
        self.failed = 0

    def show(self, left: int) -> None:
        self._bar.set_postfix_str(f"{self.failed} failed" if self.failed else "", refresh=False)
        self._bar.n = self._bar.total - left
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def _end(error: BaseException) -> str:
    return f"ended (status {error.exitcode})" if isinstance(error, ProcessExpired) else "took too long"


def processes(wanted: int, lab: Lab, submissions: Sequence[object]) -> tuple[int, str]:
    """How many submissions are graded at a time, and why no more.

    Args:
        wanted: number; 0 for one for each core.
        lab: whose limit of memory every submission may use up.
        submissions: of which there are as many at most.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = {
        "as many as submissions": len(submissions),
        f"of {cores} cores" if not wanted else "as configured": wanted or cores,
        f"as {_available() / 1e9:.1f} GB of memory allow": int(_SPARE * _available() // lab.limits["memory_bytes"]),
    }
    reason, number = min(limits.items(), key=lambda limit: limit[1])
    return max(number, 1), reason


def _available() -> int:
    """Bytes of memory that are at hand, on the machine and in the control group that this process is in."""
    free = [psutil.virtual_memory().available]
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(most).is_file() and (text := Path(most).read_text().strip()) != "max":
            free.append(int(text) - int(Path(used).read_text()))
    return min(free)
