"""What students actually submit, with the real nbgrader command line: everyone is graded and told why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

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
from tests.helpers import mini_lab
from tests.helpers.mini_lab import FULL, PLAIN, RIGHT, ZERO, submission
from tests.helpers.notebooks import notebook_of

LIMITS = "\nc.GradeChecks.limits = {'cell_seconds': 5, 'answer_seconds': 45}\n"
STANDARDISE, RESCALE = PLAIN.values()
LAB_1 = {
    "check_freeze_layers": 20,
    "check_build_transfer_model": 20,
    "check_train_with_early_stopping": 30,
    "check_accuracy": 20,
}
# keeps a function that a check lends to one exercise, and uses it in another
LENT = Solution(
    "lent",
    sources={
        "freeze_layers": "GIVEN = {}\n"
        "def freeze_layers(model, n_trainable):\n"
        "    return GIVEN[len(list(model.parameters()))](model, n_trainable)",
        "build_transfer_model": "def build_transfer_model(backbone, num_classes, n_trainable):\n"
        "    model = load_backbone(backbone)\n"
        "    model.reset_classifier(num_classes)\n"
        "    GIVEN[len(list(model.parameters()))] = freeze_layers\n"
        "    return freeze_layers(model, n_trainable)",
        "train_with_early_stopping": "",
    },
)
SECOND_ONLY = FULL | {"check_standardise": 0}

USED_AGAIN = (
    "Tensor = check = 3",
    "def standardise(values):\n    return None",
    "import torch\ntorch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)\ntorch.equal = None",
)
ENDINGS = ("import threading; threading.Thread(target=exit).start()", "exit()")


def with_first(source: str) -> Solution:
    """Return a solution whose first exercise has this source."""
    return Solution("x", PLAIN | {"standardise": source})


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, mini_release: NotebookNode) -> tuple[Path, str]:
    course = new_course(tmp_path_factory.mktemp("course"), mini_lab.ASSIGNMENT)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(LIMITS)

    def hand_in(student: str, variant: Solution = RIGHT, extra: str = "", behind: tuple[str, ...] = ()) -> None:
        notebook = submission(variant, mini_release)
        notebook.cells += [nbformat.v4.new_code_cell(source) for source in behind]
        if extra:
            notebook.cells.insert(2, nbformat.v4.new_code_cell(extra))
        submit(course, student, notebook)

    submit(course, "empty_folder", None)
    submit(course, "empty_file", b"")
    submit(course, "a_letter", b"Dear TA, my computer broke.")
    submit(course, "binary", bytes(range(256)) * 9)
    submit(course, "renamed_file", submission(RIGHT, mini_release), "mini_lab (1).ipynb")
    hand_in("syntax_error", with_first("def standardise(values:\n    return values"))
    hand_in("renamed_function", with_first(STANDARDISE.replace("def standardise", "def standard")))
    hand_in("wrong_signature", with_first(STANDARDISE.replace("(values)", "(values, scale)")))
    hand_in("unrelated_error", extra="raise RuntimeError('an experiment went wrong')")
    hand_in("noisy", extra="import sys, warnings\nwarnings.warn('careful')\nprint('x' * 10**6, file=sys.stderr)")
    hand_in("hanging_cell", extra="import time\nwhile True:\n    time.sleep(1)")
    hand_in("one_cell", Solution("x", {"standardise": STANDARDISE + RESCALE, "rescale": ""}))
    hand_in("missing_package", with_first(f"import lightning\n{STANDARDISE}"))
    hand_in("names_used_again", behind=(*USED_AGAIN, *ENDINGS))
    hand_in("zz_last")
    done = nbgrader(course, "autograde", mini_lab.ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    feedback = nbgrader(course, "generate_feedback", mini_lab.ASSIGNMENT)
    assert feedback.returncode == 0, feedback.stderr[-4000:]
    return course, done.stderr


@pytest.mark.parametrize(
    ("student", "points"),
    [
        ("empty_folder", ZERO),
        ("empty_file", ZERO),
        ("a_letter", ZERO),
        ("binary", ZERO),
        ("renamed_file", FULL),
        ("syntax_error", SECOND_ONLY),
        ("renamed_function", SECOND_ONLY),
        ("wrong_signature", SECOND_ONLY),
        ("unrelated_error", FULL),
        ("noisy", FULL),
        ("hanging_cell", FULL),
        ("one_cell", FULL),
        ("missing_package", SECOND_ONLY),
        ("names_used_again", FULL),
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
        ("empty_folder", "has no notebook mini_lab.ipynb"),
        ("a_letter", "not valid JSON"),
        ("binary", "not text"),
        ("renamed_file", "mini_lab (1).ipynb"),
    ],
)
def test_notes_on_top(graded: tuple[Path, str], student: str, says: str) -> None:
    """The reason why a file was unreadable is at the top of the graded notebook."""
    assert says in autograded(graded[0], student).cells[0].source


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ("renamed_function", "no function named `standardise`"),
        ("syntax_error", "because its cell failed with SyntaxError: '(' was never closed (line 1: def standardise"),
        (
            "missing_package",
            "because its cell failed with ModuleNotFoundError: No module named 'lightning' (line 1: import",
        ),
        ("wrong_signature", "missing 1 required positional argument"),
    ],
)
def test_report_names_error(graded: tuple[Path, str], student: str, says: str) -> None:
    """The report of a check names the error."""
    assert says in report(graded[0], student, "check_standardise")


def test_feedback_shows_reports(graded: tuple[Path, str]) -> None:
    """The feedback pages show the reports of the checks."""
    pages = list(graded[0].glob("feedback/*/*/*.html"))
    assert len(pages) == 15
    (page,) = graded[0].glob("feedback/wrong_signature/*/*.html")
    html = page.read_text()
    assert "Each column has mean 0 and standard deviation 1" in html
    assert "missing 1 required positional argument" in html


def test_autograde_twice_same_scores(graded: tuple[Path, str]) -> None:
    """Grading twice gives the same scores."""
    before = {s: scores(graded[0], s) for s in ("zz_last", "binary")}
    assert nbgrader(graded[0], "autograde", mini_lab.ASSIGNMENT).returncode == 0
    assert {s: scores(graded[0], s) for s in before} == before


def test_grade_command_single_notebook(tmp_path: Path) -> None:
    """``autograder grade`` grades a single file and prints JSON."""
    (tmp_path / NOTEBOOK).write_text("Dear TA")
    done = autograder_cli(ROOT, "grade", str(tmp_path / NOTEBOOK), "--json", "--seed", "7")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert (got["score"], got["max_score"], got["seed"]) == (0, 90, 7)
    assert "not valid JSON" in got["notes"][0]
    assert {check["cell"] for check in got["checks"]} == set(LAB_1)


def test_points_lab_1(tmp_path: Path, release: NotebookNode) -> None:
    """In lab 1, correct functions get full marks."""
    course = new_course(tmp_path)
    submit(course, "plain", notebook_of(Solution("plain"), release))
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert scores(course, "plain") == LAB_1 | {"reflection": None}


@pytest.mark.slow
def test_lent_function_solves_no_other_exercise(tmp_path: Path, release: NotebookNode) -> None:
    """A function that a check lends for one exercise is of no use in another one."""
    course = new_course(tmp_path)
    submit(course, "lent", notebook_of(LENT, release))
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert scores(course, "lent")["check_freeze_layers"] == 0


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
