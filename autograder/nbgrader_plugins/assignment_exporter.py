"""The exporter of ``nbgrader autograde``: one for labs, and one for ordinary assignments of nbgrader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException
from sqlalchemy.exc import SQLAlchemyError

from autograder.nbgrader_plugins.class_exporter import ClassExporter
from autograder.stock.recognition import is_ordinary, notebooks_in


class AssignmentExporter(NotebookExporter):
    """Creates the exporter that suits the assignment; nbgrader's configuration can name only one class."""

    def __new__(cls, **kwargs: Any) -> ClassExporter:  # type: ignore[misc]
        """Return an exporter for a lab or for an ordinary assignment."""
        if _is_ordinary(kwargs["parent"]):
            from autograder.nbgrader_plugins.stock_exporter import StockExporter

            return StockExporter(**kwargs)
        from autograder.nbgrader_plugins.exporter import SubmissionExporter

        return SubmissionExporter(**kwargs)


def _is_ordinary(converter: Any) -> bool:
    coursedir, assignment = converter.coursedir, converter.coursedir.assignment_id
    folders = [
        Path(coursedir.root, coursedir.format_path(directory, ".", assignment))
        for directory in (coursedir.source_directory, coursedir.release_directory)
    ]
    try:
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            return is_ordinary(assignment, notebooks_in(folders, gradebook, assignment))
    except SQLAlchemyError as error:
        fault = f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}"
    except (LookupError, ValueError) as error:
        fault = str(error)
    converter.log.error("Nothing was graded: %s", fault)
    raise NbGraderException(fault)
