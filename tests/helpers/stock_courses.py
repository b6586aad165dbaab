"""Courses with ordinary nbgrader assignments, and what nbgrader records about their submissions."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import nbgrader
from nbformat import NotebookNode
from nbgrader.api import Gradebook

PACKAGE = Path(nbgrader.__file__).parent
EXAMPLE = PACKAGE / "docs" / "source" / "user_guide"  # the course of 'nbgrader quickstart', with two submissions
FILES = PACKAGE / "tests" / "apps" / "files"  # notebooks of nbgrader's own tests
SEARCHED = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])  # stock nbgrader needs alembic
STOCK = "c = get_config()\n"
OURS = "from autograder import configure\n\nc = get_config()\nc.GradeChecks.jobs = 2\nconfigure(c)\n"

# cell and what it is about -> as nbgrader records it
Recorded = dict[tuple[str, ...], tuple[object, ...]]


@dataclass
class Assignment:
    """An assignment and its submissions.

    Attributes:
        source: File in the instructor's folder -> content.
        submitted: Student -> file -> content.
        config: Further lines of the configuration.
        options: Options of ``nbgrader autograde``.
    """

    source: Mapping[str, NotebookNode | Path | str]
    submitted: Mapping[str, Mapping[str, NotebookNode | Path | str]]
    config: str = ""
    options: list[str] = field(default_factory=list)


def write(folder: Path, files: Mapping[str, NotebookNode | Path | str]) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            nbformat.write(content, path)


def new_stock_course(root: Path, assignment: Assignment, config: str, name: str = "ps1") -> Path:
    """Create a course with an assignment that is not released yet, and its submissions."""
    write(root / "source" / name, assignment.source)
    for student, files in assignment.submitted.items():
        write(root / "submitted" / student / name, files)
    (root / "nbgrader_config.py").write_text(f"{config}{assignment.config}\n", encoding="utf-8")
    return root


def example(students: Mapping[str, str]) -> Assignment:
    """Return nbgrader's example assignment, with its own submissions under other names.

    Args:
        students: Name of the student -> ``bitdiddle`` or ``hacker``.
    """
    source = EXAMPLE / "source" / "ps1"
    return Assignment(
        {path.name: path for path in source.iterdir() if path.is_file()},
        {
            student: {path.name: path for path in (EXAMPLE / "submitted" / kind / "ps1").iterdir() if path.is_file()}
            for student, kind in students.items()
        },
    )


def recorded(course: Path, assignment: str = "ps1") -> Recorded:
    """Return all points and comments that the gradebook has of an assignment, without those of people."""
    found: Recorded = {}
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        for submission in gradebook.assignment_submissions(assignment):
            for notebook in submission.notebooks:
                place = (submission.student.id, notebook.name)
                found[place] = (notebook.score, notebook.max_score, notebook.late_submission_penalty)
                for grade in notebook.grades:
                    found[(*place, grade.name, "score")] = (grade.auto_score, grade.max_score, grade.needs_manual_grade)
                for comment in notebook.comments:
                    found[(*place, comment.name, "comment")] = (comment.auto_comment,)
    return found


def stock_notebook(*cells: NotebookNode, kernel: str = "python3", language: str = "python") -> NotebookNode:
    """Return a notebook of an instructor."""
    spec = {"name": kernel, "display_name": kernel, "language": language}
    return nbformat.v4.new_notebook(cells=list(cells), metadata={"kernelspec": spec})


def locked_test(name: str, source: str, points: float = 1) -> NotebookNode:
    """Return a locked cell that tests."""
    return _marked(nbformat.v4.new_code_cell(source), name, grade=True, locked=True, points=points)


def solution_cell(name: str, source: str) -> NotebookNode:
    """Return a cell for the student's code."""
    return _marked(nbformat.v4.new_code_cell(source), name, solution=True)


def answer_cell(name: str, source: str, points: float = 1) -> NotebookNode:
    """Return a cell for the student's text, which a person grades."""
    return _marked(nbformat.v4.new_markdown_cell(source), name, grade=True, solution=True, points=points)


def task_cell(name: str, source: str, points: float = 1) -> NotebookNode:
    """Return a task, which a person grades."""
    return _marked(nbformat.v4.new_markdown_cell(source), name, task=True, locked=True, points=points)


def _marked(cell: NotebookNode, name: str, **marks: object) -> NotebookNode:
    plain = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
    cell.metadata["nbgrader"] = {**plain, "grade_id": name, "cell_type": cell.cell_type, **marks}
    return cell
