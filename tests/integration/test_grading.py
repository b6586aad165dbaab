"""What students actually submit, with the real nbgrader command line: everyone is graded and told why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.checks.transfer_learning.corpus import BUILD, FREEZE, TRAIN
from autograder.labs.corpus import Solution
from tests.conftest import (
    ASSIGNMENT,
    NOTEBOOK,
    ROOT,
    autograded,
    autograder_cli,
    nbgrader,
    new_course,
    report,
    scores,
    submit,
)
from tests.helpers.notebooks import notebook_of

FULL = {
    "check_freeze_layers": 20,
    "check_build_transfer_model": 20,
    "check_train_with_early_stopping": 30,
    "check_accuracy": 20,
}
PLAIN = Solution("plain")
ZERO = dict.fromkeys(FULL, 0)
LIMITS = "\nc.GradeChecks.limits = {'cell_seconds': 6, 'answer_seconds': 45}\n"
# submissions that are not about training leave out the third exercise, which is slow
UNTRAINED = {"train_with_early_stopping": ""}
SHORT = Solution("short", sources=UNTRAINED)
WITHOUT_TRAINING = FULL | {"check_train_with_early_stopping": 0, "check_accuracy": 0}


USED_AGAIN = (
    "load_backbone = layers_of = 3",
    "def freeze_layers(model, n_trainable):\n    return None",
    "import torch\ntorch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)\ntorch.equal = None",
)
FAILING = "raise RuntimeError('an experiment went wrong')"
NOISY = "import sys, warnings\nwarnings.warn('careful')\nprint('x' * 10**6, file=sys.stderr)"
HANGING = "import time\nwhile True:\n    time.sleep(1)"
ENDINGS = ("import threading; threading.Thread(target=exit).start()", "exit()")


def wrong(freeze: str, train: str) -> Solution:
    return Solution("x", sources={"freeze_layers": freeze, "train_with_early_stopping": train})


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> tuple[Path, str]:
    course = new_course(tmp_path_factory.mktemp("course"))
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(LIMITS)

    def hand_in(student: str, variant: Solution, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> None:
        notebook = notebook_of(variant, release)
        notebook.cells += map(nbformat.v4.new_code_cell, last)
        notebook.cells[2:2] = map(nbformat.v4.new_code_cell, first)
        submit(course, student, notebook)

    submit(course, "empty_folder", None)
    submit(course, "empty_file", b"")
    submit(course, "a_letter", b"Dear TA, my computer broke.")
    submit(course, "binary", bytes(range(256)) * 9)
    one_cell = {"freeze_layers": FREEZE + BUILD, "build_transfer_model": "", **UNTRAINED}
    submit(course, "renamed_file", notebook_of(Solution("x", sources=one_cell), release), "transfer_learning (1).ipynb")
    # the checks of an exercise do not depend on the others: each of these has two mistakes
    unclosed, without = "def freeze_layers(model, n_trainable:\n    return model", f"import lightning\n{TRAIN}"
    hand_in("failing_cells", wrong(unclosed, without))
    other, renamed = FREEZE.replace("(model, n_trainable)", "(model)"), TRAIN.replace("def train_with", "def with")
    hand_in("failing_functions", wrong(other, renamed))
    hand_in("unrelated_cells", SHORT, first=(FAILING, NOISY, HANGING))
    hand_in("names_used_again", SHORT, last=(*USED_AGAIN, *ENDINGS))
    hand_in("zz_last", PLAIN)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    feedback = nbgrader(course, "generate_feedback", ASSIGNMENT)
    assert feedback.returncode == 0, feedback.stderr[-4000:]
    return course, done.stderr


@pytest.mark.parametrize(
    ("student", "points"),
    [
        ("empty_folder", ZERO),
        ("empty_file", ZERO),
        ("a_letter", ZERO),
        ("binary", ZERO),
        ("renamed_file", WITHOUT_TRAINING),
        ("failing_cells", WITHOUT_TRAINING | {"check_freeze_layers": 0}),
        ("failing_functions", WITHOUT_TRAINING | {"check_freeze_layers": 0}),
        ("unrelated_cells", WITHOUT_TRAINING),
        ("names_used_again", WITHOUT_TRAINING),
        ("zz_last", FULL),
    ],
)
def test_points(graded: tuple[Path, str], student: str, points: dict[str, float]) -> None:
    """Each submission gets the points of its working functions."""
    got = scores(graded[0], student)
    assert {cell: got[cell] for cell in FULL} == points


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ("empty_folder", "has no notebook transfer_learning.ipynb"),
        ("a_letter", "not valid JSON"),
        ("binary", "not text"),
        ("renamed_file", "transfer_learning (1).ipynb"),
    ],
)
def test_notes_on_top(graded: tuple[Path, str], student: str, says: str) -> None:
    """The reason why a file was unreadable is at the top of the graded notebook."""
    assert says in autograded(graded[0], student).cells[0].source


@pytest.mark.parametrize(
    ("student", "cell", "says"),
    [
        (
            "failing_cells",
            "freeze_layers",
            "because its cell failed with SyntaxError: '(' was never closed (line 1: def freeze_layers",
        ),
        (
            "failing_cells",
            "train_with_early_stopping",
            "because its cell failed with ModuleNotFoundError: No module named 'lightning' (line 1: import",
        ),
        ("failing_functions", "freeze_layers", "takes 1 positional argument"),
        ("failing_functions", "train_with_early_stopping", "no function named `train_with_early_stopping`"),
    ],
)
def test_report_names_error(graded: tuple[Path, str], student: str, cell: str, says: str) -> None:
    """The report of a check names the error."""
    assert says in report(graded[0], student, f"check_{cell}")


def test_feedback_shows_reports(graded: tuple[Path, str]) -> None:
    """The feedback pages show the reports of the checks."""
    pages = list(graded[0].glob("feedback/*/*/*.html"))
    assert len(pages) == 10
    (page,) = graded[0].glob("feedback/failing_functions/*/*.html")
    html = page.read_text()
    assert "freeze_layers</code> works in place" in html
    assert "takes 1 positional argument" in html


def test_autograde_twice_same_scores(graded: tuple[Path, str]) -> None:
    """Grading twice gives the same scores."""
    before = {s: scores(graded[0], s) for s in ("zz_last", "binary")}
    assert nbgrader(graded[0], "autograde", ASSIGNMENT).returncode == 0
    assert {s: scores(graded[0], s) for s in before} == before


def test_grade_command_single_notebook(tmp_path: Path) -> None:
    """``autograder grade`` grades a single file and prints JSON."""
    (tmp_path / NOTEBOOK).write_text("Dear TA")
    done = autograder_cli(ROOT, "grade", str(tmp_path / NOTEBOOK), "--json", "--seed", "7")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert (got["score"], got["max_score"], got["seed"]) == (0, 90, 7)
    assert "not valid JSON" in got["notes"][0]
    assert {check["cell"] for check in got["checks"]} == set(FULL)


@pytest.mark.slow
def test_checks_run_by_pytest() -> None:
    """The checks can be run by pytest against a submission."""
    command = [sys.executable, "-m", "pytest", "autograder/checks/transfer_learning", "--check-seed", "11", "-q"]
    solution = f"solutions/{ASSIGNMENT}/{NOTEBOOK}"
    untouched = f"assignments/{ASSIGNMENT}/{NOTEBOOK}"
    good = subprocess.run(
        [*command, "--submission", solution, "-k", "freeze"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    bad = subprocess.run(
        [*command, "--submission", untouched, "-k", "freeze"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (good.returncode, bad.returncode) == (0, 1), good.stdout + bad.stdout
    assert "passed" in good.stdout
    assert "passed" not in bad.stdout


def test_exiting_cells_named_in_log(graded: tuple[Path, str]) -> None:
    """Cells that end the process are named in one line of the log."""
    notebook = autograded(graded[0], "names_used_again")
    numbers = [i + 1 for i, cell in enumerate(notebook.cells) if cell.source in ENDINGS]
    line = f"Look at names_used_again: cells {numbers[0]}, {numbers[1]}: this cell ended the Python process"
    assert graded[1].count(line) == 1
