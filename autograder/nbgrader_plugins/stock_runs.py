"""The isolated runs of a class: while nbgrader records one submission, the next ones are running."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import find_all_files

from autograder.errors import CourseError, IsolationError
from autograder.sandbox.launcher import Launcher
from autograder.scheduling.capacity import choose_jobs
from autograder.stock.files import too_much
from autograder.stock.modules import imported_by
from autograder.stock.notebook_run import Job, Outcome, Ran, Runner
from autograder.stock.pool import RunPool
from autograder.text import safe_line

if TYPE_CHECKING:
    from autograder.nbgrader_plugins.stock_exporter import StockExporter
    from autograder.nbgrader_plugins.stock_preprocessors import RunNotebook

NOT_ISOLATED = "nbgrader itself runs the notebooks, with all your rights (c.GradeChecks.stock)"
_AHEAD = 2  # submissions that are prepared for each that runs
_ENVIRONMENT = {"NBGRADER_EXECUTION": "autograde"}  # as nbgrader sets it


@dataclass
class Prepared:
    """A submitted notebook after nbgrader's first steps.

    Attributes:
        text: The file; empty if it could not be prepared.
        resources: As nbgrader expects them.
        error: Why it could not be prepared.
        records: What the steps logged.
        notes: What was repaired.
    """

    text: str = ""
    resources: Any = None
    error: Exception | None = None
    records: list[logging.LogRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class IsolatedRuns:
    """Runs the submissions of an assignment isolated, several at a time.

    Args:
        exporter: The exporter of nbgrader's run.
        step: nbgrader's step that runs a notebook, with its settings.
    """

    def __init__(self, exporter: StockExporter, step: RunNotebook) -> None:
        self._exporter, self._step = exporter, step
        self._possible = True
        self._runner: Runner | None = None
        self._pool: RunPool | None = None
        self._queue: list[str] | None = None
        self._outcomes: dict[str, Outcome] = {}

    def isolates(self, notebook: str) -> bool:
        """Return whether a notebook runs isolated."""
        return self._possible and not self._exporter.kernels[notebook].why_not

    def run(self, student: str, name: str, nb: NotebookNode, step: RunNotebook) -> Ran | None:
        """Return how a notebook ran; ``None`` if nbgrader itself has to run it."""
        exporter, pool = self._exporter, self._started(student)
        if pool is None or self._runner is None or not self.isolates(name):
            return None
        cells = step.cells_to_run(nb)
        try:
            if student in pool:
                self._outcomes = {student: pool.take(student)}
            outcome = self._outcomes.get(student)
            ran = outcome.notebooks.get(name) if outcome is not None else None
            if outcome is None or ran is None or ran.sources != [cell.source for cell in cells]:
                # not prepared, or changed since, such as by a hook of the course
                outcome = self._runner.run(
                    student, [Job(name, nbformat.writes(nb), cells)], self._graded_files(student)
                )
                ran = outcome.notebooks[name]
        except CourseError as fault:
            exporter.stop(student, str(fault))
        exporter.log.info("%s: %s ran isolated; the submission took %.1f s", student, name, outcome.seconds)
        lines = list(ran.stopped)
        if outcome.crowded:
            lines.append(
                f"a time limit was reached while {outcome.crowded}; grade again when other programs have ended"
            )
        lines += [
            f"{safe_line(file)} was not there while it ran, as it could not be written" for file in outcome.absent
        ]
        exporter.run.attention.setdefault(student, []).extend(f"{name}: {line}" for line in lines)
        return ran

    def begin_next(self, student: str) -> Iterator[tuple[str, Prepared]]:
        """Begin to run this submission, if it has not begun, and those that come next.

        Yields:
            The path of each notebook that was prepared for that.
        """
        hooks = (self._exporter.parent.pre_convert_hook, self._exporter.parent.post_convert_hook)
        if any(hook is not None for hook in hooks):  # they may change what is submitted, or rely on the order
            return
        if (pool := self._started(student)) is None:
            return
        if self._queue is None:
            self._queue = self.waiting()
        while self._queue and (len(pool) < _AHEAD * pool.size or student in self._queue):
            yield from self._begin(self._queue.pop(0), pool)

    def _begin(self, student: str, pool: RunPool) -> Iterator[tuple[str, Prepared]]:
        exporter, jobs = self._exporter, []
        folder = next(folder for folder, of in exporter.run.students.items() if of == student)
        for path in map(Path, sorted(exporter.parent.assignments[folder])):
            if path.stem not in exporter.kernels:
                continue
            prepared = exporter.prepare(path, student)
            yield str(path), prepared
            if prepared.text and (student, path.stem) not in exporter.unreadable and self.isolates(path.stem):
                cells = self._step.cells_to_run(nbformat.reads(prepared.text, as_version=4))
                jobs.append(Job(path.stem, prepared.text, cells))
        if jobs:
            pool.add(student, jobs, self._submitted_files(Path(folder)))

    def _started(self, student: str) -> RunPool | None:
        """Return the pool, started once per run; ``None`` if nothing runs isolated."""
        if self._pool is not None or not self._possible:
            return self._pool
        exporter = self._exporter
        modules = imported_by(exporter.course_path("release_directory", exporter.parent.coursedir.assignment_id))
        launcher = Launcher("namespaces", exporter.run.root, modules=modules)
        exporter.run.resources.callback(launcher.close)
        waiting = self.waiting()
        number, reason = choose_jobs(exporter.settings.jobs, exporter.limits["memory_bytes"], waiting)
        launcher.at_a_time = number
        environment = _ENVIRONMENT | {
            k: v for kernel in exporter.kernels.values() for k, v in kernel.environment.items()
        }
        self._runner = Runner(launcher, exporter.limits, environment, self._step.extra_arguments)
        try:
            self._runner.try_out()
        except IsolationError as error:
            if exporter.settings.stock == "isolated":
                exporter.stop(student, str(error))
            self._possible = False
            exporter.log.warning("%s", str(error).partition(". ")[0])
            exporter.log.warning(NOT_ISOLATED)
            return None
        self._pool = RunPool(self._runner, number)
        exporter.run.resources.callback(self._pool.close)
        if number > 1:
            exporter.log.info("Running %d submissions isolated, %d at a time (%s)", len(waiting), number, reason)
        return self._pool

    def waiting(self) -> list[str]:
        """Return the students whose submissions nbgrader will process, in its order (see ``init_destination``)."""
        exporter, converter, found = self._exporter, self._exporter.parent, []
        for folder in sorted(converter.assignments):
            student = exporter.run.students.get(folder, "")
            if (graded := exporter.run.folders.get(student)) is None:
                continue
            times = [converter.coursedir.get_existing_timestamp(str(path)) for path in (folder, graded)]
            newer = None not in times and times[0] > times[1]
            names = [path.name for path in map(Path, converter.assignments[folder]) if path.stem in exporter.kernels]
            # nbgrader has already created the folder of the submission it is processing now
            if converter.force or newer or not all((graded / name).exists() for name in names):
                found.append(student)
        return found

    def too_much(self, student: str) -> str:
        """Return why the files of a submission cannot be brought into an isolated process; empty if they can."""
        exporter = self._exporter
        folder = next(Path(folder) for folder, of in exporter.run.students.items() if of == student)
        names = [path for path in map(Path, exporter.parent.assignments[str(folder)]) if path.is_file()]
        names = [path for path in names if path.stem in exporter.kernels]
        if not any(self.isolates(path.stem) for path in names):
            return ""
        files = self._submitted_files(folder)
        source = exporter.course_path("source_directory", exporter.parent.coursedir.assignment_id)
        why = too_much(files | {path.name: path for path in names}, exporter.limits)
        if not why or self._started(student) is None:  # then nbgrader itself runs the notebooks
            return ""
        of_course = {name: path for name, path in files.items() if source in path.parents}
        if fault := too_much(of_course, exporter.limits):  # nobody can be graded
            exporter.refuse(f"the files in {source.parent.name}/{source.name} are too much: {fault}")
        return why

    def _submitted_files(self, folder: Path) -> dict[str, Path]:
        """Return the files that nbgrader copies for a submission: those of the course replace those of the student."""
        converter, coursedir = self._exporter.parent, self._exporter.parent.coursedir
        assignment = coursedir.assignment_id
        ignored = [*coursedir.ignore, "*.ipynb"]
        source = self._exporter.course_path("source_directory", assignment)
        kept = {source / name for name in converter.exclude_overwriting.get(assignment, [])}
        found = {}
        for place in (folder, source):
            for path in map(Path, find_all_files(str(place), ignored)):
                if path not in kept:
                    found[str(path.relative_to(place))] = path
        return found

    def _graded_files(self, student: str) -> dict[str, Path]:
        folder = self._exporter.run.folders[student]
        return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
