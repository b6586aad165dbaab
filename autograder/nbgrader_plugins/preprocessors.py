"""Steps of ``nbgrader autograde`` that run the checks and save their scores in the gradebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from nbgrader.utils import determine_grade, is_grade
from traitlets import Dict, Enum, Integer, Unicode

from amllab.checks.runner import ChecksBrokenError
from autograder.errors import CourseError
from autograder.gradebook.seeds import code_of
from autograder.grading.cache import CachedGrading
from autograder.notebooks.metadata import scores_of
from autograder.notebooks.normalize import NormalizedSubmission
from autograder.sandbox.launcher import ISOLATIONS

if TYPE_CHECKING:
    from autograder.grading.class_session import ClassSession


class GradeChecks(NbGraderPreprocessor):  # type: ignore[misc]
    """A preprocessor that runs the checks instead of the notebook's grade cells, and writes reports and scores."""

    seed = Integer(
        None, allow_none=True, help="Seed of the checks' inputs; by default each round of grading has its own"
    ).tag(config=True)
    limits = Dict({}, help="Replaces limits of the lab's lab.toml, such as {'answer_seconds': 300}").tag(config=True)
    isolation = Enum(
        ISOLATIONS, ISOLATIONS[0], help="'none' runs submissions with all your rights: only for those that you trust"
    ).tag(config=True)

    stock = Enum(
        ("isolated", "nbgrader"),
        None,
        allow_none=True,
        help="How assignments that are no labs are run: 'isolated', or by nbgrader itself ('nbgrader'), with all your "
        "rights; by default isolated, if this machine can isolate",
    ).tag(config=True)

    jobs = Integer(
        0, min=0, help="Number of submissions to grade at a time; by default as many as cores and memory allow"
    ).tag(config=True)

    scheduler = Unicode(
        "",
        help="Address of a Dask scheduler, such as 'tcp://10.0.0.1:8786', whose workers grade instead of this machine",
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Grade a submission, and write outputs, reports and scores into its notebook."""
        exporter, student = self.parent, resources["nbgrader"]["student"]
        try:
            graded = self._graded(student, nb, exporter.repaired[student])
        except (CourseError, ChecksBrokenError) as fault:
            exporter.stop(student, str(fault))
        code = code_of(student, nb)
        graded.write(nb)
        exporter.rounds.record(code)
        exporter.given[student] = graded.scores
        exporter.run.graded.add(student)
        exporter.run.attention[student] = graded.attention
        self.log.info(
            "%s: %g of %g automatic points in %.1f s", student, graded.earned, graded.possible, graded.seconds
        )
        return nb, resources

    def _graded(self, student: str, nb: NotebookNode, repaired: NormalizedSubmission) -> CachedGrading:
        """Return the grading of a submission: from the cache, from the pool, or made now."""
        exporter = self.parent
        session: ClassSession = exporter.session(self)
        key, again = session.key(student, nb, repaired), exporter.parent.force
        if not again and (before := session.cache.get(key)) is not None:
            return before
        pool = exporter.pool(self)
        made = pool.result(student) if pool is not None else None
        if made == key and (new := session.cache.get(key)) is not None:
            return new
        if made is not None:
            self.log.debug("%s: the notebook differs from the one that was graded in parallel", student)
        return session.graded(student, nb, repaired)


class SaveScores(SaveAutoGrades):  # type: ignore[misc]
    """A preprocessor that saves scores only if each check cell has exactly the score the grader gave in this run.

    nbgrader itself gives full points for a check cell without a result.
    """

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Save the scores of a notebook, if they are those that the grader gave."""
        student, name = resources["nbgrader"]["student"], resources["nbgrader"]["notebook"]
        checks, given = self.parent.checks[name], self.parent.given.get(student, {})
        found = [cell for cell in nb.cells if is_grade(cell) and cell.metadata.nbgrader.grade_id in checks]
        scores = {cell.metadata.nbgrader.grade_id: determine_grade(cell, self.log)[0] for cell in found}
        wrong = {cell for cell in checks if scores.get(cell) != given.get(cell) or cell not in given}
        if wrong or len(found) != len(checks) or scores_of(nb) != given:
            raise RuntimeError(
                f"{student} is not graded: missing or wrong score in {', '.join(sorted(wrong)) or 'cells'}"
            )
        saved: tuple[NotebookNode, Any] = super().preprocess(nb, resources)
        return saved
