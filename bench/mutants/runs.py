"""Check many submissions quickly: each in a forked child of one process that has loaded everything.

The verdicts are those of grading: the same check files, and the functions in a namespace as the notebook's first cell
leaves it, but without isolation. The reference answers each question once for all submissions, and a check that calls
none of the functions that a submission changes is not run again (:mod:`mutants.involved`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import linecache
import os
import re
import resource
import select
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import nbformat
import torch

from amllab.checks.results import CheckResult
from amllab.checks.runner import run_checks
from amllab.lab import Lab, find_lab
from amllab.protocol.failure import Failure
from amllab.protocol.submission import InProcessSubmission, Submission, SubmissionError
from autograder.grading.mistakes import patterns
from autograder.labs import study
from autograder.labs.catalog import HIDDEN_CHECKS
from bench.mutants.involved import Recorder, keeps_to_itself, prerequisites, with_prerequisites

ROOT = Path(__file__).resolve().parent.parent.parent
ASSIGNMENT = "transfer-learning"
EXERCISES = ("freeze_layers", "build_transfer_model", "train_with_early_stopping")
ACCURACY = "accuracy"
ANSWER_SECONDS = (
    15.0  # of processor time; a line search needs half of it, other correct functions much less (accuracy apart)
)
TRAINING_SECONDS = 60.0
RUN_SECONDS = 120.0  # of processor time, for all checks together
MEMORY_BYTES = 3 << 30  # beyond what is loaded

Sources = Mapping[str, str]  # exercise -> source of its cell


@dataclass(frozen=True)
class Verdict:
    """What the checks said about a submission.

    Attributes:
        lost: points, for each cell that lost any.
        failed: check -> symptom, for failed checks.
        skipped: checks that need one of the failed ones.
        broken: checks that broke themselves; there should be none.
        patterns: cell -> the pattern by which mistakes are recognised.
        ended: how the process ended if it gave no answer; that should not happen.
        seconds: seconds of processor time.
    """

    lost: dict[str, float]
    failed: dict[str, str]
    skipped: list[str]
    broken: list[str]
    patterns: dict[str, list[str]]
    ended: str = ""
    seconds: float = field(default=0.0, compare=False)


@cache
def lab() -> Lab:
    return find_lab(ASSIGNMENT)


@cache
def notebook_sources(name: str) -> dict[str, str]:
    """Return the sources of the cells of a built notebook in ``"assignments"`` or ``"solutions"``, by grade id."""
    notebook = nbformat.read(ROOT / name / ASSIGNMENT / f"{lab().notebook}.ipynb", as_version=4)
    graded = [(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source) for cell in notebook.cells]
    return {grade_id: source for grade_id, source in graded if grade_id}


def check_files(exercises: Iterable[str]) -> list[Path]:
    """Return the public and the hidden checks of some exercises."""
    public, hidden = lab().folder, HIDDEN_CHECKS / lab().name
    return [
        file
        for name in exercises
        for file in (public / f"test_{name}.py", *sorted(hidden.glob(f"test_{name}*_hidden.py")))
    ]


def checks_digest(*, accuracy: bool = False) -> str:
    """Return the digest of :func:`autograder.labs.study.checks_digest`."""
    return study.checks_digest(lab(), accuracy=accuracy)


class _OutOfTime(BaseException):
    """Raised when time is up; no ``except Exception`` of a submission catches it."""


class TimedSubmission(InProcessSubmission):
    """A submission in this process with a time limit for each answer, like the worker's."""

    seconds = ANSWER_SECONDS

    def exchange(self, question: bytes) -> bytes:
        def out_of_time(*_: object) -> None:
            raise _OutOfTime

        # processor time, so that the load of the machine has no influence
        previous = signal.signal(signal.SIGVTALRM, out_of_time)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
        try:
            return super().exchange(question)
        except _OutOfTime:
            raise SubmissionError("timeout", Failure("an answer", "none in time", "it has to end")) from None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, previous)


@cache
def _setup() -> dict[str, Any]:
    """Return the variables that the notebook's first cell leaves."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(notebook_sources("assignments")["setup"], "<setup>", "exec"), namespace)
    return namespace


def submission(sources: Sources) -> TimedSubmission:
    """Return a submission of these cells; if one raises, the rest of that cell is not run, as in a notebook."""
    namespace = dict(_setup())
    for name in EXERCISES:
        # reports show the line that raised, as for a notebook's cell
        linecache.cache[f"<{name}>"] = (len(sources[name]), None, sources[name].splitlines(keepends=True), f"<{name}>")
        with contextlib.suppress(Exception):
            exec(compile(sources[name], f"<{name}>", "exec"), namespace)
    return TimedSubmission(lab().name, namespace)


@dataclass(frozen=True)
class _Base:
    """A correct submission, its results, and which functions each check, or one that it needs, calls."""

    sources: Sources
    namespace: dict[str, Any]
    called: dict[str, set[str]]
    results: list[CheckResult]

    def changed(self, sources: Sources) -> set[str]:
        return {name for name in EXERCISES if sources[name] != self.sources[name]}


class Checker:
    """Check submissions with the inputs of one seed.

    Args:
        seed: seed of the checks.
        exercises: exercises whose checks are run.
        correct: submissions from which others differ in few functions; their results are computed once.
        whole: whether all checks are run; if not, they end with the first failure. A verdict then says whether points
            are lost, not how many, and has no patterns.

    Attributes:
        checks: the file of each check.
        called: the functions that each check, or one that it needs, calls.
    """

    def __init__(
        self,
        seed: int,
        exercises: Sequence[str] = EXERCISES,
        *,
        whole: bool = True,
        correct: Sequence[Sources] = (),
    ) -> None:
        self.seed, self.files, self.whole = seed, check_files(exercises), whole
        found = [(name, file) for file in self.files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)]
        self.checks = dict(found)
        assert len(self.checks) == len(found), "checks of one name would stand for one another"
        TimedSubmission.seconds = TRAINING_SECONDS if ACCURACY in exercises else ANSWER_SECONDS
        self.reference = submission(notebook_sources("solutions"))
        # loads everything, and lets the reference answer every question
        self._bases = [self._base(sources) for sources in correct or [notebook_sources("solutions")]]
        self.called = self._bases[0].called
        # existing objects stay: garbage collection in a forked process need not visit them, nor copy their pages
        gc.collect()
        gc.freeze()

    def results(self, sources: Sources, only: str = "") -> list[CheckResult]:
        """Return the results of the checks in this process, or of one check if it is named."""
        asked = submission(sources)
        if only:
            return self._run([only], asked)
        base = min(self._bases, key=lambda base: len(base.changed(sources)))
        changed = base.changed(sources)
        if not keeps_to_itself(asked.namespace, base.namespace, changed):
            changed = set(EXERCISES)
        involved = [name for name in self.checks if base.called[name] & changed]
        found = {result.name: result for result in base.results}
        if involved:
            found |= {result.name: result for result in self._run(involved, asked)}
        return list(found.values())

    def _run(self, names: Sequence[str], asked: Submission) -> list[CheckResult]:
        paths = self.files if len(names) == len(self.checks) else [Path(f"{self.checks[n]}::{n}") for n in names]
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            return run_checks(
                lab(),
                paths,
                asked,
                reference=lambda: self.reference,
                seed=self.seed,
                stop_at_failure=not self.whole,
            )

    def _base(self, sources: Sources) -> _Base:
        asked = submission(sources)
        namespace = dict(asked.namespace)
        recorder = Recorder(asked, EXERCISES)
        results = self._run(list(self.checks), asked)
        recorder.stop()
        needs = prerequisites(self.files)
        called = {name: with_prerequisites(name, recorder.called, needs) for name in self.checks}
        return _Base({name: sources[name] for name in EXERCISES}, namespace, called, results)

    def verdicts(
        self, many: Sequence[Sources], jobs: int = 1, first: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Verdict]]:
        """Check submissions, each in a separate process; yield pairs of index and verdict in order of completion.

        Args:
            many: the submissions.
            jobs: number of processes in parallel.
            first: for each submission, the check of :attr:`checks` that is run before the others, or nothing; if it
                fails, and not all are to be run, it decides the verdict.
        """
        first = first or [""] * len(many)
        running: dict[int, _Child] = {}
        waiting = iter(range(len(many)))
        while True:
            while len(running) < jobs and (index := next(waiting, None)) is not None:
                child = _Child(partial(self._as_data, many[index], first[index]))
                running[child.pipe] = child.of(index)
            if not running:
                return
            nearest = min(child.ends for child in running.values())
            ready = select.select(list(running), [], [], max(0.0, nearest - time.monotonic()))[0]
            late = [child.pipe for child in running.values() if child.ends <= time.monotonic()]
            for pipe in {*ready, *late}:
                child = running[pipe]
                if pipe in late:
                    child.kill()
                if child.read():
                    del running[pipe]
                    verdict = self._read(child.answer())
                    yield child.index, replace(verdict, seconds=round(child.seconds, 2))

    def verdict(self, sources: Sources) -> Verdict:
        """Return the verdict on one submission, checked in a separate process."""
        ((_, found),) = self.verdicts([sources])
        return found

    def _as_data(self, sources: Sources, first: str) -> dict[str, Any]:
        if self.whole:
            return asdict(_verdict(self.results(sources)))
        found = _verdict(self.results(sources, first)) if first else None
        if found is None or not found.lost:
            found = _verdict(self.results(sources))
        return {**asdict(found), "patterns": {}}

    def _read(self, answer: dict[str, Any] | str) -> Verdict:
        if isinstance(answer, str):
            return Verdict({}, {}, [], [], {}, ended=answer)
        return Verdict(**answer)


def _verdict(results: Sequence[CheckResult]) -> Verdict:
    lost: dict[str, float] = {}
    for result in results:
        if result.earned < result.points:
            lost[result.cell] = lost.get(result.cell, 0) + result.points - result.earned
    named = {outcome: [r.name for r in results if r.outcome == outcome] for outcome in ("skipped", "error")}
    failed = {r.name: r.failure.symptom if r.failure else "" for r in results if r.outcome == "failed"}
    by_cell = {cell: list(found) for cell, found in patterns(results).items()}
    return Verdict(lost, failed, named["skipped"], named["error"], by_cell)


class _Child:
    """A forked process that computes the value of a call, in a temporary folder: submissions write files."""

    def __init__(self, call: Callable[[], dict[str, Any]]) -> None:
        self.pipe, theirs = os.pipe()
        self._folder = tempfile.mkdtemp()
        self.ends = time.monotonic() + 10 * RUN_SECONDS  # the limit is processor time; this is for one that sleeps
        self.index, self._received = 0, b""
        self._process = os.fork()
        if self._process == 0:
            _answer(call, theirs, self._folder)
        os.close(theirs)

    def of(self, index: int) -> _Child:
        self.index = index
        return self

    def kill(self) -> None:
        os.kill(self._process, signal.SIGKILL)

    def read(self) -> bool:
        """Read the available output; return whether it has ended."""
        part = os.read(self.pipe, 1 << 16)
        self._received += part
        return not part

    def answer(self) -> dict[str, Any] | str:
        """Return the call's value, or how the process ended."""
        os.close(self.pipe)
        _, status, used = os.wait4(self._process, 0)
        self.seconds = used.ru_utime + used.ru_stime
        shutil.rmtree(self._folder, ignore_errors=True)
        if status == 0 and self._received:
            value: dict[str, Any] = json.loads(self._received)
            return value
        if os.WIFSIGNALED(status):
            return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"ended with status {os.waitstatus_to_exitcode(status)}"


def _answer(call: Callable[[], dict[str, Any]], pipe: int, folder: str) -> None:
    """Send the value of the call from the child, and end the process without any cleanup."""
    code = 1
    try:
        os.chdir(folder)
        seconds = int(RUN_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        loaded = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (loaded + MEMORY_BYTES, loaded + MEMORY_BYTES))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        data = json.dumps(call()).encode()
        while data:
            data = data[os.write(pipe, data) :]
        code = 0
    finally:
        os._exit(code)
