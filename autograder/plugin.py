"""Grading as a part of nbgrader's own pipeline, put in place by configuration alone (:func:`autograder.configure`).

``nbgrader autograde`` reads each submission through :class:`SubmissionExporter`, which repairs it, and runs
:class:`GradeChecks` where stock nbgrader executes the notebook. Everything behind that, from the gradebook to late
penalties, formgrader and feedback, is nbgrader as it comes.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Dict, Integer

from amllab.checks.lab import Lab, find_lab
from amllab.checks.results import score
from autograder.judge import Reference, grade
from autograder.repair import read_release, repair


class SubmissionExporter(NotebookExporter):  # type: ignore[misc]
    """Reads submissions: whatever the file is, what comes out is a notebook in the release's shape.

    nbgrader makes one for each run of ``autograde`` (``parent`` is its converter), after it has listed the submissions:
    those without the expected notebook are added to its list here, so that they are graded too, with zero and a message.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._references: dict[str, Reference] = {}
        atexit.register(self.close)
        self._add_submissions_without_notebook()

    def close(self) -> None:
        for reference in self._references.values():
            reference.close()
        self._references.clear()

    def course_path(self, directory: str, assignment: str) -> Path:
        """Absolute path of an assignment in one of the course's directories, such as ``release_directory``."""
        coursedir = self.parent.coursedir
        relative = coursedir.format_path(getattr(coursedir, directory), ".", assignment)
        return Path(coursedir.root, relative)

    def reference(self, lab: Lab) -> Reference:
        if lab.name not in self._references:
            path = self.course_path("solution_directory", lab.assignment) / f"{lab.notebook}.ipynb"
            self._references[lab.name] = Reference(lab, path)
        return self._references[lab.name]

    def from_filename(self, filename: str, resources: Any = None, **kwargs: Any) -> Any:
        path, assignment = Path(filename), resources["nbgrader"]["assignment"]
        coursedir = self.parent.coursedir
        if Path(coursedir.root, coursedir.autograded_directory) in path.parents:  # the second pass reads what we wrote
            return super().from_filename(filename, resources=resources, **kwargs)
        lab = find_lab(assignment)
        release = read_release(self.course_path("release_directory", assignment) / f"{lab.notebook}.ipynb")
        repaired = repair(path, release)
        for note in repaired.notes:
            self.log.warning("%s: %s", resources["nbgrader"]["student"], note)
        return self.from_notebook_node(repaired.notebook, resources=resources, **kwargs)

    def _add_submissions_without_notebook(self) -> None:
        converter = self.parent
        coursedir = converter.coursedir
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            try:
                expected = [notebook.name for notebook in gradebook.find_assignment(coursedir.assignment_id).notebooks]
            except MissingEntry:
                return  # autograde itself explains that the assignment was never generated
        pattern = converter._format_source(coursedir.assignment_id, coursedir.student_id)
        for folder in sorted(Path(coursedir.root).glob(os.path.relpath(pattern, coursedir.root))):
            if folder.is_dir():
                converter.assignments[str(folder)] = [str(folder / f"{name}.ipynb") for name in expected]


class GradeChecks(NbGraderPreprocessor):  # type: ignore[misc]
    """Runs the checks in place of the notebook's own grade cells and writes reports and scores."""

    seed = Integer(None, allow_none=True, help="Seed of the checks' inputs; fresh for each submission by default").tag(
        config=True
    )
    limits = Dict({}, help="Replaces limits of the lab's lab.toml, such as {'answer_seconds': 300}").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        lab = find_lab(resources["nbgrader"]["assignment"])
        lab = dataclasses.replace(lab, limits={**lab.limits, **self.limits})
        grading = grade(nb, lab, self.parent.reference(lab), seed=self.seed)
        earned, possible = score(grading.results)
        student = resources["nbgrader"]["student"]
        self.log.info("%s: %g of %g automatic points in %.1f s", student, earned, possible, grading.seconds)
        return nb, resources
