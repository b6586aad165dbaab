"""What is graded again, and that no check cell enters the gradebook without the grader's own score.

One course with the real nbgrader command line. Its students submit stubs or one exercise, and no code trains.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.api import Gradebook

from autograder.grading.cache import FOLDER
from tests.conftest import nbgrader, new_course, scores, submit
from tests.helpers.mini_lab import ASSIGNMENT, CHECKS, FULL, NOTEBOOK, NOTHING, ONE, ZERO, submission


def automatic(course: Path, student: str) -> dict[str, float]:
    found = scores(course, student)
    return {cell: found[cell] for cell in CHECKS}


def layout(mini_release: NotebookNode, shift: int) -> NotebookNode:
    """Return the graded cells of the release, each after an experiment; ``shift`` moves all of them by one position."""
    graded = [c for c in mini_release.cells if (c.metadata.get("nbgrader") or {}).get("grade_id")]
    cells = [new_markdown_cell("text") for _ in range(shift)]
    for i, cell in enumerate(graded):
        own = new_code_cell(f"# notes {i}", metadata={"tags": ["experiment"]})
        cells += [own, cell] if cell.cell_type == "code" else [cell, new_markdown_cell("text")]
    cells += [new_markdown_cell("text") for _ in range(1 - shift)]
    notebook = new_notebook(cells=copy.deepcopy(cells), metadata=mini_release.metadata)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{i}"
    return notebook


def dressed_up(mini_release: NotebookNode) -> NotebookNode:
    """Return a stub that claims full points in every possible place."""
    notebook = submission(NOTHING, mini_release)
    result = new_output("execute_result", data={"text/plain": "20"}, execution_count=1)
    for cell in [c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") in CHECKS]:
        cell.outputs = [result]
        twin = new_code_cell("10", metadata=copy.deepcopy(cell.metadata), outputs=[result])
        twin.metadata.nbgrader.update(points=0, solution=True)
        notebook.cells.insert(0, twin)
        marks = {**cell.metadata.nbgrader, "grade_id": f"more_{cell.metadata.nbgrader.grade_id}", "points": 20}
        notebook.cells.append(new_code_cell("20", metadata={"nbgrader": marks}, outputs=[result]))
    checks = [c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == "check_rescale"]
    checks[-1].metadata.nbgrader.update(grade=False, locked=False, checksum="0")
    return notebook


def hand_in(course: Path, student: str, notebook: NotebookNode, time: str = "") -> None:
    shutil.rmtree(course / "submitted" / student, ignore_errors=True)
    submit(course, student, notebook)
    if time:
        (course / "submitted" / student / ASSIGNMENT / "timestamp.txt").write_text(time)


def replace_quietly(course: Path, student: str, mini_release: NotebookNode) -> None:
    """Replace the graded notebook by another one of the same size and modification time."""
    file = course / "submitted" / student / ASSIGNMENT / NOTEBOOK
    before = file.stat()
    nbformat.write(submission(NOTHING, mini_release), file)
    text = file.read_text()
    file.write_text(text + " " * (before.st_size - len(text.encode())))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def times(course: Path) -> dict[str, tuple[datetime | None, float | None]]:
    """Return the submission time and the late penalty of each student in the gradebook."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        found = book.assignment_submissions(ASSIGNMENT)
        return {s.student_id: (s.timestamp, s.notebooks[0].late_submission_penalty) for s in found}


LATE = "2030-01-03 12:00:00 UTC"
LATE_CONFIG = 'c.LateSubmissionPlugin.penalty_method = "zero"\n'


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> tuple[Path, str, Any]:
    """Grade a class, change it, and grade it again; return course, second log, and the times in between."""
    course = new_course(tmp_path_factory.mktemp("course"), ASSIGNMENT)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(LATE_CONFIG)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.update_or_create_assignment(ASSIGNMENT, duedate="2030-01-02 12:00:00 UTC")
    hand_in(course, "moved", layout(mini_release, 0), "2030-01-01 12:00:00 UTC")
    hand_in(course, "replaced", submission(ONE, mini_release))
    hand_in(course, "helper", submission(NOTHING, mini_release))
    hand_in(course, "removed", submission(NOTHING, mini_release))
    hand_in(course, "untouched", submission(NOTHING, mini_release))
    hand_in(course, "late", submission(ONE, mini_release), LATE)
    hand_in(course, "later", submission(NOTHING, mini_release), "2030-01-01 12:00:00 UTC")
    hand_in(course, "unlate", submission(NOTHING, mini_release), LATE)
    hand_in(course, "dressed", dressed_up(mini_release))
    first = nbgrader(course, "autograde", ASSIGNMENT)
    assert first.returncode == 0, first.stderr
    assert automatic(course, "replaced") == FULL | {CHECKS[1]: 0.0}
    before = times(course)

    hand_in(course, "moved", layout(mini_release, 1), "2030-01-01 13:00:00 UTC")
    replace_quietly(course, "replaced", mini_release)
    (course / "submitted" / "helper" / ASSIGNMENT / "helper.txt").write_text("more")
    for student, time in (("late", None), ("later", LATE), ("unlate", "2030-01-01 12:00:00 UTC")):
        file = course / "submitted" / student / ASSIGNMENT / "timestamp.txt"
        file.unlink()
        if time:
            file.write_text(time)
    assert nbgrader(course, "db", "student", "remove", "removed", "--force").returncode == 0
    (course / "submitted" / "untouched" / ASSIGNMENT / ".ipynb_checkpoints").mkdir()
    (course / "submitted" / "untouched" / ASSIGNMENT / ".ipynb_checkpoints" / NOTEBOOK).write_text("seen")
    second = nbgrader(course, "autograde", ASSIGNMENT)
    assert second.returncode == 0, second.stderr
    return course, second.stderr, before


def graded_in(log: str) -> set[str]:
    return set(re.findall(r"(\w+): \S+ of \S+ automatic points", log))


def test_cache_moved_cells_graded_again(twice: tuple[Path, str, Any]) -> None:
    """The same code with cells at other positions is graded again."""
    assert automatic(twice[0], "moved") == ZERO


def test_regrade_changed_despite_same_mtime(twice: tuple[Path, str, Any]) -> None:
    """A changed submission is graded again, even with the same size and modification time."""
    course, log, _ = twice
    assert automatic(course, "replaced") == ZERO
    assert "replaced: the submission has changed since it was graded; it is graded again" in log
    assert graded_in(log) == {"moved", "replaced", "helper", "removed", "late", "later", "unlate"}
    assert (course / "autograded" / "helper" / ASSIGNMENT / "helper.txt").read_text() == "more"


def test_timestamp_removed_from_gradebook(twice: tuple[Path, str, Any]) -> None:
    """A removed or changed timestamp and its late penalty are updated in the gradebook."""
    course, log, before = twice
    assert before["late"] == (datetime(2030, 1, 3, 12), 10)
    assert before["unlate"] == (datetime(2030, 1, 3, 12), 0)
    after = times(course)
    assert after["late"] == (None, None)
    assert after["unlate"] == (datetime(2030, 1, 1, 12), None)
    assert after["later"] == (datetime(2030, 1, 3, 12), 0)
    assert "late: no longer has a timestamp.txt, and counts as on time" in log


def test_regrade_missing_in_gradebook(twice: tuple[Path, str, Any]) -> None:
    """A student who is missing in the gradebook is graded again."""
    course, log, _ = twice
    assert automatic(course, "removed") == ZERO
    assert "removed: it is not in the gradebook; it is graded again" in log


def test_regrade_nothing_to_do(twice: tuple[Path, str, Any]) -> None:
    """A further run without changes grades nothing."""
    done = nbgrader(twice[0], "autograde", ASSIGNMENT)
    assert "9 submissions: 0 graded, 9 already graded, 0 not graded" in done.stderr


def test_score_claimed_by_notebook(twice: tuple[Path, str, Any]) -> None:
    """Scores that a notebook claims for itself do not count."""
    assert automatic(twice[0], "dressed") == ZERO


def test_grader_disabled_no_scores(twice: tuple[Path, str, Any]) -> None:
    """Without the grader nobody is graded, although nbgrader gives full points for a check cell without a result."""
    course, _, _ = twice
    done = nbgrader(course, "autograde", ASSIGNMENT, "--student=untouched", "--force", "--GradeChecks.enabled=False")
    assert done.returncode == 1, done.stderr
    assert "untouched is not graded: missing or wrong score in check_rescale, " in done.stderr
    assert automatic(course, "untouched") == ZERO
    done = nbgrader(course, "autograde", ASSIGNMENT, "--student=untouched", "--no-execute")
    assert done.returncode == 0, done.stderr
    assert "untouched: 0 of 20" in done.stderr
    assert automatic(course, "untouched") == ZERO


def test_cache_edited_gives_no_points(twice: tuple[Path, str, Any]) -> None:
    """An edited cache entry gives no points."""
    course, _, _ = twice
    for file in (course / FOLDER).glob("*.json"):
        file.write_text(file.read_text().replace('{"text/plain": "0"}', '{"text/plain": "10"}'))
    shutil.rmtree(course / "autograded" / "untouched")
    done = nbgrader(course, "autograde", ASSIGNMENT, "--student=untouched")
    assert done.returncode == 0, done.stderr
    assert automatic(course, "untouched") == ZERO


def test_regrade_gradebook_score_mismatch(twice: tuple[Path, str, Any]) -> None:
    """If the gradebook has other scores than the graded notebook, the next run grades again."""
    course, _, _ = twice
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        book.find_grade("check_rescale", NOTEBOOK.removesuffix(".ipynb"), ASSIGNMENT, "helper").auto_score = 10
        book.db.commit()
    done = nbgrader(course, "autograde", ASSIGNMENT, "--student=helper")
    assert "helper: the gradebook has other scores; it is graded again" in done.stderr
    assert automatic(course, "helper") == ZERO
