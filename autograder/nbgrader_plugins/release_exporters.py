"""Exporters that protect existing files when ``nbgrader generate_assignment`` or ``generate_solution`` fails."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException

from amllab.lab import find_lab
from autograder.errors import ChangedCellsError
from autograder.gradebook.changed_cells import difference, refusal


class KeepingExporter(NotebookExporter):
    """An exporter that backs up the folder nbgrader is about to replace, and restores it if the command fails.

    nbgrader creates one instance per run (``parent`` is its converter), before it removes anything.
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
    """Restore the folder from its backup if it is missing at the end of a run."""
    if not target.exists():
        shutil.copytree(copy / target.name, target)
        log.error("%s was restored", target.parent.name + "/" + target.name)
    shutil.rmtree(copy, ignore_errors=True)


def _is_lab(assignment: str) -> bool:
    try:
        with suppress(ValueError):  # its settings cannot be read
            find_lab(assignment)
    except LookupError:
        return False
    return True


class ReleaseExporter(KeepingExporter):
    """An exporter that refuses a release if its graded cells differ from those of recorded submissions.

    It does so before nbgrader removes anything.
    """

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
                        raise ChangedCellsError(refusal(assignment, change, is_lab=_is_lab(assignment)))
        except ChangedCellsError as changed:
            converter.log.error(str(changed))
            raise NbGraderException(str(changed)) from None
        super().__init__(**kwargs)
