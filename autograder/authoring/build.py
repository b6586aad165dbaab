"""The build of a lab: notebook, release and solution from a single master text.

The master text (``source/<lab>/<notebook>.py``, in jupytext's percent format) holds prose, stubs, solutions and marking
scheme; nbgrader's own commands extract what each audience gets.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from amllab.lab import find_lab
from autograder.course import Course
from autograder.errors import SettingsError
from autograder.gradebook.changed_cells import settle
from autograder.labs.catalog import checks_of
from autograder.labs.own import require_thresholds
from autograder.labs.settings import check_points, load_lab

_SETTING = re.compile(r"\{\{([a-z_]+(?:\.[a-z_]+)+)\}\}")


def notebook_of(master: Path) -> NotebookNode:
    """Convert a master text to a notebook, with the same cell ids each time.

    In its prose, ``{{accuracy.max_epochs}}`` stands for that setting of the ``lab.toml`` that students get.

    Raises:
        SettingsError: The lab has no such setting; the message names it.
    """
    notebook: NotebookNode = jupytext.read(master)
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and _SETTING.search(cell.source):
            cell.source = _with_settings(cell.source, master)
        grade_id = (cell.metadata.get("nbgrader") or {}).get("grade_id")
        cell.id = grade_id or f"cell-{i:03d}"
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.setdefault("cell_type", cell.cell_type)
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def _with_settings(text: str, master: Path) -> str:
    settings = find_lab(master.parent.name).settings

    def value_of(found: re.Match[str]) -> str:
        value: Any = settings
        for part in found[1].split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, (str, int, float)):
            raise SettingsError(
                f"{master.parent.name}/{master.name}: lab.toml has no number or text {found[1]}, as in {found[0]}"
            )
        return str(value)

    return _SETTING.sub(value_of, text)


def build(
    course: Course, assignment: str, *, execute: bool = False, data: str | None = None, change_cells: bool = False
) -> None:
    """Build a lab's notebook and release, and its solution if that is out of date or to be executed.

    Args:
        course: Course that the lab belongs to.
        assignment: Name of the assignment.
        execute: Run the solution, including its experiments (minutes), and store its outputs.
        data: Images for the run, as for ``AMLLAB_DATA`` (:mod:`amllab.reptiles`).
        change_cells: Apply changes of the graded cells also to submissions in the gradebook
            (:mod:`autograder.gradebook.changed_cells`).

    Raises:
        FileNotFoundError: There is no master text, or no such folder of images.
        ChangedCellsError: Submissions in the gradebook have other graded cells; nothing is written.
        SettingsError: The lab's settings are invalid, its thresholds were not measured, or its checks are worth more or
            less than their cells; nothing is written.
        subprocess.CalledProcessError: An nbgrader command failed, after printing the reason.
    """
    lab = load_lab(assignment)
    require_thresholds(lab)
    master = course.directories["source_directory"] / lab.assignment / f"{lab.notebook}.py"
    if not master.is_file():
        raise FileNotFoundError(f"no master text {lab.assignment}/{master.name} in {master.parent.parent.name}/")
    if data and data not in ("drawn", "cifar100") and not Path(data).expanduser().is_dir():
        raise FileNotFoundError(f"no folder of images {data}; --data takes drawn, cifar100 or a folder")
    notebook = notebook_of(master)
    check_points(lab, master, notebook, checks_of(lab))
    changed = settle(course, lab, notebook, change_cells=change_cells)
    nbformat.write(notebook, master.with_suffix(".ipynb"))
    generate_assignment(course, lab.assignment)
    solution = course.solution(lab)
    if execute:
        environment = {"AMLLAB_DATA": data} if data else {}
        _nbgrader(course, "generate_solution", lab.assignment, "--force", **environment)
    elif not solution.is_file() or not same_text(nbformat.read(solution, as_version=4), solved(notebook)):
        before = nbformat.read(solution, as_version=4) if solution.is_file() else None
        _nbgrader(course, "generate_solution", lab.assignment, "--force", "--Execute.enabled=False")
        without = _keep_outputs(before, solution)
        print(
            f"{solution.name}: {without} code cells of the solution have no outputs yet; run again with --execute to add them"
        )
    print(*changed, sep="\n", end="\n" if changed else "")


def generate_assignment(course: Course, assignment: str) -> None:
    """Generate the release of an assignment from its notebook, replacing any existing one."""
    _nbgrader(course, "generate_assignment", assignment, "--force")


def _keep_outputs(before: NotebookNode | None, solution: Path) -> int:
    """Copy the outputs of the old solution if no code has changed, and return how many code cells have none."""
    after = nbformat.read(solution, as_version=4)
    cells = [cell for cell in after.cells if cell.cell_type == "code"]
    old = [cell for cell in before.cells if cell.cell_type == "code"] if before else []
    if [cell.source for cell in cells] != [cell.source for cell in old]:
        return len(cells)
    for cell, twin in zip(cells, old, strict=True):
        cell.outputs, cell.execution_count = twin.outputs, twin.execution_count
    after.metadata = before.metadata
    nbformat.write(after, solution)
    return sum(cell.execution_count is None for cell in cells)


def solved(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook as ``generate_solution`` writes it without running it: without marking schemes."""
    from nbgrader.preprocessors import ClearMarkScheme

    cleared: NotebookNode = ClearMarkScheme(enforce_metadata=False).preprocess(copy.deepcopy(notebook), {})[0]
    return cleared


def same_text(a: NotebookNode, b: NotebookNode) -> bool:
    """Return whether two notebooks have the same cells, ignoring outputs."""
    return [(c.cell_type, c.source, c.id) for c in a.cells] == [(c.cell_type, c.source, c.id) for c in b.cells]


def _nbgrader(course: Course, *arguments: str, **environment: str) -> None:
    """Run an nbgrader command in the course, with this interpreter's environment even if it is not active."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    subprocess.run(command, cwd=course.root, env={**os.environ, **environment}, check=True)
