"""Ordinary nbgrader assignments get the points and comments of stock nbgrader, isolated and passed through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import nbgrader
from tests.helpers.stock_courses import (
    FILES,
    OURS,
    PACKAGE,
    SEARCHED,
    STOCK,
    Assignment,
    Recorded,
    answer_cell,
    example,
    locked_test,
    new_stock_course,
    recorded,
    solution_cell,
    stock_notebook,
    task_cell,
)

PASSED_THROUGH = f'{OURS}c.GradeChecks.stock = "nbgrader"\n'
PREPROCESSORS, PAGES = PACKAGE / "tests" / "preprocessors" / "files", PACKAGE / "tests" / "ui-tests" / "files"

# source of a test cell -> what it is about; the points follow from what stock nbgrader does with it
KINDS = {
    "passes": "assert double(2) == 4",
    "fails": "assert double(3) == 7",
    "partial": "print('some text')\n0.5",
    "more_text": "'no number'",
    "nothing": "None",
    "list_result": "[0.5, 0.5]",
    "stderr": "import sys\nprint('careful', file=sys.stderr)",
    "warns": "import warnings\nwarnings.warn('old', DeprecationWarning)",
    "user_warning": "import warnings\nwarnings.warn('careful')",
    "log": "import logging\nlogging.warning('careful')",
    "syntax": "this is no Python",
    "last_result": "assert _ is None or True\nOut.get(1, 1.0)",
    "reads_file": "open('data.txt').read().strip() == 'some data' or 1/0\nopen('helper.txt').read()",
    "imports_helper": "import helper\nhelper.VALUE",
    "writes_file": "n = open('written.txt', 'w').write('kept')",
    "environment": "import os\nassert os.environ['NBGRADER_EXECUTION'] == 'autograde'",
    "asks": "input('name?')",
    "shell": "!echo hello\n1.0",
    "bash": "%%bash\necho careful >&2",
    "exit_code": "import sys\nsys.exit(0)",
    "displays": "from IPython.display import display\nh = display('a', display_id=True)\nh.update('b')",
    "much": "for i in range(3000):\n    print(i)",
    "recursion": "def f():\n    return f()\nf()",
    "awaits": "import asyncio\nawait asyncio.sleep(0)\n1",
    "slow": "import time\ntime.sleep(60)",
    "after_slow": "assert double(1) == 2",
    "own_error_handler": "assert hidden is True\n### BEGIN HIDDEN TESTS\nassert hidden is False\n### END HIDDEN TESTS",
}
SAMPLE = ("passes", "partial", "stderr", "warns", "reads_file", "imports_helper", "own_error_handler")
SECOND = {"sees_file": "assert open('written.txt').read() == 'kept'", "own_kernel": "assert 'double' not in globals()"}
RIGHT = "def double(x):\n    return 2 * x\nhidden = True"
EXPLOIT = f"{RIGHT}\nimport IPython\nIPython.core.interactiveshell.InteractiveShell.showtraceback = None"


def kinds(*solutions: str, only: Sequence[str] = ()) -> Assignment:
    """Return an assignment with test cells of all kinds, and submissions with these solutions.

    Args:
        solutions: Code of the students.
        only: Names of the test cells to take, without the second notebook; by default all.
    """
    tests = [locked_test(name, source, 2) for name, source in KINDS.items() if name in only or not only]
    graded = [answer_cell("answer", "Your answer"), answer_cell("unchanged", "Your answer"), task_cell("task", "Do it")]
    first = stock_notebook(solution_cell("double", "### BEGIN SOLUTION\n### END SOLUTION"), *tests, *graded)
    second = stock_notebook(*[locked_test(name, source, 1) for name, source in SECOND.items()])
    submitted = {}
    for i, solution in enumerate(solutions):
        own = stock_notebook(solution_cell("double", solution), *tests, *graded)
        own.cells[-3] = answer_cell("answer", "My answer")
        own.cells[-2] = answer_cell("unchanged", "YOUR ANSWER HERE")
        own.cells[1].source = "assert True"  # locked cells are restored
        submitted[f"student{i}"] = {"first.ipynb": own, "helper.txt": "of the student"}
        if not only:
            submitted[f"student{i}"]["second.ipynb"] = second
    source = {"first.ipynb": first, "data.txt": "some data\n", "helper.py": "VALUE = 1.5\n"}
    return Assignment(source if only else {**source, "second.ipynb": second}, submitted, "c.Execute.timeout = 3\n")


def nbgraders_own() -> Assignment:
    """Return an assignment with the notebooks of nbgrader's own tests, and what its tests submit."""
    variants = {
        "plain": [
            "submitted-unchanged",
            "submitted-changed",
            "submitted-cheat-attempt",
            "submitted-grade-cell-changed",
        ],
        "more": ["submitted-unchanged", "submitted-locked-cell-changed", "submitted-cheat-attempt-alternative"],
        "simple": ["autotest-simple", "autotest-simple-unchanged", "autotest-simple-changed"],
        "hashed": ["autotest-hashed", "autotest-hashed-unchanged", "autotest-hashed-changed"],
        "multi": ["autotest-multi", "autotest-multi-unchanged", "autotest-multi-changed"],
        "hidden": ["autotest-hidden", "autotest-hidden-unchanged", "autotest-hidden-changed-right"],
        "tests": ["test", "test", "test-with-output"],
        "hidden_tests": ["test-hidden-tests", "test-hidden-tests"],
        "environment": ["validating-environment-variable", "validating-environment-variable"],
        "timeout": ["timeout", "timeout"],
        "loop": ["infinite-loop", "infinite-loop"],
        "effects": ["side-effects", "side-effects"],
        "zero": ["validation-zero-points", "validation-zero-points"],
    }
    paths = {name: [FILES / f"{file}.ipynb" for file in files] for name, files in variants.items()}
    for name in ("test_taskcell", "manually-graded-code-cell", "long-output", "infinite-recursion", "warning-pattern"):
        paths[name] = [PREPROCESSORS / f"{name}.ipynb"] * 2
    # not submitted-grade-cell-type-changed, which ends in an error in stock nbgrader
    paths["pages"] = [PAGES / f"submitted-{name}.ipynb" for name in ("unchanged", "changed")]
    paths["tasks"] = [PAGES / "task.ipynb"] * 2
    submitted = {
        f"student{i}": {f"{name}.ipynb": files[i] for name, files in paths.items() if len(files) > i} for i in (1, 2, 3)
    }
    source = {f"{name}.ipynb": files[0] for name, files in paths.items()}
    config = "c.Execute.timeout = 2\nc.IgnorePattern.enabled = True\nc.IgnorePattern.pattern = 'WARNING'\n"
    return Assignment(source, submitted, config)


def graded(folder: Path, assignment: Assignment, config: str) -> Recorded:
    """Release and grade an assignment; return what nbgrader recorded."""
    course = new_stock_course(folder, assignment, config)
    (course / "autotests.yml").write_bytes((FILES / "autotests.yml").read_bytes())
    for command in ("generate_assignment", "autograde"):
        options = assignment.options if command == "autograde" else []
        done = nbgrader(course, command, "ps1", *options, PATH=SEARCHED)  # stock nbgrader looks for alembic there
        assert done.returncode == 0, done.stderr[-6000:]
    return recorded(course)


def compare(folder: Path, assignment: Assignment, *configs: str) -> Recorded:
    """Grade with stock nbgrader and with other configurations, and compare; return what stock nbgrader recorded."""
    wanted = graded(folder / "stock", assignment, STOCK)
    for i, config in enumerate(configs):
        found = graded(folder / f"ours{i}", assignment, config)
        assert {k: (found.get(k), v) for k, v in wanted.items() if found.get(k) != v} == {}
        assert found.keys() == wanted.keys()
    return wanted


@pytest.mark.slow
def test_same_points_sample(tmp_path: Path) -> None:
    """A sample of test cells: the points and comments are those of stock nbgrader."""
    wanted = compare(tmp_path, kinds(RIGHT, only=SAMPLE), OURS)
    scores = [value[0] for place, value in wanted.items() if place[-1] == "score"]
    assert {None, 0, 0.5, 2} <= set(scores), "cells without points, with some, with all, and for a person"


@pytest.mark.slow
def test_same_points_all_kinds(tmp_path: Path) -> None:
    """All kinds of test cells, several notebooks that share files, right and wrong and dishonest submissions."""
    wanted = compare(tmp_path, kinds(RIGHT, EXPLOIT, "", "exit = 3\n1 +"), OURS, PASSED_THROUGH)
    assert wanted["student0", "first", "passes", "score"][0] == 2
    assert wanted["student0", "first", "fails", "score"][0] == 0
    assert wanted["student0", "first", "unchanged", "comment"] == ("No response.",)
    assert wanted["student0", "second", "sees_file", "score"][0] == 1


@pytest.mark.slow
def test_same_points_nbgraders_tests(tmp_path: Path) -> None:
    """The notebooks of nbgrader's own tests: autotests, hidden tests, tasks, exploits, endless loops."""
    wanted = compare(tmp_path, nbgraders_own(), OURS, PASSED_THROUGH)
    assert len(wanted) > 150


@pytest.mark.slow
def test_same_points_example_course(tmp_path: Path) -> None:
    """nbgrader's own example course."""
    wanted = compare(tmp_path, example({"bitdiddle": "bitdiddle", "hacker": "hacker"}), OURS, PASSED_THROUGH)
    assert wanted["hacker", "problem1"][0] == 3
