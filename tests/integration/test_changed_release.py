"""Graded cells that are renamed, added or removed in the master after the first submissions, with the real commands."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from autograder.authoring.build import notebook_of
from autograder.course import Course
from autograder.errors import ChangedCellsError
from autograder.gradebook.changed_cells import difference, differing, take_over
from tests.conftest import autograded, autograder_cli, nbgrader, new_course, scores, submit
from tests.helpers import mini_lab
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK

NAME = NOTEBOOK.removesuffix(".ipynb")
ADDED = """
# %% [markdown] nbgrader={"grade": true, "grade_id": "outlook", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **4. What next?**
#
# <!-- BEGIN SOLUTION -->
# Other backbones.
# <!-- END SOLUTION -->
"""


def book(course: Path) -> Gradebook:
    return Gradebook(f"sqlite:///{course}/gradebook.db")


def by_hand(course: Path, cell: str, student: str, score: float, comment: str) -> None:
    with book(course) as gradebook:
        grade = gradebook.find_grade(cell, NAME, ASSIGNMENT, student)
        grade.manual_score, grade.needs_manual_grade = score, False
        gradebook.find_comment(cell, NAME, ASSIGNMENT, student).manual_comment = comment
        gradebook.db.commit()


def given(course: Path, cell: str, student: str) -> tuple[float | None, str | None]:
    with book(course) as gradebook:
        grade = gradebook.find_grade(cell, NAME, ASSIGNMENT, student)
        return grade.manual_score, gradebook.find_comment(cell, NAME, ASSIGNMENT, student).manual_comment


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> Path:
    """Return two graded stubs with a manual score, after one cell was renamed and one added in the master."""
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    for student in ("ada", "ben"):
        submit(course, student, mini_release)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    by_hand(course, "reflection", "ada", 3.5, "Well argued.")
    master = course / "source" / ASSIGNMENT / f"{NAME}.py"
    master.write_text(master.read_text().replace('"grade_id": "reflection"', '"grade_id": "discussion"') + ADDED)
    return course


def files(course: Path) -> dict[Path, bytes]:
    roles = ("assignments", "source", "solutions")
    return {path: path.read_bytes() for role in roles for path in (course / role).rglob("*") if path.is_file()}


def test_build_refuses_changed_cells(graded: Path) -> None:
    """Without ``--change-cells``, changed cells are listed and nothing is written."""
    before, rows = files(graded), (graded / "gradebook.db").read_bytes()
    done = autograder_cli(graded, "build", ASSIGNMENT)
    assert done.returncode == 2
    said = done.stderr
    assert "has 2 submissions in the gradebook, but the master text has other graded cells" in said
    assert "renamed: reflection is now discussion; scores and comments stay" in said
    assert "added: outlook (5 points)" in said
    assert f"autograder build {ASSIGNMENT} --change-cells" in said
    assert "Traceback" not in said
    assert files(graded) == before
    assert (graded / "gradebook.db").read_bytes() == rows


def test_generate_assignment_keeps_release(graded: Path) -> None:
    """``nbgrader generate_assignment`` refuses changed cells, and restores the release after a failure."""
    source, released = (graded / role / ASSIGNMENT / NOTEBOOK for role in ("source", "assignments"))
    before, kept = source.read_bytes(), released.read_bytes()
    changed = notebook_of(source.with_suffix(".py"))
    nbformat.write(changed, source)
    refused = nbgrader(graded, "generate_assignment", ASSIGNMENT, "--force")
    twice = copy.deepcopy(changed)
    twice.cells = notebook_of_old(before)
    twice.cells.append(copy.deepcopy(twice.cells[-1]))  # one grade id for two cells: nbgrader stops half-way
    twice.cells[-1].id = "again"
    twice.cells[-1].metadata = copy.deepcopy(next(c for c in twice.cells if c.id == "reflection").metadata)
    nbformat.write(twice, source)
    failed = nbgrader(graded, "generate_assignment", ASSIGNMENT, "--force")
    source.write_bytes(before)
    assert refused.returncode == 1
    assert f"autograder build {ASSIGNMENT} --change-cells" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert failed.returncode == 1
    assert f"assignments/{ASSIGNMENT} was restored" in failed.stderr
    assert released.read_bytes() == kept


def notebook_of_old(content: bytes) -> list[NotebookNode]:
    return list(nbformat.reads(content.decode(), as_version=4).cells)


@pytest.mark.slow
def test_change_cells_keeps_manual_scores(graded: Path) -> None:
    """``--change-cells`` applies the changes and keeps manual scores and comments."""
    done = autograder_cli(graded, "build", ASSIGNMENT, "--change-cells")
    assert done.returncode == 0, done.stderr
    assert "2 submissions have these cells now; to grade them again, run 'nbgrader autograde" in done.stdout
    assert "renamed: reflection is now discussion" in done.stdout
    assert len(list(graded.glob("gradebook.db.*"))) == 1
    assert given(graded, "discussion", "ada") == (3.5, "Well argued.")
    scores_now = autograder_cli(graded, "scores", ASSIGNMENT)
    assert (
        f"the graded cells have changed since it was graded: run 'nbgrader autograde {ASSIGNMENT}'" in scores_now.stdout
    )

    again = nbgrader(graded, "autograde", ASSIGNMENT)
    assert again.returncode == 0, again.stderr
    assert "2 submissions: 2 graded, 0 already graded, 0 not graded" in again.stderr
    assert given(graded, "discussion", "ada") == (3.5, "Well argued.")
    assert set(scores(graded, "ben")) == set(scores(graded, "ada")) == {
        *mini_lab.CHECKS, "discussion", "outlook",
    }  # fmt: skip
    marks = [c.metadata.nbgrader.grade_id for c in autograded(graded, "ben").cells if c.metadata.get("nbgrader")]
    assert marks[-2:] == ["discussion", "outlook"]
    with book(graded) as gradebook:
        recorded = gradebook.find_notebook(NAME, ASSIGNMENT)
        release = nbformat.read(graded / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
        assert differing(recorded, release) == []
        assert {cell.name for cell in recorded.source_cells} >= {"discussion", "outlook"}
        assert "reflection" not in {cell.name for cell in recorded.source_cells}
    third = nbgrader(graded, "autograde", ASSIGNMENT)
    assert "2 submissions: 0 graded, 2 already graded, 0 not graded" in third.stderr
    assert autograder_cli(graded, "build", ASSIGNMENT).returncode == 0  # no difference is left


# Without the command line, on a gradebook with one ungraded submission


@pytest.fixture
def course(tmp_path: Path) -> Path:
    course = new_course(tmp_path, ASSIGNMENT)
    with book(course) as gradebook:
        gradebook.add_student("ada")
        gradebook.add_submission(ASSIGNMENT, "ada")
    return course


def master(course: Path) -> NotebookNode:
    return notebook_of(course / "source" / ASSIGNMENT / f"{NAME}.py")


def cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == grade_id)


def changed(course: Path, notebook: NotebookNode) -> list[str]:
    """Apply the difference and return its lines; afterwards there is none, and every cell has its rows."""
    with book(course) as gradebook:
        change = difference(gradebook, ASSIGNMENT, NAME, notebook)
        if change:
            take_over(gradebook, ASSIGNMENT, NAME, notebook, change)
        rest = difference(gradebook, ASSIGNMENT, NAME, notebook)
        assert not rest, rest.lines()
        (submission,) = gradebook.find_notebook(NAME, ASSIGNMENT).submissions
        marks = [c.metadata.nbgrader for c in notebook.cells if c.metadata.get("nbgrader")]
        assert {g.name for g in submission.grades} == {m.grade_id for m in marks if m.grade or m.task}
        assert {c.name for c in submission.comments} == {m.grade_id for m in marks if m.solution or m.task}
        return change.lines()


def test_difference_unchanged_master(course: Path) -> None:
    """An unchanged master gives no difference."""
    assert changed(course, master(course)) == []


def test_difference_ignores_text(course: Path) -> None:
    """Changed text in cells is no difference."""
    notebook = master(course)
    cell(notebook, "reflection").source += "\nmore"
    cell(notebook, "check_rescale").source += "  # slow"
    assert changed(course, notebook) == []


def test_difference_removed_cells(course: Path) -> None:
    """Removed cells name the students who lose scores or comments."""
    by_hand(course, "reflection", "ada", 3.0, "")
    notebook = master(course)
    notebook.cells.remove(cell(notebook, "reflection"))
    notebook.cells.remove(cell(notebook, "check_rescale"))
    assert changed(course, notebook) == [
        "removed: check_rescale (10 points)",
        "removed: reflection (5 points); ada lose their manual scores and comments",
    ]


def test_difference_grading_type(course: Path) -> None:
    """Cells that are graded in another way are reported."""
    notebook = master(course)
    cell(notebook, "check_rescale").metadata.nbgrader.update(solution=True, locked=False)
    cell(notebook, "setup").metadata.nbgrader.update(grade=True, points=2)
    assert changed(course, notebook) == [
        "changed: check_rescale is graded in another way or no longer graded",
        "changed: setup is graded in another way or no longer graded",
        "points: setup is worth 2, not nothing",
    ]


def test_difference_renamed_cells(course: Path) -> None:
    """Renamed cells are recognised by their text; a reworded one counts as removed and added."""
    notebook = master(course)
    for old, new in (("standardise", "scale"), ("check_standardise", "check_scale")):
        cell(notebook, old).metadata.nbgrader.grade_id = new
    reworded = cell(notebook, "reflection")
    reworded.source = "Something else.\n<!-- BEGIN SOLUTION -->\nYes.\n<!-- END SOLUTION -->"
    reworded.metadata.nbgrader.grade_id = "essay"
    lines = changed(course, notebook)
    assert "renamed: standardise is now scale; scores and comments stay" in lines
    assert "renamed: check_standardise is now check_scale; scores and comments stay" in lines
    assert {"added: essay (5 points)", "removed: reflection (5 points)"} < set(lines)


def test_difference_swapped_names(course: Path) -> None:
    """Swapped names are no difference: scores stay with the name, whose meaning the master defines."""
    notebook = master(course)
    a, b = cell(notebook, "check_rescale"), cell(notebook, "check_standardise")
    a.metadata.nbgrader.grade_id, b.metadata.nbgrader.grade_id = "check_standardise", "check_rescale"
    assert changed(course, notebook) == []


def test_difference_points(course: Path) -> None:
    """Changed points are reported."""
    notebook = master(course)
    cell(notebook, "check_rescale").metadata.nbgrader.points = 15
    assert changed(course, notebook) == ["points: check_rescale is worth 15, not 10"]


def test_difference_other_notebook(course: Path) -> None:
    """A notebook with another name is refused."""
    with book(course) as gradebook, pytest.raises(ChangedCellsError, match=f"is for {NOTEBOOK}, not for other.ipynb"):
        difference(gradebook, ASSIGNMENT, "other", master(course))


@pytest.mark.slow
def test_build_gradebook_without_submissions(tmp_path: Path) -> None:
    """Without submissions in the gradebook, changed cells are built without asking."""
    course = new_course(tmp_path, ASSIGNMENT)
    text = course / "source" / ASSIGNMENT / f"{NAME}.py"
    text.write_text(text.read_text() + ADDED)
    (course / "gradebook.db").unlink()
    assert autograder_cli(course, "build", ASSIGNMENT).returncode == 0
    text.write_text(text.read_text().replace('"outlook"', '"prospect"'))
    assert autograder_cli(course, "build", ASSIGNMENT).returncode == 0
    with Course.find(course).gradebook() as gradebook:
        cells = gradebook.find_notebook(NAME, ASSIGNMENT).grade_cells
        assert "prospect" in {cell.name for cell in cells}


def test_autograde_refuses_unknown_release(course: Path, mini_release: NotebookNode) -> None:
    """Grading refuses a release whose graded cells differ from the gradebook's."""
    submit(course, "ada", mini_release)
    other = copy.deepcopy(mini_release)
    cell(other, "reflection").metadata.nbgrader.points = 12
    nbformat.write(other, course / "assignments" / ASSIGNMENT / NOTEBOOK)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 1
    assert f"do not have the same graded cells (reflection): run 'autograder build {ASSIGNMENT}'" in done.stderr
    assert "Traceback" not in done.stderr
