"""A course: a folder with ``nbgrader_config.py``, and the places where nbgrader stores things in it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from traitlets.config import PyFileConfigLoader

from amllab.course_folder import CONFIG, TRUSTED, course_folder, distrust, ignored_configurations
from amllab.lab import Lab, use_course

log = logging.getLogger(__name__)

_PATTERNS = "*?[]{}$"  # nbgrader treats these as patterns and variables when it looks for files


def path_problem(root: Path) -> str:
    """Return why nbgrader cannot work in a folder with this name, or an empty string if it can."""
    for part in map(_in_utf8, root.parts):
        if set(part) & set(_PATTERNS):
            what = f"that nbgrader treats as patterns ({' '.join(_PATTERNS)})"
        elif not part.isprintable():
            what = "that cannot be displayed"
        else:
            continue
        return f"the path of the course has characters {what}, in {part!r}: rename that folder and run the command again there"
    return ""


def _in_utf8(name: str) -> str:
    """Return a name as stored on disk: in a locale such as C, Python decodes its letters byte by byte."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Course:
    """The directories and the gradebook of a course, as in nbgrader's own configuration.

    Attributes:
        root: Folder of the course.
        directories: nbgrader's role (``release_directory``, ...) -> path.
        db_url: URL of the gradebook's database.
    """

    root: Path
    directories: dict[str, Path]
    db_url: str

    @classmethod
    def find(cls, start: Path | None = None) -> Course:
        """Return the course that contains ``start`` (default: the working directory).

        Raises:
            FileNotFoundError: Neither this folder nor one above it has an ``nbgrader_config.py`` that may be used.
            ValueError: The configuration belongs to another account or cannot be read, or nbgrader cannot work in a
                folder with this name.
        """
        start = start or Path.cwd()
        root = course_folder(start)
        ignored = "; ".join(
            f"{path} is not used, as it came with a submission" for path in ignored_configurations(start)
        )
        if root is None:
            raise FileNotFoundError(
                f"no {CONFIG} in this folder or above it: run the command inside the course"
                + (f" ({ignored}. If that is a course, run 'export {TRUSTED}=FOLDER')" if ignored else "")
            )
        if problem := distrust(root) or path_problem(root):
            raise ValueError(problem)
        if ignored:
            log.warning("%s: the course is %s", ignored, root)
        use_course(root)
        try:
            config = PyFileConfigLoader(CONFIG, path=str(root)).load_config()
        except Exception as error:  # the configuration is a program that may raise anything
            raise ValueError(f"{root / CONFIG} cannot be read: {type(error).__name__}: {error}") from error
        # nbgrader itself would take the working directory, which may be below the course
        config.CourseDirectory.root = str(root / config.CourseDirectory.get("root", ""))
        coursedir = CourseDirectory(config=config)
        roles = (
            "source_directory",
            "release_directory",
            "solution_directory",
            "submitted_directory",
            "autograded_directory",
            "feedback_directory",
        )
        directories = {role: Path(coursedir.root, getattr(coursedir, role)) for role in roles}
        return cls(root, directories, coursedir.db_url)

    def release(self, lab: Lab) -> Path:
        """Return the path of the notebook that students get."""
        return self.directories["release_directory"] / lab.assignment / f"{lab.notebook}.ipynb"

    def solution(self, lab: Lab) -> Path:
        """Return the path of the solved notebook, which is the reference."""
        return self.directories["solution_directory"] / lab.assignment / f"{lab.notebook}.ipynb"

    def gradebook(self) -> Gradebook:
        """Open the gradebook; use it as a context manager."""
        return Gradebook(self.db_url)
