"""Grading inside nbgrader's own pipeline, enabled by configuration alone (:func:`autograder.configure`).

``nbgrader autograde`` reads each submission through :class:`SubmissionExporter`, which repairs it, and runs
:class:`GradeChecks` where stock nbgrader executes the notebook. Everything after that, from the gradebook to late
penalties, formgrader and feedback, is stock nbgrader.

Other processes grade the class in parallel, on all cores (:mod:`autograder.scheduling.local_pool`), while nbgrader
records the results one at a time. A submission that was already graded with the same code, checks and libraries comes
from the cache (:mod:`autograder.grading.cache`); ``--force`` grades it again.

A run may be killed at any moment, and the next one continues where it ended. It recognises finished submissions by
their graded notebooks (:func:`is_graded`), and a submission that is graded again gets the same questions
(:func:`autograder.grading.class_session.seed_of`).
"""

from __future__ import annotations

import gc
import os
import re
import sys
import weakref
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Assignment, Gradebook, SubmittedAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.utils import rmtree
from sqlalchemy.exc import SQLAlchemyError

from autograder.collect.submission_folders import closed, refusal
from autograder.gradebook.assignment import assignment_in
from autograder.gradebook.changed_cells import differing
from autograder.gradebook.regrading import book_cells, book_scores, check_cells, digest_of, is_graded, mark, why_again
from autograder.gradebook.timestamps import read_timestamp, settle
from autograder.grading.cache import FOLDER
from autograder.grading.checked_points import require_points
from autograder.grading.class_session import ClassSession, GradingConfig
from autograder.labs.deadline import set_due_date
from autograder.labs.own import require_thresholds
from autograder.labs.settings import load_lab
from autograder.nbgrader_plugins.late_penalty import renew_penalties
from autograder.nbgrader_plugins.run import Run
from autograder.notebooks.normalize import NormalizedSubmission, normalize, read_release
from autograder.sandbox.launcher import Launcher
from autograder.scheduling import GradingPool
from autograder.scheduling.capacity import choose_jobs
from autograder.scheduling.local_pool import LocalPool
from autograder.text import safe_line

if TYPE_CHECKING:
    from autograder.nbgrader_plugins.preprocessors import GradeChecks


_SPARE_SECONDS = 120.0  # allowed on top of a submission's time limit, for the grader's own work


class SubmissionExporter(NotebookExporter):
    """An exporter that turns any submitted file into a notebook in the release's shape.

    nbgrader creates one instance per run of ``autograde`` (``parent`` is its converter), after it has listed the
    submissions and before it iterates over them. The exporter completes this list: submissions without the expected
    notebook are graded too, with zero points and a message, and interrupted gradings are repeated.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        gc.collect()  # formgrader grades inside its server: release what an earlier run there still holds
        coursedir = self.parent.coursedir
        self.run = Run(self.log, Path(coursedir.root))
        weakref.finalize(self, self.run.end)
        self.repaired: dict[str, NormalizedSubmission] = {}
        self.given: dict[str, dict[str, float]] = {}  # student -> check cell -> points the grader gave in this run
        self.digests: dict[str, str] = {}  # student -> digest of the submission at the start of the run
        assignment = coursedir.assignment_id
        try:
            self.lab = load_lab(assignment)
            require_thresholds(self.lab)
            path = self.course_path("release_directory", assignment) / f"{self.lab.notebook}.ipynb"
            self.release = read_release(path)
            require_points(self.lab, path, self.release, self.run.root / FOLDER)
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                found = assignment_in(gradebook, coursedir.db_url, self.lab, self.release)
                self.secret = found.id
                self._require_same_cells(found)
                # notebook -> check cell -> points in the gradebook
                self.checks = {notebook.name: check_cells(notebook) for notebook in found.notebooks}
                self.cells = {notebook.name: book_cells(notebook) for notebook in found.notebooks}
                self.run.notebooks = list(self.checks)
                self.scores = book_scores(gradebook, assignment)
                if set_due_date(self.lab, found):
                    gradebook.db.commit()
                    self.log.info("Due date from lab.toml: %s UTC", found.duedate)
        except SQLAlchemyError as error:
            self._refuse(f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}")
        except (LookupError, OSError, ValueError) as error:
            self._refuse(str(error))
        self._remove(self._list_submissions())
        self._forget_times()
        self._renew_penalties()

    def _require_same_cells(self, assignment: Assignment) -> None:
        """Refuse a release whose graded cells differ from the gradebook's.

        Their scores would have no place in the gradebook, or would end up in another cell.
        """
        name, build = assignment.name, f"'autograder build {assignment.name}'"
        for recorded in assignment.notebooks:
            if recorded.name != self.lab.notebook:
                self._refuse(
                    f"the gradebook has {recorded.name}.ipynb in {name}: keep one notebook per lab, and run {build}"
                )
            if differing(recorded, self.release):
                cells = ", ".join(differing(recorded, self.release))
                self._refuse(f"release and gradebook do not have the same graded cells ({cells}): run {build}")

    def course_path(self, directory: str, assignment: str) -> Path:
        """Return the absolute path of an assignment in a course directory such as ``release_directory``."""
        coursedir = self.parent.coursedir
        relative = coursedir.format_path(getattr(coursedir, directory), ".", assignment)
        return Path(coursedir.root, relative)

    def session(self, settings: GradeChecks) -> ClassSession:
        """Return the session that grades submissions in this process, created once per run."""
        if self.run.session is None:
            assignment, name = self.lab.assignment, f"{self.lab.notebook}.ipynb"
            config = GradingConfig(
                assignment,
                dict(settings.limits),
                release=self.course_path("release_directory", assignment) / name,
                solution=self.course_path("solution_directory", assignment) / name,
                root=self.run.root,
                cache=self.run.root / FOLDER,
                secret=self.secret,
                seed=settings.seed,
                isolation=settings.isolation,
            )
            self.run.session = ClassSession(config, Launcher(settings.isolation, self.run.root), self.release)
        return self.run.session

    def pool(self, settings: GradeChecks) -> GradingPool | None:
        """Return the pool that grades the class in parallel, started once per run.

        Returns:
            The pool, or ``None`` if submissions are graded one at a time.
        """
        run = self.run
        if run.pool is None and not run.alone:
            waiting = self._waiting()
            session = self.session(settings)
            if settings.scheduler:
                from autograder.scheduling.dask_pool import DaskPool

                run.pool = DaskPool(settings.scheduler, session, waiting, again=self.parent.force)
                self.log.info("Grading %d submissions on the workers of %s", len(waiting), settings.scheduler)
                return run.pool
            number, reason = choose_jobs(settings.jobs, session.lab, list(waiting))
            run.alone = number < 2
            if not run.alone:
                self.log.info("Grading %d submissions, %d at a time (%s)", len(waiting), number, reason)
                run.pool = LocalPool(
                    session.config,
                    session.launcher,
                    waiting,
                    jobs=number,
                    again=self.parent.force,
                    seconds=session.lab.limits["total_seconds"] + _SPARE_SECONDS,
                    reference=session.new_reference,
                )
        return run.pool

    def _waiting(self) -> dict[str, Path]:
        """Map students to the notebooks that nbgrader will process, in its order (see ``should_process``)."""
        converter, found = self.parent, {}
        for folder in sorted(converter.assignments):
            student = self.run.students.get(folder, "")
            graded = self.run.folders.get(student)
            times = [converter.coursedir.get_existing_timestamp(str(path)) for path in (folder, graded)]
            newer = None not in times and times[0] > times[1]
            # nbgrader has already created the folder of the submission it is processing now
            if graded is not None and (converter.force or newer or not is_graded(graded, self.run.notebooks)):
                found[student] = Path(folder, f"{self.lab.notebook}.ipynb")
        return found

    def from_filename(self, filename: str, resources: Any = None, **kwargs: Any) -> Any:
        """Export a submission, which is first normalised to the shape of the release."""
        path, student = Path(filename), resources["nbgrader"]["student"]
        coursedir = self.parent.coursedir
        if Path(coursedir.root, coursedir.autograded_directory) in path.parents:  # the second pass reads our output
            return super().from_filename(filename, resources=resources, **kwargs)
        repaired = self.repaired[student] = normalize(path, self.release)
        for note in repaired.notes:
            self.log.warning("%s: %s", student, safe_line(note))
        mark(repaired.notebook, self.digests[student])
        return self.from_notebook_node(repaired.notebook, resources=resources, **kwargs)

    def stop(self, student: str, fault: str) -> NoReturn:
        """End the run because of a fault of the course, before it costs anyone points."""
        self.run.stopped = True
        rmtree(str(self.run.folders[student]))  # as nbgrader does when grading fails
        self.log.error(
            "Grading stopped at %s; this and all later submissions keep their previous results: %s", student, fault
        )
        sys.exit(1)

    def _refuse(self, fault: str) -> NoReturn:
        """End the run the way nbgrader does, before anything has been changed."""
        self.log.error("Nothing was graded: %s", fault)
        raise NbGraderException(fault)

    def _list_submissions(self) -> dict[str, tuple[Path, str]]:
        """Complete nbgrader's list of submissions.

        Returns:
            Student -> folder of a grading that is not up to date, and the reason.
        """
        converter, run, unfinished = self.parent, self.run, {}
        coursedir = converter.coursedir
        named = converter._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True)
        pattern = converter._format_source(coursedir.assignment_id, coursedir.student_id)
        for folder in sorted(run.root.glob(os.path.relpath(pattern, run.root))):
            match = re.match(named, str(folder), re.S)  # nbgrader's own matching fails on names with a line break
            if match is None or match["student_id"] in coursedir.student_id_exclude.split(","):
                continue
            graded = Path(converter._format_dest(match["assignment_id"], match["student_id"]))
            if why := self._prepare(folder, match["student_id"], graded):
                run.left_out[match["student_id"]] = why
                converter.assignments.pop(str(folder), None)
                continue
            run.students[str(folder)] = match["student_id"]
            converter.assignments[str(folder)] = [str(folder / f"{name}.ipynb") for name in run.notebooks]
            run.folders[match["student_id"]] = graded
            student, digest = match["student_id"], digest_of(folder)
            self.digests[student] = digest
            if graded.exists() and (why := why_again(graded, self.cells, digest, self.scores.get(student))):
                unfinished[student] = graded, why
        run.left_out |= (
            closed(Path(coursedir.root, coursedir.submitted_directory)) if coursedir.student_id == "*" else {}
        )
        if run.left_out:
            converter.assignments = Listed(converter.assignments)
        return unfinished

    def _prepare(self, folder: Path, student: str, graded: Path) -> str:
        """Fix a submission's timestamp.

        Returns:
            Why nbgrader must not process the submission; empty if it may.
        """
        if why := refusal(folder, student):
            return why
        try:
            settle(graded)
            if remark := settle(folder):
                self.log.warning("%s: %s", student, remark)
        except OSError as error:
            return (
                f"its timestamp.txt has no time and cannot be replaced ({error.strerror}); correct it and grade again"
            )
        return ""

    def _forget_times(self) -> None:
        """Clear gradebook times of submissions that no longer have one, because nbgrader would keep them."""
        coursedir, row = self.parent.coursedir, SubmittedAssignment
        untimed = {student for folder, student in self.run.students.items() if not _time(Path(folder))}
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                timed = gradebook.db.query(row.student_id).filter(
                    row.assignment_id == self.secret, row.timestamp.is_not(None)
                )
                for student in untimed & {student for (student,) in timed}:
                    self.log.warning("%s: no longer has a timestamp.txt, and counts as on time", student)
                    gradebook.find_submission(coursedir.assignment_id, student).timestamp = None
                    gradebook.db.commit()
        except SQLAlchemyError as error:
            self._refuse(f"the gradebook cannot be written: {getattr(error, 'orig', None) or error}")

    def _renew_penalties(self) -> None:
        """Apply a deadline that changed since the last run to what is graded already."""
        coursedir = self.parent.coursedir
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                step = AssignLatePenalties(parent=self)
                if changed := renew_penalties(step, gradebook, coursedir.assignment_id):
                    gradebook.db.commit()
                    self.log.warning("Penalty of %d submissions changed: %s", len(changed), "; ".join(changed))
        except SQLAlchemyError as error:
            self._refuse(f"the gradebook cannot be written: {getattr(error, 'orig', None) or error}")

    def _remove(self, unfinished: dict[str, tuple[Path, str]]) -> None:
        """Remove gradings that are not up to date.

        nbgrader skips every submission that has a folder of results, and removes failed ones in the same way.
        """
        alone = self.run.lock()
        for student, (folder, why) in unfinished.items():
            if alone:
                self.log.warning("%s: %s; it is graded again", student, why)
                rmtree(str(folder))
            else:
                self.log.warning("%s: skipped, because another run is grading it", student)
        self.run.share_lock()


class Listed(dict[str, list[str]]):
    """An incomplete list of submissions that makes nbgrader exit with status 1 after the last one.

    nbgrader iterates over the sorted keys, and offers no other way to report that some submissions were not graded.
    """

    _END = "\U0010ffff"  # sorts after all paths

    def __init__(self, submissions: dict[str, list[str]]) -> None:
        super().__init__(submissions | {self._END: []})

    def __getitem__(self, key: str) -> list[str]:
        if key == self._END:
            raise NbGraderException("some submissions were left out")
        return super().__getitem__(key)


def _time(folder: Path) -> datetime | None:
    found = read_timestamp(folder)
    return found.time if found is not None else None
