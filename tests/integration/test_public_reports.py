"""Public bug reports of other graders, tried here: one student or one command for each report.

Students are named after the project and number of the report. The submissions solve only the first exercise: nothing is
trained, and each of them should earn the points of that exercise.
"""

from __future__ import annotations

import copy
import csv
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook

from autograder.checks.transfer_learning.corpus import FREEZE
from tests.conftest import ASSIGNMENT, NOTEBOOK, autograded, nbgrader, nbgrader_command, new_course, scores, submit

pytestmark = pytest.mark.slow  # the classes of test_grading and test_variants are smaller

Change = Callable[[NotebookNode], None]


def run(course: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=course, capture_output=True, text=True, check=False)


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    (found,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id]
    return found


def plain(notebook: NotebookNode) -> None:
    """Change nothing: the baseline of the others."""


def without_a_check_cell(notebook: NotebookNode) -> None:
    notebook.cells.remove(cell_of(notebook, "check_build_transfer_model"))


def split_solution_cell(notebook: NotebookNode) -> None:
    """JupyterLab copies the metadata to both halves."""
    cell = cell_of(notebook, "freeze_layers")
    second = copy.deepcopy(cell)
    cell.source, second.source, second.id = "# what I tried first", FREEZE, "second-half"
    notebook.cells.insert(notebook.cells.index(cell) + 1, second)


def check_cell_as_markdown(notebook: NotebookNode) -> None:
    cell = cell_of(notebook, "check_freeze_layers")
    at = notebook.cells.index(cell)
    notebook.cells[at] = new_markdown_cell(cell.source, metadata=cell.metadata, id=cell.id)


def other_kernel(notebook: NotebookNode) -> None:
    notebook.metadata.kernelspec = {"name": "Python [root]", "display_name": "Python [root]", "language": "python"}


def symbols(notebook: NotebookNode) -> None:
    notebook.cells.insert(1, new_markdown_cell("x₀ ≤ y² → ∞ ﷽ 👩‍🔬"))
    notebook.cells.insert(2, new_code_cell("print('x₀ ≤ y² → ∞ 👩‍🔬')\nπ = 3"))


def widgets_without_state(notebook: NotebookNode) -> None:
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"0a": {"model_name": "HBoxModel"}}}


def dragged_image(notebook: NotebookNode) -> None:
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    cell = new_markdown_cell("![plot](attachment:plot.png) ![other](my_plot.png)")
    cell.attachments = {"plot.png": {"image/png": picture}}
    notebook.cells.insert(1, cell)


def asks_for_input(notebook: NotebookNode) -> None:
    notebook.cells.insert(1, new_code_cell("name = input('Your name: ')"))


def from_colab(notebook: NotebookNode) -> None:
    notebook.metadata.update({"accelerator": "GPU", "colab": {"provenance": [], "gpuType": "T4"}})
    notebook.cells.insert(1, new_code_cell("from google.colab import drive\ndrive.mount('/content/drive')"))
    notebook.cells.insert(2, new_code_cell("!pip install timm\n%cd /content/drive/MyDrive"))
    for i, cell in enumerate(notebook.cells):
        cell.metadata["id"] = f"aBc{i}"


def widgets_in_use(notebook: NotebookNode) -> None:
    notebook.cells.insert(1, new_code_cell("from ipywidgets import widgets\nwidgets.RadioButtons(options=['a', 'b'])"))


STUDENTS: dict[str, Change] = {
    "plain": plain,
    "nbgrader-1682": without_a_check_cell,
    "nbgrader-1083": split_solution_cell,
    "nbgrader-1941": check_cell_as_markdown,
    "nbgrader-417": other_kernel,
    "nbgrader-1297": symbols,
    "nbdev-1167": widgets_without_state,
    "otter-764": dragged_image,
    "nbgrader-1359": widgets_in_use,
    "input": asks_for_input,
    "colab": from_colab,
    "nbgrader-1211": plain,
    "submitty-11736": plain,
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> Path:
    """Return the class graded, with feedback, by commands in a locale that is not UTF-8."""
    course = new_course(tmp_path_factory.mktemp("reports"))
    for student, change in STUDENTS.items():
        notebook = copy.deepcopy(release)
        cell_of(notebook, "freeze_layers").source = FREEZE
        change(notebook)
        submit(course, student, notebook)
    folder = course / "submitted" / "nbgrader-1211" / ASSIGNMENT
    (folder / NOTEBOOK.replace(".ipynb", ".html")).write_text("<h1>printed</h1>")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    other = course / "submitted" / "submitty-11736" / ASSIGNMENT / NOTEBOOK.replace(".ipynb", "-Copy1.ipynb")
    nbformat.write(release, other)
    for command in ("autograde", "generate_feedback"):
        done = nbgrader_command(
            course, command, ASSIGNMENT, LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
        )
        (course / f"{command}.log").write_text(done.stderr, encoding="utf-8")
        assert done.returncode == 0, done.stderr
    return course


@pytest.mark.parametrize("student", STUDENTS)
def test_public_report_points(graded: Path, student: str) -> None:
    """Every submission earns the points of the solved exercise."""
    earned = scores(graded, student)
    assert earned["check_freeze_layers"] == scores(graded, "plain")["check_freeze_layers"] > 10, earned


@pytest.mark.parametrize("student", STUDENTS)
def test_public_report_feedback(graded: Path, student: str) -> None:
    """Every submission gets a feedback page."""
    page = graded / "feedback" / student / ASSIGNMENT / NOTEBOOK.replace(".ipynb", ".html")
    assert "freeze_layers" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("student", STUDENTS)
def test_public_report_manual_reflection_only(graded: Path, student: str) -> None:
    """Only the reflection needs manual grading."""
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as gradebook:
        (notebook,) = gradebook.find_submission(ASSIGNMENT, student).notebooks
        waiting = {grade.name for grade in notebook.grades if grade.needs_manual_grade}
    assert waiting <= {"reflection"}


def test_extra_notebook_logged(graded: Path) -> None:
    """A second notebook in a submission is reported in the log."""
    assert "Copy1" in (graded / "autograde.log").read_text(encoding="utf-8")


def test_roster_saved_by_spreadsheet(graded: Path) -> None:
    """Autolab 874, Canvas 1394: a byte order mark, quoted commas and numbers over 1,000 stay unchanged."""
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Transfer learning (7)", "Total, of all"]
    rows = [
        head,
        ['Doe, "Jo"', "17", "", "plain", "A, B", "", "1,234.56"],
        ["Two\nlines", "18", "", "x", "", "", "20\u3000"],
    ]
    with (graded / "roster.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    done = run(graded, "autograder", "export", ASSIGNMENT, "--format", "canvas", "--roster", "roster.csv", "--partial")
    assert done.returncode == 0, done.stderr
    (written,) = graded.rglob("*canvas*.csv")
    with written.open(encoding="utf-8-sig", newline="") as file:
        filled = list(csv.reader(file))
    assert float(filled[1][5]) == sum(scores(graded, "plain").values())
    filled[1][5] = ""
    assert filled == rows


@pytest.mark.slow
def test_late_penalty_after_new_due_date(graded: Path) -> None:
    """nbgrader 723: the penalty is removed if a submission is no longer late."""
    student = "nbgrader-1211"
    (graded / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text("2026-03-02 12:00:00 UTC")
    lost = []
    for due in (datetime(2026, 3, 1), datetime(2026, 3, 3)):
        with Gradebook(f"sqlite:///{graded}/gradebook.db") as gradebook:
            gradebook.update_or_create_assignment(ASSIGNMENT, duedate=due)
        method = "--LateSubmissionPlugin.penalty_method=zero"
        done = nbgrader(graded, "autograde", ASSIGNMENT, "--student", student, "--force", method)
        assert done.returncode == 0, done.stderr
        with Gradebook(f"sqlite:///{graded}/gradebook.db") as gradebook:
            lost.append(gradebook.find_submission(ASSIGNMENT, student).late_submission_penalty)
    assert lost[0] > 10
    assert not lost[1]


def test_attachment_shown_in_feedback(graded: Path) -> None:
    """An image that was dragged into a cell is shown in the feedback."""
    page = graded / "feedback" / "otter-764" / ASSIGNMENT / NOTEBOOK.replace(".ipynb", ".html")
    assert "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk" in page.read_text()
    assert autograded(graded, "otter-764").cells[1].attachments
