"""Grading inside nbgrader's own pipeline, enabled by configuration alone (:func:`autograder.configure`).

``nbgrader autograde`` reads each submission through :class:`SubmissionExporter`, which repairs it, and runs
:class:`GradeChecks` where stock nbgrader executes the notebook. Everything after that, from the gradebook to late
penalties, formgrader and feedback, is stock nbgrader.

Other processes grade the class in parallel, on all cores (:mod:`autograder.scheduling.local_pool`), while nbgrader
records the results one at a time. A submission that was already graded with the same code, checks and libraries comes
from the cache (:mod:`autograder.grading.cache`); ``--force`` grades it again.

A run may be killed at any moment, and the next one continues where it ended. It recognises finished submissions by
their graded notebooks (:func:`is_graded`), and a submission that is graded again gets the same questions
(:mod:`autograder.gradebook.seeds`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbgrader.api import Assignment, Gradebook
from sqlalchemy.exc import SQLAlchemyError

from autograder.gradebook.assignment import assignment_in
from autograder.gradebook.changed_cells import differing
from autograder.gradebook.regrading import book_cells, book_scores, check_cells, digest_of, is_graded, mark, why_again
from autograder.gradebook.rounds import Rounds
from autograder.gradebook.seeds import Seeds
from autograder.grading.cache import FOLDER
from autograder.grading.checked_points import require_points
from autograder.grading.class_session import ClassSession, GradingConfig
from autograder.labs.deadline import set_due_date
from autograder.labs.own import require_thresholds
from autograder.labs.settings import load_lab
from autograder.nbgrader_plugins.class_exporter import ClassExporter
from autograder.notebooks.normalize import NormalizedSubmission, normalize, read_release
from autograder.sandbox.launcher import Launcher
from autograder.scheduling import GradingPool
from autograder.scheduling.capacity import choose_jobs
from autograder.scheduling.local_pool import LocalPool
from autograder.text import safe_line

if TYPE_CHECKING:
    from autograder.nbgrader_plugins.preprocessors import GradeChecks


_SPARE_SECONDS = 120.0  # allowed on top of a submission's time limit, for the grader's own work


class SubmissionExporter(ClassExporter):
    """An exporter that turns any submitted file into a notebook in the release's shape.

    nbgrader creates one instance per run of ``autograde`` (``parent`` is its converter), after it has listed the
    submissions and before it iterates over them. The exporter completes this list: submissions without the expected
    notebook are graded too, with zero points and a message, and interrupted gradings are repeated.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        coursedir = self.parent.coursedir
        self.repaired: dict[str, NormalizedSubmission] = {}
        self.given: dict[str, dict[str, float]] = {}  # student -> check cell -> points the grader gave in this run
        assignment = coursedir.assignment_id
        try:
            self.lab = load_lab(assignment)
            require_thresholds(self.lab)
            path = self.course_path("release_directory", assignment) / f"{self.lab.notebook}.ipynb"
            self.release = read_release(path)
            require_points(self.lab, path, self.release, self.run.root / FOLDER)
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                found = assignment_in(gradebook, coursedir.db_url, self.lab, self.release)
                secret = found.id
                self._require_same_cells(found)
                # notebook -> check cell -> points in the gradebook
                self.checks = {notebook.name: check_cells(notebook) for notebook in found.notebooks}
                self.cells = {notebook.name: book_cells(notebook) for notebook in found.notebooks}
                self.run.notebooks = list(self.checks)
                self.scores = book_scores(gradebook, assignment)
                if set_due_date(self.lab, found):
                    gradebook.db.commit()
                    self.log.info("Due date from lab.toml: %s UTC", found.duedate)
            self.rounds = Rounds(coursedir.db_url, secret)
            self.run.resources.callback(self.rounds.close)
        except SQLAlchemyError as error:
            self.refuse(f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}")
        except (LookupError, OSError, ValueError) as error:
            self.refuse(str(error))
        self.remove(self._list_submissions())
        self.forget_times(secret)
        self.renew_penalties()

    def _require_same_cells(self, assignment: Assignment) -> None:
        """Refuse a release whose graded cells differ from the gradebook's.

        Their scores would have no place in the gradebook, or would end up in another cell.
        """
        name, build = assignment.name, f"'autograder build {assignment.name}'"
        for recorded in assignment.notebooks:
            if recorded.name != self.lab.notebook:
                self.refuse(
                    f"the gradebook has {recorded.name}.ipynb in {name}: keep one notebook per lab, and run {build}"
                )
            if differing(recorded, self.release):
                cells = ", ".join(differing(recorded, self.release))
                self.refuse(f"release and gradebook do not have the same graded cells ({cells}): run {build}")

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
                seeds=self.rounds.seeds if settings.seed is None else Seeds(settings.seed),
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
            number, reason = choose_jobs(settings.jobs, session.lab.limits["memory_bytes"], list(waiting))
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

    def _list_submissions(self) -> dict[str, tuple[Path, str]]:
        """Complete nbgrader's list of submissions.

        Returns:
            Student -> folder of a grading that is not up to date, and the reason.
        """
        converter, run, unfinished = self.parent, self.run, {}
        for folder, student, graded in self.submissions():
            run.students[str(folder)] = student
            converter.assignments[str(folder)] = [str(folder / f"{name}.ipynb") for name in run.notebooks]
            run.folders[student] = graded
            digest = self.digests[student] = digest_of(folder)
            if graded.exists() and (why := why_again(graded, self.cells, digest, self.scores.get(student))):
                unfinished[student] = graded, why
        return unfinished
