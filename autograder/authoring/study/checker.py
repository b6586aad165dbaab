"""Check many submissions quickly: each in a forked child of one process that has loaded everything.

The verdicts are those of grading: the same check files, and the functions in a namespace as the notebook's first cell
leaves it, but without isolation. The reference answers each question once for all submissions, and a check that calls
none of the functions that a submission changes is not run again (:mod:`autograder.authoring.study.involved`).
"""

from __future__ import annotations

import contextlib
import gc
import linecache
import re
import select
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from amllab.checks.results import CheckResult
from amllab.checks.runner import run_checks
from amllab.protocol.failure import Failure
from amllab.protocol.submission import InProcessSubmission, Submission, SubmissionError
from autograder.authoring.study.involved import Recorder, keeps_to_itself, prerequisites, with_prerequisites
from autograder.authoring.study.materials import Materials
from autograder.authoring.study.processes import Child
from autograder.grading.mistakes import patterns

ANSWER_SECONDS = 15.0  # of processor time; a line search needs half of it, other correct functions much less
TRAINING_SECONDS = 60.0  # of processor time, for an answer to checks that belong to no exercise, such as accuracy

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


class _OutOfTime(BaseException):
    """Raised when time is up; no ``except Exception`` of a submission catches it."""


class TimedSubmission(InProcessSubmission):
    """A submission in this process with a time limit for each answer, like the worker's."""

    seconds = ANSWER_SECONDS

    def exchange(self, question: bytes) -> bytes:
        """Answer a question; see :class:`SubmissionError` for the limit."""

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


@dataclass(frozen=True)
class _Base:
    """A correct submission, its results, and which functions each check, or one that it needs, calls."""

    sources: Sources
    namespace: dict[str, Any]
    called: dict[str, set[str]]
    results: list[CheckResult]

    def changed(self, sources: Sources) -> set[str]:
        return {name for name, source in self.sources.items() if sources[name] != source}


class Checker:
    """Check submissions with the inputs of one seed.

    Args:
        materials: The lab.
        seed: Seed of the checks.
        exercises: Exercises whose checks are run; if empty, the checks that belong to none, such as accuracy.
        correct: Submissions from which others differ in few functions; their results are computed once.
        whole: Whether all checks are run; if not, they end with the first failure. A verdict then says whether points
            are lost, not how many, and has no patterns.

    Attributes:
        checks: The file of each check.
        called: The functions that each check, or one that it needs, calls.

    Raises:
        ValueError: Two checks have the same name.
    """

    def __init__(
        self,
        materials: Materials,
        seed: int,
        exercises: tuple[str, ...] | None = None,
        *,
        whole: bool = True,
        correct: Sequence[Sources] = (),
    ) -> None:
        self.materials, self.seed, self.whole = materials, seed, whole
        self.files = materials.files(materials.exercises if exercises is None else exercises)
        found = [(name, file) for file in self.files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)]
        self.checks = dict(found)
        if len(self.checks) < len(found):
            names = [name for name, _ in found]
            raise ValueError(f"several checks are called {next(name for name in names if names.count(name) > 1)}")
        self._seconds = TRAINING_SECONDS if exercises == () else ANSWER_SECONDS
        self._setup: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(materials.setup, "<setup>", "exec"), self._setup)
        self.reference = self._submission(materials.reference)
        # loads everything, and lets the reference answer every question
        self._bases = [self._base(sources) for sources in correct or [materials.reference]]
        self.called = self._bases[0].called
        # existing objects stay: garbage collection in a forked process need not visit them, nor copy their pages
        gc.collect()
        gc.freeze()

    def _submission(self, sources: Sources) -> TimedSubmission:
        """Return a submission of these cells; if one raises, the rest of that cell is not run, as in a notebook."""
        namespace = dict(self._setup)
        for name in self.materials.exercises:
            # reports show the line that raised, as for a notebook's cell
            lines = sources[name].splitlines(keepends=True)
            linecache.cache[f"<{name}>"] = (len(sources[name]), None, lines, f"<{name}>")
            with contextlib.suppress(Exception):
                exec(compile(sources[name], f"<{name}>", "exec"), namespace)
        submission = TimedSubmission(self.materials.lab.name, namespace)
        submission.seconds = self._seconds
        return submission

    def results(self, sources: Sources, only: str = "") -> list[CheckResult]:
        """Return the results of the checks in this process, or of one check if it is named."""
        asked = self._submission(sources)
        if only:
            return self._run([only], asked)
        base = min(self._bases, key=lambda base: len(base.changed(sources)))
        changed = base.changed(sources)
        functions = {self.materials.functions[name] for name in changed}
        if not keeps_to_itself(asked.namespace, base.namespace, functions):
            changed = set(self.materials.exercises)
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
                self.materials.lab,
                paths,
                asked,
                reference=lambda: self.reference,
                seed=self.seed,
                stop_at_failure=not self.whole,
            )

    def _base(self, sources: Sources) -> _Base:
        asked = self._submission(sources)
        namespace = dict(asked.namespace)
        recorder = Recorder(asked, self.materials.functions)
        results = self._run(list(self.checks), asked)
        recorder.stop()
        needs = prerequisites(self.files)
        # a check that asks nothing looks at answers that checks before it got
        every = set(self.materials.exercises)
        called = {name: with_prerequisites(name, recorder.called, needs) or every for name in self.checks}
        return _Base({name: sources[name] for name in self.materials.exercises}, namespace, called, results)

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
        running: dict[int, Child] = {}
        waiting = iter(range(len(many)))
        while True:
            while len(running) < jobs and (index := next(waiting, None)) is not None:
                child = Child(partial(self._as_data, many[index], first[index]))
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
