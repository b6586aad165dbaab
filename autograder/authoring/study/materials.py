"""What the study of a lab is made from: its notebooks, its checks and its corpus."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from amllab.lab import Lab
from autograder.course import Course
from autograder.errors import CourseError
from autograder.labs.corpus import Corpus, corpus_of
from autograder.labs.locations import hidden_checks, hidden_name


@dataclass(frozen=True)
class Materials:
    """A lab to study.

    Attributes:
        lab: The lab.
        setup: Source of the released notebook's cell ``setup``, or else of its code above the first solution cell.
        exercises: Names of the solution cells that have checks, in the order of the notebook.
        reference: Solution cell -> source in the reference.
        corpus: The corpus of the lab.
    """

    lab: Lab
    setup: str
    exercises: tuple[str, ...]
    reference: dict[str, str]
    corpus: Corpus

    @classmethod
    def of(cls, course: Course, lab: Lab) -> Materials:
        """Read the notebooks of a course.

        Raises:
            CourseError: The lab has no corpus, or no cell of its notebook has checks.
        """
        corpus = corpus_of(lab)
        if not corpus.wrong:
            raise CourseError(
                f"{lab.assignment} has no corpus: write wrong solutions to {hidden_name(lab.name, 'corpus.py')}"
            )
        release = _read(course.release(lab), lab)
        solution = _read(course.solution(lab), lab)
        tested = {file.stem for file in _files(lab)}
        above, exercises = [], []
        for cell in release.cells:
            graded = cell.metadata.get("nbgrader") or {}
            name = graded.get("grade_id", "")
            if cell.cell_type != "code" or graded.get("grade"):
                continue
            if graded.get("solution"):
                exercises += [name] if f"test_{name}" in tested or f"test_{name}_hidden" in tested else []
            elif not exercises and "experiment" not in cell.metadata.get("tags", []):
                above.append(cell.source)
        if not exercises:
            raise CourseError(f"{lab.assignment}: no solution cell of the notebook has a file test_<cell>.py of checks")
        sources = {(cell.metadata.get("nbgrader") or {}).get("grade_id"): cell.source for cell in solution.cells}
        setup = next(
            (c.source for c in release.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == "setup"), ""
        )
        return cls(
            lab, setup or "\n\n".join(above), tuple(exercises), {name: sources[name] for name in exercises}, corpus
        )

    @cached_property
    def functions(self) -> dict[str, str]:
        """Solution cell -> the function that it is about: the one of its name, or the one whose name ends with it."""
        return {name: _function(name, source) for name, source in self.reference.items()}

    @property
    def plain(self) -> dict[str, str]:
        """Solution cell -> source of the plain functions; those of the reference where the corpus has none."""
        return {**self.reference, **self.corpus.plain}

    @cached_property
    def bases(self) -> dict[str, dict[str, str]]:
        """The correct functions that mutants are made of: ``"reference"``, and ``"plain"`` if the corpus has them."""
        found = {"plain": self.plain} if self.corpus.plain else {}
        return {**found, "reference": self.reference}

    def files(self, exercises: tuple[str, ...]) -> list[Path]:
        """Return the checks of some exercises; with no exercise, those that belong to none, such as accuracy."""
        return [file for name in exercises or ("",) for file in _files(self.lab) if self._exercise_of(file) == name]

    def _exercise_of(self, file: Path) -> str:
        """Return the exercise that a file of checks is about; empty if none is."""
        about = [name for name in self.exercises if re.fullmatch(rf"test_{re.escape(name)}(_\w*hidden)?", file.stem)]
        return max(about, key=len, default="")


def _function(cell: str, source: str) -> str:
    defined = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    found = [name for name in defined if name == cell or name.endswith(f"_{cell}")]
    if not found:
        raise CourseError(
            f"the solution cell {cell!r} defines no function of that name: {', '.join(defined) or 'none'}"
        )
    return min(found, key=len)


def _files(lab: Lab) -> list[Path]:
    return [*sorted(lab.folder.glob("test_*.py")), *sorted((hidden_checks(lab.name)).glob("test_*.py"))]


def _read(file: Path, lab: Lab) -> NotebookNode:
    if not file.is_file():
        raise CourseError(f"{file.name} of {lab.assignment} is missing: run 'autograder build {lab.assignment}'")
    notebook: NotebookNode = nbformat.read(file, as_version=4)
    return notebook
