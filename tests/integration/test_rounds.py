"""One seed for all submissions of a round, which ends with feedback that names it: with the real commands."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook

from autograder.gradebook.rounds import Rounds
from autograder.results.stored_checks import stored_seed
from tests.conftest import autograded, autograder_cli, nbgrader, new_course, submit
from tests.helpers.mini_lab import ASSIGNMENT, NOTHING, ONE, submission


def grade(course: Path, *options: str) -> dict[str, int | None]:
    """Grade what is new, and return the seed of each student."""
    done = nbgrader(course, "autograde", ASSIGNMENT, *options)
    assert done.returncode == 0, done.stderr
    students = sorted(folder.name for folder in course.joinpath("autograded").iterdir())
    return {student: stored_seed(autograded(course, student)) for student in students}


def submit_again(course: Path, student: str, notebook: NotebookNode) -> None:
    shutil.rmtree(course / "submitted" / student)
    submit(course, student, notebook)


def with_cell(notebook: NotebookNode, cell: NotebookNode) -> NotebookNode:
    longer = copy.deepcopy(notebook)
    longer.cells.append(cell)
    return longer


@pytest.fixture
def course(tmp_path: Path) -> Path:
    return new_course(tmp_path / "course", ASSIGNMENT)


def test_round_ends_with_feedback(course: Path, mini_release: NotebookNode) -> None:
    """A class has one seed. After feedback, new code gets another one; code that was graded keeps its own."""
    first = submission(ONE, mini_release)
    submit(course, "alice", first)
    submit(course, "bob", submission(NOTHING, mini_release))
    seeds = grade(course)
    assert seeds["alice"] == seeds["bob"] is not None
    submit(course, "carol", first)  # before the feedback
    assert grade(course)["carol"] == seeds["alice"]
    done = nbgrader(course, "generate_feedback", ASSIGNMENT, "--student=bob")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Feedback names the seed of round 1") == 1
    (page,) = course.glob(f"feedback/bob/{ASSIGNMENT}/*.html")
    assert str(seeds["bob"]) in page.read_text()

    submit_again(course, "alice", with_cell(first, new_code_cell("SEEN = 1")))
    submit_again(course, "carol", with_cell(first, new_markdown_cell("Only a text is new.")))
    submit(course, "dave", first)  # who may have read the seed in the feedback of others
    later = grade(course)
    assert later["alice"] == later["dave"] != seeds["alice"]
    assert later["carol"] == seeds["alice"]
    assert grade(course, "--force") == later

    assert nbgrader(course, "generate_feedback", ASSIGNMENT).returncode == 0
    submit_again(course, "alice", first)  # code of the first round
    submit_again(course, "bob", with_cell(first, new_code_cell("SEEN = 2")))
    last = grade(course)
    assert last["alice"] == seeds["alice"]
    assert last["bob"] not in (seeds["bob"], later["dave"])


def test_round_ends_with_export(course: Path, mini_release: NotebookNode) -> None:
    """Exported grades end a round too; without code that was graded in it, a round goes on."""
    submit(course, "alice", submission(ONE, mini_release))
    submit(course, "bob", submission(ONE, mini_release))
    seeds = grade(course)
    for _ in range(2):
        done = autograder_cli(course, "export", ASSIGNMENT, "--format", "csv")
        assert done.returncode == 0, done.stderr
    submit_again(course, "bob", with_cell(submission(ONE, mini_release), new_code_cell("SEEN = 1")))
    later = grade(course)
    assert later["alice"] == seeds["alice"] != later["bob"]
    (place,) = course.glob("gradebook.db")
    with Gradebook(f"sqlite:///{place}") as gradebook:
        assert Rounds(f"sqlite:///{place}", gradebook.find_assignment(ASSIGNMENT).id).number == 2
