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

from amllab.lab import Lab, find_lab
from autograder.authoring.drafts import draft_of, locked, put_in_place
from autograder.authoring.shipped import shipped_labs
from autograder.course import Course
from autograder.course_version import SHIPPED
from autograder.errors import SettingsError
from autograder.gradebook.changed_cells import settle
from autograder.grading.cache import FOLDER
from autograder.grading.checked_points import require_points
from autograder.labs.conflicts import refuse_conflicts
from autograder.labs.deadline import deadline_of, set_due_date
from autograder.labs.own import require_thresholds
from autograder.labs.probes import probe_problems
from autograder.labs.settings import load_lab
from autograder.text import counted

_SETTING = re.compile(r"\{\{([a-z_]+(?:\.[a-z_]+)+)\}\}")
# the grader is imported first: it spares nbgrader a slow import
_NBGRADER = "import autograder; from nbgrader.apps.nbgraderapp import main; main()"


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
                f"{master.parent.name}/{master.name}: {found[0]} needs a number or text {found[1]} in lab.toml"
            )
        return str(value)

    return _SETTING.sub(value_of, text)


def build(
    course: Course, assignment: str, *, execute: bool = False, data: str | None = None, change_cells: bool = False
) -> None:
    """Build a lab's notebook and release, and its solution if that is out of date or to be executed.

    Release and solution are replaced when both are complete, each in one step.

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
        SettingsError: The lab's settings are invalid, its probes do not import, a function that it trusts does not
            exist, its thresholds were not measured, or its checks are worth more or less than their cells; nothing is
            written.
        CourseError: Another build of the lab is running.
        subprocess.CalledProcessError: An nbgrader command failed, after printing the reason. Release and solution stay.
    """
    lab = load_lab(assignment)
    require_thresholds(lab)
    master = course.directories["source_directory"] / lab.assignment / f"{lab.notebook}.py"
    if not master.is_file():
        shipped = (course.root / SHIPPED).is_dir() and lab.assignment in shipped_labs()
        ways = f": 'autograder upgrade-course --labs {lab.assignment}' adds it" if shipped else ""
        raise FileNotFoundError(f"no master text {lab.assignment}/{master.name} in {master.parent.parent.name}/{ways}")
    refuse_conflicts([master], parts=3)
    if data and data not in ("drawn", "cifar100") and not Path(data).expanduser().is_dir():
        raise FileNotFoundError(f"no folder of images {data}; --data takes drawn, cifar100 or a folder")
    if problems := probe_problems(lab):
        raise SettingsError("\n".join(problems))
    with locked(master.parent):
        notebook = notebook_of(master)
        require_points(lab, master, notebook, course.root / FOLDER)
        changed = settle(course, lab, notebook, change_cells=change_cells)
        _write(notebook, master.with_suffix(".ipynb"))
        release, solution = (path.parent for path in (course.release(lab), course.solution(lab)))
        with draft_of(release) as new_release, draft_of(solution) as new_solution:
            if execute or not _is_of(course.solution(lab), notebook):
                _generate_solution(course, lab, new_solution, data if execute else None, execute=execute)
            # last, because nbgrader also writes the cells of the release to the gradebook
            generate_assignment(course, lab.assignment, new_release)
            if new_solution.exists():
                put_in_place(new_solution, solution)
            put_in_place(new_release, release)
        _save_due_date(course, lab)
    print(*changed, sep="\n", end="\n" if changed else "")


def _save_due_date(course: Course, lab: Lab) -> None:
    """Write the lab's deadline to the gradebook, where formgrader shows it."""
    if deadline_of(lab) is None:
        return
    with course.gradebook() as gradebook:
        assignment = gradebook.update_or_create_assignment(lab.assignment)
        if set_due_date(lab, assignment):
            gradebook.db.commit()
            print(f"due date in the gradebook: {assignment.duedate} UTC")


def generate_assignment(course: Course, assignment: str, target: Path | None = None) -> None:
    """Generate the release of an assignment from its notebook, replacing any existing one.

    Args:
        course: Course with the notebook.
        assignment: Name of the assignment.
        target: Folder to write, with the name of the assignment; by default that of the course.
    """
    target = target or course.directories["release_directory"] / assignment
    _nbgrader(course, "generate_assignment", assignment, "--force", _directory(course, "release", target))


def _generate_solution(course: Course, lab: Lab, target: Path, data: str | None, *, execute: bool) -> None:
    """Generate the solution of a lab in a folder, and say what it lacks if it is not run."""
    with course.gradebook() as gradebook:  # nbgrader makes solutions of assignments that it knows
        gradebook.update_or_create_assignment(lab.assignment)
    run = [] if execute else ["--Execute.enabled=False"]
    environment = {"AMLLAB_DATA": data} if data else {}
    where = _directory(course, "solution", target)
    _nbgrader(course, "generate_solution", lab.assignment, "--force", where, *run, **environment)
    if not execute:
        before = course.solution(lab)
        made = target / before.name
        without = _keep_outputs(nbformat.read(before, as_version=4) if before.is_file() else None, made)
        if without:
            cells = counted(without, "code cell of the solution has", "code cells of the solution have")
            print(f"{made.name}: {cells} no outputs; --execute adds them")


def _directory(course: Course, kind: str, target: Path) -> str:
    """Return the option that makes nbgrader write an assignment's folder to a given place."""
    return f"--CourseDirectory.{kind}_directory={os.path.relpath(target.parent, course.root)}"


def _write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in one step."""
    # not next to it: nbgrader copies all other files there to the release
    draft = path.parent.with_name(f".{path.name}.draft")
    nbformat.write(notebook, draft)
    os.replace(draft, path)


def _is_of(solution: Path, notebook: NotebookNode) -> bool:
    return solution.is_file() and same_text(nbformat.read(solution, as_version=4), solved(notebook))


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
    command = [sys.executable, "-P", "-c", _NBGRADER, *arguments]
    subprocess.run(command, cwd=course.root, env={**os.environ, **environment}, check=True)
