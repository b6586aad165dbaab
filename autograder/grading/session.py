"""The grading of notebooks of one lab, without the gradebook."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from nbformat import NotebookNode

from amllab.lab import Lab
from autograder.course import Course
from autograder.grading.grader import grade
from autograder.grading.reference import Reference
from autograder.grading.reference_server import ReferenceClient
from autograder.grading.result import GradingResult
from autograder.grading.worker import Worker
from autograder.labs.own import require_thresholds
from autograder.labs.settings import load_lab
from autograder.notebooks.metadata import skipped_cells
from autograder.notebooks.normalize import NormalizedSubmission, normalize, read_release
from autograder.sandbox.launcher import Launcher


class GradingSession:
    """Grade notebooks of one lab; what they share is started once, on first use.

    >>> with GradingSession.of_course(Course.find(), "transfer-learning") as session:  # doctest: +SKIP
    ...     print(session.grade(Path("transfer_learning.ipynb")).as_dict())

    Args:
        lab: The lab.
        release: The release of its notebook.
        solution: Path of the solution.
        launcher: Starts the workers; closed with the session.
        reference: Address of a reference that the session shares with others
            (:class:`autograder.grading.reference_server.ReferenceServer`); by default it starts its own.
    """

    def __init__(
        self, lab: Lab, release: NotebookNode, solution: Path, launcher: Launcher, reference: str | None = None
    ) -> None:
        self.lab, self.release, self.solution, self.launcher = lab, release, solution, launcher
        self._address = reference
        self._reference: Reference | None = None

    @classmethod
    def of_course(cls, course: Course, assignment: str, isolation: str = "namespaces") -> Self:
        """Start a session with the release and the solution of a course.

        Args:
            course: The course.
            assignment: Name of the lab's assignment.
            isolation: Isolation of the workers; see :class:`autograder.sandbox.launcher.Launcher`.

        Raises:
            LookupError: There is no such lab.
            SettingsError: The settings of the lab are wrong, or its thresholds were not measured.
            FileNotFoundError: The release has not been built.
        """
        lab = load_lab(assignment)
        require_thresholds(lab)
        return cls(lab, read_release(course.release(lab)), course.solution(lab), Launcher(isolation, course.root))

    def grade(self, notebook: Path | NotebookNode | NormalizedSubmission, seed: int | None = None) -> GradingResult:
        """Grade a notebook.

        If the reference fails, the checks that asked it break, and ``reference.failed`` holds its error.

        Args:
            notebook: Path of a notebook in any shape, or a notebook in the shape of the release, into which outputs,
                reports and scores are then written.
            seed: Seed of the inputs that the checks sample; random by default.

        Raises:
            IsolationError, LabError, WorkerError, ChecksBrokenError: The fault lies with the machine or the course.
        """
        if isinstance(notebook, Path):
            notebook = normalize(notebook, self.release)
        elif isinstance(notebook, NotebookNode):
            notebook = NormalizedSubmission(notebook)
        return grade(notebook, self.lab, self.reference, self.launcher, seed)

    def worker(self, notebook: Path) -> Worker:
        """Return a worker for a notebook: a submission that checks can ask, once it is entered."""
        own = normalize(notebook, self.release).notebook
        return Worker(self.lab, own, skipped_cells(own), self.launcher)

    @property
    def reference(self) -> Reference:
        """The reference, created on first use and again after :meth:`end_reference`."""
        if self._reference is None:
            self._reference = self.new_reference()
        return self._reference

    def new_reference(self) -> Reference:
        """Create a reference; it asks the process that serves one, if there is such a process."""
        if self._address is not None:
            return ReferenceClient(self.lab, self.solution, self._address)
        return Reference(self.lab, self.solution, self.launcher)

    def end_reference(self) -> None:
        """End the reference's workers."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None

    def close(self) -> None:
        """End all processes of the session."""
        self.end_reference()
        self.launcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
