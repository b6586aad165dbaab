"""Grading of ordinary nbgrader assignments, in nbgrader's own pipeline.

nbgrader's own steps determine points and comments. Two things differ. A notebook that nbgrader cannot process is
repaired with the help of the release, so that it stops nobody else. And in place of nbgrader's ``Execute``, notebooks
run isolated, several submissions at a time: while nbgrader records one submission, the next ones are running.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.preprocessors import AssignLatePenalties, Execute, SaveAutoGrades
from sqlalchemy.exc import SQLAlchemyError
from traitlets import List, default
from traitlets.utils.importstring import import_item

from autograder.errors import CourseError, NotebookError
from autograder.gradebook.attempts import KeepAttempt
from autograder.gradebook.regrading import digest_of
from autograder.nbgrader_plugins.class_exporter import ClassExporter
from autograder.nbgrader_plugins.preprocessors import GradeChecks
from autograder.nbgrader_plugins.stock_preprocessors import CleanOutputs, RunNotebook, ScoreMissingCells
from autograder.nbgrader_plugins.stock_runs import NOT_ISOLATED, IsolatedRuns, Prepared
from autograder.notebooks.normalize import normalize, read_release
from autograder.stock.kernels import Kernel, kernel_of
from autograder.stock.marks import finished, mark_finished, mark_unfinished, unfinished
from autograder.stock.notebook_run import Ran
from autograder.stock.process import LIMITS
from autograder.text import safe_line

_FORGEABLE = "%s is no lab: its tests run in the process of the submission, whose code can change what they find (docs/security.md)"


class StockExporter(ClassExporter):
    """An exporter for the submissions of an assignment that is no lab.

    Attributes:
        limits: What a submission may use.
        unreadable: Student and notebook of each file of which nothing could be read.
    """

    sanitize_preprocessors: List[Any] = List(help="nbgrader's steps before a notebook is run").tag(config=True)
    autograde_preprocessors: List[Any] = List(help="nbgrader's steps from running a notebook on").tag(config=True)

    @default("sanitize_preprocessors")
    def _default_sanitize(self) -> list[Any]:
        return list(Autograde.sanitize_preprocessors.default())

    @default("autograde_preprocessors")
    def _default_autograde(self) -> list[Any]:
        return list(Autograde.autograde_preprocessors.default())

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        converter = self.parent
        self.settings = GradeChecks(parent=self)
        self.limits: dict[str, int] = LIMITS | {k: v for k, v in self.settings.limits.items() if k in LIMITS}
        self.optimistic_validation = True  # once, after all steps
        self.unreadable: set[tuple[str, str]] = set()
        self._prepared: dict[str, Prepared] = {}
        self._notes: dict[tuple[str, str], list[str]] = {}
        steps = [step for item in self.autograde_preprocessors for step in self._step(item)]
        converter.sanitize_preprocessors, converter.autograde_preprocessors = self.sanitize_preprocessors, steps
        self._step_of_running = RunNotebook(parent=self)
        self.kernels = self._read_gradebook()
        self._runs: IsolatedRuns | None = None  # without it, nbgrader's own step runs everything
        if self.settings.stock != "nbgrader" and RunNotebook in steps and self._step_of_running.enabled:
            self._runs = IsolatedRuns(self, self._step_of_running)
        self.run.is_graded = finished
        self.remove(self._list_submissions())
        self._leave_out_too_much()
        self.forget_times(self._id)
        if AssignLatePenalties in steps:
            self.renew_penalties()
        self._say_how()

    def _step(self, item: Any) -> list[Any]:
        kind = import_item(item) if isinstance(item, str) else item
        if kind is Execute:
            return [RunNotebook, CleanOutputs]
        return [kind, ScoreMissingCells, KeepAttempt] if kind is SaveAutoGrades else [kind]

    def _read_gradebook(self) -> dict[str, Kernel]:
        """Return the kernels of the assignment's notebooks, by name."""
        coursedir = self.parent.coursedir
        assignment = coursedir.assignment_id
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                found = gradebook.find_assignment(assignment)
                self._id = found.id
                configured = self._step_of_running.kernel_name
                kernels = {n.name: kernel_of(n.name, n.kernelspec, configured) for n in found.notebooks}
        except MissingEntry:
            kernels = {}
        except SQLAlchemyError as error:
            self.refuse(f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}")
        except CourseError as error:
            self.refuse(str(error))
        if not kernels:
            self.refuse(
                f"the gradebook has no notebooks of {assignment}: run 'nbgrader generate_assignment {assignment} --force'"
            )
        return kernels

    def _list_submissions(self) -> dict[str, tuple[Path, str]]:
        """List the submissions with a notebook.

        Returns:
            Student -> folder of a grading that is not up to date, and the reason.
        """
        found, again = self.parent.assignments, {}
        for folder, student, graded in self.submissions():
            if not self._has_notebook(folder, student):
                continue
            self.run.students[str(folder)], self.run.folders[student] = student, graded
            digest = self.digests[student] = digest_of(folder)
            names = [path.stem for path in map(Path, found[str(folder)]) if path.stem in self.kernels]
            everything = self.parent.coursedir.notebook_id == "*"
            if everything and graded.exists() and (why := unfinished(graded, names, digest)):
                again[student] = graded, why
        return again

    def _leave_out_too_much(self) -> None:
        """Leave out the submissions whose files are more than an isolated process may have."""
        waiting = self._runs.waiting() if self._runs is not None else []
        for student in waiting:
            if self._runs is not None and (why := self._runs.too_much(student)):
                self.leave_out(student, why)

    def _has_notebook(self, folder: Path, student: str) -> bool:
        """Return whether nbgrader will find a notebook of the assignment in a folder, if need be after a repair."""
        found, wanted = self.parent.assignments, [f"{name}.ipynb" for name in self.kernels]
        others = [path for path in sorted(folder.iterdir()) if ".ipynb" in path.name.lower() and path.is_file()]
        if any(Path(path).name in wanted for path in found.get(str(folder), [])):
            return True
        if others and len(wanted) == 1 and self.parent.coursedir.notebook_id == "*":
            found[str(folder)] = [str(folder / wanted[0])]
            return True
        found.pop(str(folder), None)
        if others:
            listed = ", ".join(wanted)
            self.run.left_out[student] = (
                f"no file in its folder is called {listed}; rename its notebook and grade again"
            )
        else:
            self.log.warning("%s: not graded, as there is no notebook in its folder", student)
        return False

    def _say_how(self) -> None:
        self.log.warning(_FORGEABLE, self.parent.coursedir.assignment_id)
        if not self._step_of_running.enabled:
            return
        if self._runs is None:
            self.log.warning(NOT_ISOLATED)
        for name, kernel in self.kernels.items():
            if self._runs is not None and kernel.why_not:
                self.log.warning(
                    "%s.ipynb is not isolated: %s. nbgrader itself runs it, with all your rights", name, kernel.why_not
                )
        if self.settings.scheduler:
            self.log.warning("c.GradeChecks.scheduler is for labs: this machine grades")

    # The first pass: nbgrader's steps before a notebook is run

    def from_filename(self, filename: str, resources: Any = None, **kwargs: Any) -> Any:
        """Export a notebook; the first time, start to run the next submissions."""
        path, student = Path(filename), resources["nbgrader"]["student"]
        if not self.parent._sanitizing:
            return super().from_filename(filename, resources=resources, **kwargs)
        if self._runs is not None:
            for ahead, notebook in self._runs.begin_next(student):
                self._prepared[ahead] = notebook
        prepared = self._prepared.pop(filename, None) or self.prepare(path, student)
        for record in prepared.records:
            self._logger.handle(record)
        for note in prepared.notes:
            self.log.warning("%s: %s", student, safe_line(note))
        if prepared.error is not None:
            raise prepared.error
        return prepared.text, prepared.resources

    def from_notebook_node(self, nb: NotebookNode, resources: Any = None, **kwargs: Any) -> Any:
        """Export a notebook, marked with whether its grading is finished."""
        if self.parent._sanitizing:
            mark_unfinished(nb)
        else:
            names = resources["nbgrader"]
            isolated = self._runs is not None and self._runs.isolates(names["notebook"])
            place = names["student"], names["notebook"]
            known = {"readable": place not in self.unreadable, "notes": self._notes.get(place, [])}
            isolation = "namespaces" if isolated else "none"
            mark_finished(nb, self.digests[names["student"]], isolation=isolation, **known)
            self.run.graded.add(names["student"])
        return super().from_notebook_node(nb, resources=resources, **kwargs)

    def prepare(self, path: Path, student: str) -> Prepared:
        """Run nbgrader's first steps on a notebook or, if they fail, on the notebook in the shape of the release."""
        prepared = Prepared()
        with self._held_back(prepared.records):
            try:
                resources = self.parent.init_single_notebook_resources(str(path))
                exported: Any = super().from_filename(str(path), resources=resources)
                prepared.text, prepared.resources = exported
            except SQLAlchemyError:
                raise
            except Exception as error:
                try:
                    self._repair(path, student, prepared, error)
                except SQLAlchemyError:
                    raise
                except Exception as second:  # of nbgrader's own errors, some would end the run for everybody
                    prepared.error = RuntimeError(f"{student}: {path.name} cannot be graded: {safe_line(str(second))}")
        return prepared

    def _repair(self, path: Path, student: str, prepared: Prepared, error: Exception) -> None:
        release = self.course_path("release_directory", self.parent.coursedir.assignment_id) / path.name
        if not release.is_file():
            why = safe_line(str(error).partition("\n")[0])
            raise NotebookError(
                f"{why}; to repair it, the release is needed: run 'nbgrader generate_assignment --force'"
            )
        repaired = normalize(path, read_release(release))
        prepared.notes = repaired.notes or [f"{path.name} was brought into the shape of the release"]
        self._notes[student, path.stem] = prepared.notes
        if not repaired.readable:
            self.unreadable.add((student, path.stem))
        resources = self.parent.init_single_notebook_resources(str(path))
        prepared.text, prepared.resources = self.from_notebook_node(repaired.notebook, resources=resources)

    @property
    def _logger(self) -> logging.Logger:
        logger: logging.Logger = getattr(self.log, "logger", self.log)
        return logger

    @contextmanager
    def _held_back(self, records: list[logging.LogRecord]) -> Iterator[None]:
        """Keep what is logged, to log it when nbgrader comes to the submission."""

        def hold(record: logging.LogRecord) -> bool:
            records.append(record)
            return False

        self._logger.addFilter(hold)
        try:
            yield
        finally:
            self._logger.removeFilter(hold)

    def isolated_run(self, student: str, name: str, nb: NotebookNode, step: RunNotebook) -> Ran | None:
        """Return how a notebook ran isolated; ``None`` if nbgrader itself has to run it."""
        return self._runs.run(student, name, nb, step) if self._runs is not None else None
