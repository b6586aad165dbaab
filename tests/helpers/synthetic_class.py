"""Synthetic classes: a course with a gradebook and autograded notebooks, made without grading."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Grade, Gradebook, Student, SubmittedAssignment, SubmittedNotebook

from autograder.notebooks.metadata import STORED, STORED_VERSION

LAB = "linear-models"  # no such lab exists: reports do not need one
CELLS = {"check_fit": {"test_slope": 4.0, "test_intercept": 2.0}, "check_predict": {"test_range": 3.0, "test_nan": 1.0}}
TITLES = {"test_slope": "The slope is that of least squares.", "test_nan": "A NaN is refused."}
ESSAY, ESSAY_POINTS = "discussion", 5.0
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'&"


@dataclass
class Graded:
    """A submission of a synthetic class.

    Attributes:
        student: its id.
        outcomes: check -> outcome, "passed" where none is given; or a number of points that a failure leaves.
        essay: manual points, ``None`` while it awaits them.
        penalty: for lateness.
        submission: replaces what is stored for the whole submission.
        more: additional stored data of the first cell.
        stored: False as if graded by an older version.
        scores: replaces automatic scores in the gradebook.
    """

    student: str
    outcomes: Mapping[str, str | float] = field(default_factory=dict)
    essay: float | None = None
    penalty: float = 0.0
    submission: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    stored: bool = True
    scores: Mapping[str, float] = field(default_factory=dict)


def checks_of(graded: Graded, cell: str, cells: Mapping[str, Mapping[str, float]] = CELLS) -> list[dict[str, Any]]:
    checks = []
    for name, points in cells[cell].items():
        outcome = graded.outcomes.get(name, "passed")
        earned = outcome if isinstance(outcome, float) else points if outcome == "passed" else 0.0
        checks.append(
            {
                "name": name,
                "title": TITLES.get(name, f"Title of {name}."),
                "points": points,
                "earned": earned,
                "outcome": "failed" if isinstance(outcome, float) else outcome.partition(":")[0],
                "symptom": outcome.partition(":")[2] if isinstance(outcome, str) and outcome != "error" else "",
                "seconds": 0.5,
                "broke": "ZeroDivisionError: in the check" if outcome == "error" else "",
            }
        )
    return checks


def notebook_of(graded: Graded, cells: Mapping[str, Mapping[str, float]] = CELLS) -> NotebookNode:
    """Return the notebook as ``nbgrader autograde`` leaves it."""
    notebook = nbformat.v4.new_notebook()
    for number, cell in enumerate(cells):
        checks = checks_of(graded, cell, cells)
        stored: dict[str, Any] = {"version": STORED_VERSION, "checks": checks}
        if number == 0:
            known = {"seconds": 10.0, "isolation": "namespaces", "readable": True, "stopped": [], "notes": []}
            stored |= {"submission": {**known, **graded.submission}, **graded.more}
        score = sum(check["earned"] for check in checks)
        metadata = {STORED: stored} if graded.stored else {}
        source = nbformat.v4.new_code_cell("pass")
        source.metadata.nbgrader = {"grade": True, "solution": False, "grade_id": cell, "points": 1, "locked": True}
        source.outputs = [
            nbformat.v4.new_output("display_data", data={"text/plain": "report"}, metadata=metadata),
            nbformat.v4.new_output("execute_result", data={"text/plain": f"{score:g}"}, execution_count=1),
        ]
        notebook.cells.append(source)
    return notebook


@cache
def empty_gradebook() -> Path:
    """Return an empty gradebook, created once: nbgrader needs seconds for it, and starts a command by name."""
    file = Path(tempfile.mkdtemp()) / "gradebook.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        Gradebook(f"sqlite:///{file}").close()
    return file


def build(folder: Path, submissions: Sequence[Graded], cells: Mapping[str, Mapping[str, float]] = CELLS) -> Path:
    """Create a course with a gradebook and autograded notebooks of these submissions."""
    (folder / "nbgrader_config.py").write_text(
        f"from autograder import configure\nc = get_config()\nc.CourseDirectory.root = {str(folder)!r}\nconfigure(c)\n"
    )
    shutil.copy(empty_gradebook(), folder / "gradebook.db")
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
        gradebook.add_assignment(LAB)
        gradebook.add_notebook("lab", LAB)
        for cell, checks in cells.items():
            gradebook.add_grade_cell(cell, "lab", LAB, max_score=sum(checks.values()), cell_type="code")
            gradebook.add_source_cell(cell, "lab", LAB, cell_type="code")
        gradebook.add_grade_cell(ESSAY, "lab", LAB, max_score=ESSAY_POINTS, cell_type="markdown")
        gradebook.add_solution_cell(ESSAY, "lab", LAB)
        gradebook.add_source_cell(ESSAY, "lab", LAB, cell_type="markdown")
        assignment, notebook = gradebook.find_assignment(LAB), gradebook.find_notebook("lab", LAB)
        graded_cells = {cell.name: cell for cell in notebook.grade_cells}
        for graded in submissions:
            gradebook.db.add(gradebook_entry(graded, assignment, notebook, graded_cells, cells))
            folder_of = folder / "autograded" / graded.student / LAB
            if Path(graded.student).name == graded.student:
                folder_of.mkdir(parents=True)
                (folder_of / "lab.ipynb").write_text(json.dumps(notebook_of(graded, cells)))
        gradebook.db.commit()
    return folder


def gradebook_entry(
    graded: Graded, assignment: Any, notebook: Any, graded_cells: Mapping[str, Any], cells: Any
) -> SubmittedAssignment:
    entry = SubmittedNotebook(notebook=notebook, late_submission_penalty=graded.penalty)
    for cell in cells:
        score = graded.scores.get(cell, sum(check["earned"] for check in checks_of(graded, cell, cells)))
        entry.grades.append(Grade(cell=graded_cells[cell], auto_score=score, needs_manual_grade=False))
    waits = graded.essay is None
    entry.grades.append(Grade(cell=graded_cells[ESSAY], manual_score=graded.essay, needs_manual_grade=waits))
    student = Student(id=graded.student)
    return SubmittedAssignment(assignment=assignment, student=student, notebooks=[entry])


def table(course: Path, kind: str, name: str = LAB) -> list[dict[str, str]]:
    with (course / "reports" / f"{name}-{kind}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


FOUR = [
    Graded("ada", {}, essay=5.0),  # 10 + 5
    Graded("ben", {"test_nan": "failed"}, essay=3.0, penalty=2.0),  # 9 + 3 - 2
    Graded("cyd", {"test_slope": "failed", "test_intercept": "skipped", "test_nan": "failed"}),  # 3, waits
    Graded("dan", {"test_slope": 1.5, "test_intercept": "passed", "test_range": "error"}),  # 1.5 + 2 + 1, waits
]


def build_four(folder: Path) -> Path:
    """Create a synthetic class of four, with a student who has not submitted and one who is not graded."""
    course = build(folder, FOUR)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("eve")
    (course / "submitted" / "fay" / LAB).mkdir(parents=True)
    return course
