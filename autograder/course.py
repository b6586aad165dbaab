"""A course: a folder with ``nbgrader_config.py``, and where nbgrader keeps things in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from traitlets.config import PyFileConfigLoader

from amllab.checks.lab import Lab

CONFIG = "nbgrader_config.py"
_PATTERNS = "*?[]{}$"  # nbgrader takes these for patterns and names of variables when it looks for files


def path_problem(root: Path) -> str:
    """Why nbgrader cannot work in a folder of this name; empty where it can."""
    for part in map(_in_utf8, root.parts):
        if set(part) & set(_PATTERNS):
            what = f"that nbgrader takes for patterns ({' '.join(_PATTERNS)})"
        elif not part.isprintable():
            what = "that cannot be shown"
        else:
            continue
        return (
            f"the course's path has characters {what}, in {part!r}: rename that folder, and run the command again there"
        )
    return ""


def _in_utf8(name: str) -> str:
    """A name as the disk has it: in a locale such as C, Python reads its letters byte by byte."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Course:
    """A course's directories and gradebook, as nbgrader's own configuration has them.

    Attributes:
        root: the course's folder.
        directories: nbgrader's role (``release_directory``, ...) to path.
        db_url: of the gradebook.
    """

    root: Path
    directories: dict[str, Path]
    db_url: str

    @classmethod
    def find(cls, start: Path | None = None) -> Course:
        """The course that ``start`` (default: the working directory) lies in.

        Raises:
            FileNotFoundError: no folder above has an ``nbgrader_config.py``.
            ValueError: nbgrader cannot work in a folder of this name, or its configuration cannot be read.
        """
        start = (start or Path.cwd()).resolve()
        root = next((folder for folder in (start, *start.parents) if (folder / CONFIG).is_file()), None)
        if root is None:
            raise FileNotFoundError(f"no {CONFIG} in this folder or above it: run the command inside the course")
        if problem := path_problem(root):
            raise ValueError(problem)
        try:
            config = PyFileConfigLoader(CONFIG, path=str(root)).load_config()
        except Exception as error:  # it is a program, and fails in its own ways
            raise ValueError(f"{root / CONFIG} cannot be read: {type(error).__name__}: {error}") from error
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
        """The notebook as students get it."""
        return self.directories["release_directory"] / lab.assignment / f"{lab.notebook}.ipynb"

    def solution(self, lab: Lab) -> Path:
        """The solved notebook, the reference."""
        return self.directories["solution_directory"] / lab.assignment / f"{lab.notebook}.ipynb"

    def gradebook(self) -> Gradebook:
        """The gradebook; use as a context manager."""
        return Gradebook(self.db_url)
