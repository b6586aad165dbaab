"""What ``nbgrader generate_assignment`` and ``generate_solution`` replace is not lost where they fail."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.api import (
    Gradebook,
)
from nbgrader.converters.base import NbGraderException

from autograder.errors import ChangedCellsError
from autograder.gradebook.changed_cells import difference, refusal


class KeepingExporter(NotebookExporter):  # type: ignore[misc]
    """Keeps what a command of nbgrader is about to replace, and puts it back where the command has failed.

    nbgrader makes one for each run (``parent`` is its converter), before it removes anything.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        converter = self.parent
        target = Path(converter._format_dest(converter.coursedir.assignment_id, "."))
        if target.is_dir():
            copy = Path(tempfile.mkdtemp(prefix="amllab-replaced-"))
            shutil.copytree(target, copy / target.name)
            weakref.finalize(self, _put_back, copy, target, self.log)


def _put_back(copy: Path, target: Path, log: Any) -> None:
    """At the end of a run: what it was to replace is there, or it is put back."""
    if not target.exists():
        shutil.copytree(copy / target.name, target)
        log.error("%s is as it was before", target.parent.name + "/" + target.name)
    shutil.rmtree(copy, ignore_errors=True)


class ReleaseExporter(KeepingExporter):
    """Refuses a release whose graded cells are not those of the submissions in the gradebook, before anything is removed."""

    def __init__(self, **kwargs: Any) -> None:
        converter = kwargs["parent"]
        coursedir = converter.coursedir
        assignment = coursedir.assignment_id
        try:
            with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
                for path in [Path(path) for paths in converter.assignments.values() for path in paths]:
                    notebook = nbformat.read(path, as_version=4)
                    change = difference(gradebook, assignment, path.stem, notebook)
                    if change and change.submissions:
                        raise ChangedCellsError(refusal(assignment, change))
        except ChangedCellsError as changed:
            converter.log.error(str(changed))
            raise NbGraderException(str(changed)) from None
        super().__init__(**kwargs)
