"""A class graded in a fresh clone, and how the commands handle unusual arguments, files and terminals."""

from __future__ import annotations

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import NotebookNode

from amllab.lab import find_lab
from autograder.checks.transfer_learning.corpus import BUILD, FREEZE
from autograder.cli import main
from autograder.errors import ReferenceFailedError
from autograder.grading.reference import Reference
from autograder.notebooks.normalize import read_release
from tests.conftest import (
    ASSIGNMENT,
    NOTEBOOK,
    ROOT,
    nbgrader,
    nbgrader_command,
    new_course,
    report,
    sampled,
    scores,
    submit,
)

ODD_FILE = "\x1b]0;owned\x07\u202e.ipynb"


@dataclass
class GradedCourse:
    """A course that had no gradebook, with the exit status and the log of ``nbgrader autograde``."""

    course: Path
    status: int
    log: str


def notebook_with(release: NotebookNode, **sources: str) -> NotebookNode:
    notebook = copy.deepcopy(release)
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = sources.get(grade_id, cell.source)
    return notebook


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> GradedCourse:
    # letters, quotes and characters with a meaning in shells, patterns, URLs and logs
    course = new_course(tmp_path_factory.mktemp("course") / "Kurs \"ä é\" (1) 100% #1 & 'q' +; ^\\d| <b>~ -f")
    (course / "gradebook.db").unlink()  # not part of a repository
    submit(course, "ada", release)
    default = f'import torch\ntorch.set_default_device("cuda")\n{FREEZE}'
    submit(course, "bob", notebook_with(release, freeze_layers=default))
    made = BUILD.replace(
        "model = load_backbone(backbone)", 'with torch.device("cuda"): model = load_backbone(backbone)'
    )
    submit(course, "cay", notebook_with(release, freeze_layers=FREEZE, build_transfer_model=f"import torch\n{made}"))
    submit(course, "eve", b"{", ODD_FILE)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    return GradedCourse(course, done.returncode, done.stderr)


def test_autograde_fresh_clone(graded: GradedCourse) -> None:
    """A class without a gradebook, as in a fresh clone, is graded: the release fills the gradebook."""
    assert "Traceback" not in graded.log
    assert re.search(r"\b3 graded, 0 already graded", graded.log), graded.log  # and one student has to rename a file
    assert scores(graded.course, "ada") == {
        "check_freeze_layers": 0.0,
        "check_build_transfer_model": 0.0,
        "check_train_with_early_stopping": 0.0,
        "check_accuracy": 0.0,
        "reflection": 0.0,  # untouched: zero, as with nbgrader's own command
    }


def test_device_default_unavailable(graded: GradedCourse) -> None:
    """A default device that is unavailable in grading costs no points."""
    assert scores(graded.course, "bob")["check_freeze_layers"] == 20


def test_device_unavailable_reported(graded: GradedCourse) -> None:
    """An unavailable device is reported in the exercise that uses it, and not as missing weights."""
    found = scores(graded.course, "cay")
    assert found["check_freeze_layers"] == 20
    assert found["check_build_transfer_model"] < 20
    told = report(graded.course, "cay", "check_build_transfer_model")
    assert "torch.cuda.is_available()" in told
    assert "pretrained weights of" not in told


def test_log_escapes_file_names(graded: GradedCourse) -> None:
    """Control characters in file names do not reach the log."""
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in re.sub(r"\x1b\[\d*m\[", "[", graded.log)
    assert "owned" in graded.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("grade nope.ipynb also-not.ipynb", "nope.ipynb: No such file.*also-not.ipynb: No such file"),
        ("grade submitted/ada", "is a folder"),
        ("grade .", "is a folder"),
        ("grade /dev/null", "is not a file"),
        ("grade nbgrader_config.py/x", "Not a directory"),
        ("grade nbgrader_config.py --lab nope", "no lab 'nope'"),
        ("grade \x1b[31m.ipynb", "\N{REPLACEMENT CHARACTER}\\[31m.ipynb: No such file"),
        ("scores nope", "no assignment 'nope'"),
        (f"scores {'a' * 300}", "File name too long"),
        (f"scores {ASSIGNMENT} --csv .", "Is a directory"),
        (f"scores {ASSIGNMENT} --csv nowhere/x.csv", "nowhere/x.csv: No such file"),
        (f"scores {ASSIGNMENT} --csv /dev/full", "No space left"),
        (f"explain {ASSIGNMENT} nobody", "there are: ada, bob, cay"),
        (f"regrade {ASSIGNMENT} nobody", "there are: ada, bob, cay"),
        (f"regrade {ASSIGNMENT} ad*", "there are: ada, bob, cay"),
        ("regrade nope ada", "there are: transfer-learning"),
        (f"report {ASSIGNMENT} --output nbgrader_config.py", "File exists"),
        (f"export {ASSIGNMENT} --format csv --output .", "Is a directory"),
        (f"export {ASSIGNMENT} --format csv --output /dev/full", "No space left"),
        (f"export {ASSIGNMENT} --format canvas --roster nowhere.csv", "no roster nowhere.csv"),
        (f"export {ASSIGNMENT} --format canvas --roster submitted", "no roster submitted"),
        (f"export {ASSIGNMENT} --format moodle --roster gradebook.db", "not text in UTF-8"),
        ("export nope --format csv", "no assignment 'nope'"),
        (f"similar {ASSIGNMENT} --threshold nan", "between 0 and 1"),
        ("similar nope", "no lab 'nope'"),
        ("bundle nope", "no lab 'nope'"),
        ("audit nope", "no lab 'nope'"),
        ("build nope", "no lab 'nope'"),
        ("calibrate nope", "no lab 'nope'"),
        ("new-lab ../x", "name"),
        (f"new-lab {ASSIGNMENT}", "the name transfer_learning is already in use: .*; choose another name"),
    ],
)
def test_cli_errors(
    graded: GradedCourse,
    arguments: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands that cannot succeed end with status 2 and one plain message."""
    monkeypatch.chdir(graded.course)
    assert main(arguments.split(" ")) == 2
    said = capsys.readouterr()
    assert re.search(words, said.err, re.S), said.err
    assert said.err.startswith("autograder: ")
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["scores", "explain", "report", "export"])
@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("gradebook", ["none", pytest.param("empty", marks=pytest.mark.slow), "filled", "damaged"])
def test_cli_ungraded_names_next_command(
    command: str, submitted: bool, gradebook: str, course: Path, release: NotebookNode, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Before anything is graded, commands name the next command to run."""
    monkeypatch.chdir(course)
    book = course / "gradebook.db"
    if gradebook != "filled":
        book.unlink()
    if gradebook == "empty":
        from nbgrader.api import Gradebook

        Gradebook(f"sqlite:///{book}").close()
    if gradebook == "damaged":
        book.write_bytes(b"no database" * 1000)
    if submitted:
        submit(course, "ada", release)
    more = {"explain": ["ada"], "export": ["--format", "moodle"]}.get(command, [])
    status, said = main([command, ASSIGNMENT, *more]), capsys.readouterr().err
    if command == "export" and gradebook == "filled":
        return  # an empty table
    assert status == 2
    if gradebook == "damaged":
        assert "the gradebook cannot be read" in said
    else:
        assert f"nbgrader autograde {ASSIGNMENT}" in said
        assert (f"nbgrader zip_collect {ASSIGNMENT}" in said) != submitted or command == "export"


@pytest.mark.parametrize("name", ["AML [2026]", "what?", "a*", "{x}", "$HOME", "a\nb", "b\x1b[1m", "\udcff"])
def test_cli_refuses_glob_folder_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A course in a folder whose name nbgrader would treat as a pattern is refused."""
    course = tmp_path / name
    course.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", course)
    monkeypatch.chdir(course)
    assert main(["scores", ASSIGNMENT]) == 2
    said = capsys.readouterr().err
    assert repr(name) in said
    assert "rename that folder" in said


@pytest.mark.slow
def test_nbgrader_refuses_glob_folder_name(tmp_path: Path) -> None:
    """``nbgrader autograde`` refuses such a folder too."""
    course = tmp_path / "AML [2026]"
    course.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", course)
    done = nbgrader_command(course, "autograde", ASSIGNMENT)
    assert done.returncode == 1
    assert "'AML [2026]': rename that folder" in done.stderr


def test_cli_config_syntax_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A syntax error in the configuration is reported without a traceback."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config(\n")
    monkeypatch.chdir(tmp_path)
    assert main(["scores", ASSIGNMENT]) == 2
    assert "nbgrader_config.py cannot be read: SyntaxError" in capsys.readouterr().err


def started(graded: GradedCourse, *arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autograder", *arguments]
    return subprocess.Popen(command, cwd=graded.course, text=True, encoding="utf-8", stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def test_cli_broken_pipe(graded: GradedCourse) -> None:
    """A closed pipe, as in ``autograder explain ... | head -1``, ends the command quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    process = started(graded, "explain", ASSIGNMENT, "ada", stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 141


def test_cli_disk_full(graded: GradedCourse) -> None:
    """A full disk is reported in one line."""
    with open("/dev/full", "w") as full:
        process = started(graded, "scores", ASSIGNMENT, stdout=full)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert said == "autograder: output: No space left on device\n"


@pytest.mark.parametrize("moment", sampled(["a cell runs", "the fork server starts"], 2))
def test_cli_keyboard_interrupt(graded: GradedCourse, release: NotebookNode, tmp_path: Path, moment: str) -> None:
    """Ctrl+C ends grading at once with status 130 and no traceback."""
    # tests in the background of a shell ignore the signal, and so would the command
    signal.signal(signal.SIGINT, signal.default_int_handler)
    notebook = copy.deepcopy(release)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import time; time.sleep(600)"))
    nbformat.write(notebook, tmp_path / NOTEBOOK)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = started(graded, "grade", str(tmp_path / NOTEBOOK), stdout=subprocess.DEVNULL, env=environment)
    command = psutil.Process(process.pid)
    # the fork server is a child, and a submission's processes are children of it
    wanted = 1 if moment == "the fork server starts" else 3
    while len(command.children(recursive=True)) < wanted:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "autograder: interrupted" in said


@pytest.mark.parametrize(
    "variables",
    sampled(
        [
            {"HOME": None, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
            {"HOME": "/nonexistent"},
            {"PYTHONIOENCODING": "ascii"},
        ],
        3,
    ),
    ids=["no home and locale C", "a home that does not exist", "ASCII"],
)
def test_cli_unusual_environment(graded: GradedCourse, variables: dict[str, str | None]) -> None:
    """The command works without a home folder and in locales that are not UTF-8."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    process = started(graded, "explain", ASSIGNMENT, "ada", stdout=subprocess.PIPE, env=environment)
    told, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "check_freeze_layers" in told


def reads(folder: str, file: Path) -> None:
    """Read release or solution as grading does."""
    if folder == "assignments":
        read_release(file)
    else:
        Reference(find_lab(ASSIGNMENT), file).exchange(b"")


@pytest.mark.parametrize("folder", sampled(["solutions", "assignments"], 2))
def test_build_restores_deleted_notebook(folder: str, graded: GradedCourse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that the error message names restores a deleted release or solution."""
    file = graded.course / folder / ASSIGNMENT / NOTEBOOK
    before = nbformat.read(file, as_version=4)
    file.chmod(0o644)
    file.unlink()  # the folder stays: nbgrader's own command would skip the assignment
    with pytest.raises((FileNotFoundError, ReferenceFailedError), match=f"autograder build {ASSIGNMENT}"):
        reads(folder, file)
    monkeypatch.chdir(graded.course)
    assert main(["build", ASSIGNMENT]) == 0
    assert [c.source for c in nbformat.read(file, as_version=4).cells] == [c.source for c in before.cells]
