"""A class with an ordinary nbgrader assignment: everybody gets points, whatever the others have submitted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from autograder.errors import IsolationError
from autograder.stock.notebook_run import Runner
from tests.conftest import autograder_cli, nbgrader
from tests.helpers.stock_courses import (
    OURS,
    SEARCHED,
    Assignment,
    answer_cell,
    locked_test,
    new_stock_course,
    recorded,
    solution_cell,
    stock_notebook,
)

RIGHT = "def double(x):\n    return 2 * x"
TESTS = [locked_test("two", "assert double(2) == 4", 2), locked_test("three", "assert double(3) == 6", 2)]
SOURCE = stock_notebook(
    solution_cell("double", "### BEGIN SOLUTION\n### END SOLUTION"), *TESTS, answer_cell("text", "x")
)
QUICK = "c.Execute.timeout = 2\n"


def submission(*own: str, solution: str = RIGHT) -> NotebookNode:
    """Return a submission with further cells above the tests."""
    cells = [nbformat.v4.new_code_cell(source) for source in own]
    return stock_notebook(solution_cell("double", solution), *cells, *TESTS, answer_cell("text", "My answer"))


def edited(edit: Callable[[dict[str, Any]], object]) -> str:
    """Return the file of a right submission after an edit."""
    notebook = json.loads(nbformat.writes(submission()))
    edit(notebook)
    return json.dumps(notebook)


def with_schema(version: object) -> str:
    """Return a right submission in another version of nbgrader's metadata."""

    def edit(notebook: dict[str, Any]) -> None:
        for cell in notebook["cells"]:
            cell["metadata"]["nbgrader"]["schema_version"] = version

    return edited(edit)


TEXT = nbformat.writes(submission())
# student -> what they submit, their points in the tests, and what the log says about them
FILES: dict[str, tuple[dict[str, NotebookNode | str], float, str]] = {
    "old_schema": ({"p1.ipynb": with_schema(1)}, 4, "shape of the release"),
    "new_schema": ({"p1.ipynb": with_schema(9)}, 4, "shape of the release"),
    "odd_schema": ({"p1.ipynb": with_schema("3")}, 4, "shape of the release"),
    "truncated": ({"p1.ipynb": TEXT[: len(TEXT) // 2]}, 0, "not valid JSON"),
    "empty": ({"p1.ipynb": ""}, 0, "it is empty"),
    "list": ({"p1.ipynb": "[]"}, 0, "has no cells"),
    "bom": ({"p1.ipynb": "\ufeff" + TEXT}, 4, "shape of the release"),
    "renamed": ({"p1 (1).ipynb": TEXT}, 4, "it was graded as p1.ipynb"),
    "text_file": ({"p1.ipynb.txt": TEXT}, 4, "it was graded as p1.ipynb"),
    "points": (
        {"p1.ipynb": edited(lambda nb: nb["cells"][1]["metadata"]["nbgrader"].update(points="x"))},
        4,
        "release",
    ),
    "no_metadata": ({"p1.ipynb": edited(lambda nb: nb.update(metadata=[]))}, 4, "shape of the release"),
    "format": ({"p1.ipynb": edited(lambda nb: nb.update(nbformat=99))}, 4, "gives its format as `99`"),
    "test_removed": ({"p1.ipynb": edited(lambda nb: nb["cells"].pop(1))}, 2, "missing in the notebook: two"),
}
CODE: dict[str, tuple[NotebookNode, float, str]] = {
    "killed": (submission("import os\nos.kill(os.getpid(), 9)"), 4, "cell 2: this cell ended the Python process"),
    "exits": (submission("exit()"), 4, ""),
    "ends": (submission(solution=f"{RIGHT}\nimport os\nos._exit(0)"), 0, "cell 1: this cell ended"),
    "parent": (submission("import os\nos.kill(os.getppid(), 9)"), 4, "cell 2: this cell ended"),
    "stuck": (
        submission("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"),
        4,
        "cell 2: stopped",
    ),
    "loop": (submission("while True: pass"), 4, ""),
    "flood": (submission(solution="def double(x):\n    print('x' * 5_000_000)\n    raise ValueError"), 0, ""),
    "stderr": (
        submission(solution="import sys\ndef double(x):\n    print('x' * 5_000_000)\n    print('y', file=sys.stderr)\n    return 2 * x"),
        0,
        "",
    ),
    "memory": (submission("x = []\nwhile True: x.append(bytearray(10**8))"), 4, ""),
    "processes": (submission("import os\nfor _ in range(1000):\n    if not os.fork(): os._exit(0)"), 4, ""),
    "display": (submission("from IPython.display import display\nh = display('a', display_id='k')", "h.update('b')"), 4, ""),
    "shell_kernel": (edited(lambda nb: nb["metadata"].update(kernelspec={"name": "bash", "display_name": "b"})), 4, ""),
    "nosy": (
        submission("import os\nassert not os.path.exists({course!r}), 'sees the course'\nassert not os.listdir('/root')"),
        4,
        "",
    ),
}  # fmt: skip


def a_class(folder: Path, students: dict[str, Any], config: str = "") -> tuple[Path, str]:
    """Grade a class; return the course, and the log."""
    submitted = {
        student: {"p1.ipynb": given} if isinstance(given, NotebookNode | str) else given
        for student, given in students.items()
    }
    course = new_stock_course(folder, Assignment({"p1.ipynb": SOURCE}, submitted, QUICK + config), OURS)
    assert nbgrader(course, "generate_assignment", "ps1").returncode == 0
    return course, nbgrader(course, "autograde", "ps1").stderr


def points(course: Path, student: str) -> float:
    """Return the automatic points of a student in the tests."""
    found = recorded(course)
    scores = [found[student, "p1", cell, "score"][0] for cell in ("two", "three")]
    assert None not in scores
    return sum(scores)  # type: ignore[arg-type]


def check_class(folder: Path, files: list[str], code: list[str]) -> None:
    """Grade these students with honest ones before and after them, and check everybody's points and log."""
    students: dict[str, Any] = {"a_honest": submission(), "z_honest": submission()}
    students |= {name: FILES[name][0] for name in files} | {name: CODE[name][0] for name in code}
    course, log = a_class(folder, students)
    wanted = {name: FILES[name][1] for name in files} | {name: CODE[name][1] for name in code}
    assert {name: points(course, name) for name in wanted} == wanted, log
    assert points(course, "a_honest") == points(course, "z_honest") == 4
    for name, said in [(n, FILES[n][2]) for n in files] + [(n, CODE[n][2]) for n in code]:
        lines = [line for line in log.splitlines() if f"{name}: " in line]
        assert said == "" or any(said in line for line in lines), (name, said, lines)
    assert "0 not graded" in log
    assert "ps1 is no lab: its tests run in the process of the submission" in log


def test_class_sample(tmp_path: Path) -> None:
    """A truncated file, old metadata that ends stock nbgrader's run for everybody, and a kernel that dies."""
    check_class(tmp_path, ["truncated", "old_schema", "renamed", "test_removed"], ["killed", "shell_kernel"])


@pytest.mark.slow
def test_class_files(tmp_path: Path) -> None:
    """Files of all kinds."""
    check_class(tmp_path, list(FILES), [])


@pytest.mark.slow
def test_class_code(tmp_path: Path) -> None:
    """Code that ends the process, hangs, floods, takes what it can get, or looks around."""
    CODE["nosy"][0].cells[1].source = CODE["nosy"][0].cells[1].source.replace("{course!r}", repr(str(tmp_path)))
    check_class(tmp_path, [], list(CODE))


@pytest.mark.slow
def test_links_and_unknown_names_are_left_out(tmp_path: Path) -> None:
    """A link is not followed, a file that nbgrader cannot place is named, and the others are graded."""
    course = new_stock_course(
        tmp_path,
        Assignment(
            {"p1.ipynb": SOURCE, "p2.ipynb": stock_notebook(locked_test("one", "assert True"))},
            {"ada": {"p1.ipynb": submission()}, "bob": {"other.ipynb": submission()}, "eve": {}},
        ),
        OURS,
    )
    (course / "submitted" / "eve" / "ps1").mkdir(parents=True)
    (course / "submitted" / "eve" / "ps1" / "p1.ipynb").symlink_to(course / "source" / "ps1" / "p1.ipynb")
    nbgrader(course, "generate_assignment", "ps1")
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    assert "Look at eve: not graded, it contains a link" in done.stderr
    assert "Look at bob: not graded, no file in its folder is called p1.ipynb, p2.ipynb" in done.stderr
    found = recorded(course)
    assert found["ada", "p1", "two", "score"][0] == 2
    assert found["ada", "p2", "one", "score"][0] == 0, "a notebook that was not submitted"
    assert {place[0] for place in found} == {"ada"}
    text = autograder_cli(course, "scores", "ps1").stdout
    assert "to grade manually" in text.split("ada")[1].split("\n")[0]
    assert "fault" not in text


@pytest.mark.slow
def test_graded_again(tmp_path: Path) -> None:
    """What is submitted again is graded again, what was interrupted too, and what stock nbgrader has graded stays."""
    course, _ = a_class(tmp_path, {"ada": submission(), "bob": submission(solution="")})
    path = course / "submitted" / "bob" / "ps1" / "p1.ipynb"
    nbformat.write(submission(), path)
    log = nbgrader(course, "autograde", "ps1").stderr
    assert "bob: the submission has changed since it was graded; it is graded again" in log
    assert "2 submissions: 1 graded, 1 already graded, 0 not graded" in log
    assert points(course, "bob") == 4
    graded = course / "autograded" / "bob" / "ps1" / "p1.ipynb"
    notebook = nbformat.read(graded, as_version=4)
    for change, said in (({"amllab": {"stock": {"finished": False}}}, "bob: grading was interrupted"), ({}, "")):
        notebook.metadata = nbformat.from_dict({**notebook.metadata, "amllab": {}, **change})
        graded.chmod(0o644)
        nbformat.write(notebook, graded)
        log = nbgrader(course, "autograde", "ps1").stderr
        assert said in log
        assert ("2 already graded" in log) is not bool(said)


ECHO = """
from ipykernel.kernelbase import Kernel


class Echo(Kernel):
    implementation = implementation_version = language = banner = "echo"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False, **more):
        if "boom" in code:
            self.send_response(self.iopub_socket, "stream", {"name": "stderr", "text": code})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}


if __name__ == "__main__":
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(kernel_class=Echo)
"""


def echo_course(folder: Path, *, installed: bool) -> Path:
    """Create a course whose second notebook is in another language."""
    kernels = folder / "jupyter" / "kernels" / "echo"
    kernels.mkdir(parents=True)
    (kernels / "echo_kernel.py").write_text(ECHO)
    argv = [sys.executable, str(kernels / "echo_kernel.py"), "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Echo", "language": "echo"}
    if installed:
        (kernels / "kernel.json").write_text(json.dumps(spec))
    other = stock_notebook(locked_test("quiet", "x"), locked_test("loud", "boom"), kernel="echo", language="echo")
    files = {"p1.ipynb": SOURCE, "p2.ipynb": other}
    stubs = "c.ClearSolutions.code_stub = {'python': '#', 'echo': '#'}\n"
    submitted = {"ada": {"p1.ipynb": submission(), "p2.ipynb": other}}
    return new_stock_course(folder / "course", Assignment(files, submitted, QUICK + stubs), OURS)


@pytest.mark.slow
def test_other_kernel_is_passed_through(tmp_path: Path) -> None:
    """A notebook in another language is run by nbgrader itself, and the log says so."""
    course = echo_course(tmp_path, installed=True)
    found = {"JUPYTER_PATH": str(tmp_path / "jupyter")}
    assert nbgrader(course, "generate_assignment", "ps1", **found).returncode == 0
    done = nbgrader(course, "autograde", "ps1", **found)
    assert done.returncode == 0, done.stderr
    assert "p2.ipynb is not isolated: its kernel is Echo. nbgrader itself runs it, with all your rights" in done.stderr
    assert "p1.ipynb is not isolated" not in done.stderr
    scores = {place[2]: value[0] for place, value in recorded(course).items() if place[-1] == "score"}
    assert scores == {"two": 2, "three": 2, "text": None, "quiet": 1, "loud": 0}
    assert "it ran without isolation" in autograder_cli(course, "scores", "ps1").stdout


@pytest.mark.slow
def test_kernel_that_is_not_installed(tmp_path: Path) -> None:
    """A missing kernel ends the run before anybody is graded, and the message names it."""
    course = echo_course(tmp_path, installed=False)
    assert nbgrader(course, "generate_assignment", "ps1").returncode == 0
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    assert (
        "Nothing was graded: p2.ipynb needs the kernel 'echo', which is not installed here; there are: " in done.stderr
    )
    assert not (course / "autograded" / "ada").exists()


@pytest.mark.slow
def test_misspelled_lab(tmp_path: Path, release: NotebookNode) -> None:
    """A lab under another name is refused, with the names of the labs."""
    course = new_stock_course(
        tmp_path, Assignment({"p1.ipynb": release}, {"ada": {"p1.ipynb": release}}), OURS, "transfer-lerning"
    )
    done = nbgrader(course, "autograde", "transfer-lerning")
    assert done.returncode == 1
    assert "Nothing was graded: no lab 'transfer-lerning'; there are: " in done.stderr
    assert "transfer_learning" in done.stderr
    assert not (course / "autograded").exists()


@pytest.mark.slow
def test_not_released(tmp_path: Path) -> None:
    """Without a release in the gradebook, the message names the command."""
    course = new_stock_course(tmp_path, Assignment({"p1.ipynb": SOURCE}, {"ada": {"p1.ipynb": submission()}}), OURS)
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 1
    assert "run 'nbgrader generate_assignment ps1 --force'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("setting", [None, "isolated", "nbgrader"])
def test_machine_that_does_not_isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None) -> None:
    """By default nbgrader itself runs the notebooks then; with 'isolated', nothing is graded."""

    def refuse(runner: Runner) -> None:
        raise IsolationError("This machine does not isolate submissions (pid namespace: refused). More about it.")

    monkeypatch.setattr(Runner, "try_out", refuse)
    course, log = a_class(tmp_path, {"ada": submission(), "bob": submission()}, f"c.GradeChecks.stock = {setting!r}\n")
    assert ("(pid namespace: refused)" in log) is (setting != "nbgrader")
    if setting == "isolated":
        assert "Grading stopped at ada" in log
        assert not (course / "autograded" / "ada" / "ps1").exists()
        assert recorded(course).get(("bob", "p1")) is None
    else:
        assert "nbgrader itself runs the notebooks, with all your rights" in log
        assert points(course, "ada") == points(course, "bob") == 4
        assert "it ran without isolation" in autograder_cli(course, "scores", "ps1").stdout


@pytest.mark.slow
def test_own_steps_and_late_penalty_of_the_course(tmp_path: Path) -> None:
    """Steps, hooks and the late plugin that a course has configured stay in force."""
    (tmp_path / "own.py").write_text(
        "from nbgrader.plugins import BasePlugin\n"
        "from nbgrader.preprocessors import NbGraderPreprocessor\n"
        "class Late(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        return 1.5\n"
        "class Own(NbGraderPreprocessor):\n"
        "    def preprocess(self, nb, resources):\n"
        "        self.log.warning('own step ran')\n"
        "        return nb, resources\n"
        "def hook(**names):\n"
        "    print('hook ran', names['student'])\n"
    )
    before = (
        "import sys; sys.path.insert(0, '.')\nfrom autograder import configure\nimport nbgrader.preprocessors as p\nimport own\n"
        "c = get_config()\nc.AssignLatePenalties.plugin_class = 'own.Late'\n"
        "c.Autograde.autograde_preprocessors = [p.Execute, own.Own, p.LimitOutput, p.SaveAutoGrades, p.AssignLatePenalties]\n"
        "c.Autograde.pre_convert_hook = 'own.hook'\nconfigure(c)\n"
    )
    course = new_stock_course(
        tmp_path,
        Assignment(
            {"p1.ipynb": SOURCE}, {"ada": {"p1.ipynb": submission(), "timestamp.txt": "2026-01-02 10:00:00 UTC"}}
        ),
        before,
    )
    nbgrader(course, "db", "assignment", "add", "ps1", "--duedate", "2026-01-01 10:00:00 UTC")
    assert nbgrader(course, "generate_assignment", "ps1").returncode == 0
    done = nbgrader(course, "autograde", "ps1")
    assert done.returncode == 0, done.stderr
    assert "own step ran" in done.stderr
    assert "hook ran" in done.stdout
    assert "ada: p1 ran isolated" in done.stderr
    assert recorded(course)["ada", "p1"] == (4, 5, 1.5)


@pytest.mark.slow
def test_no_execute(tmp_path: Path) -> None:
    """``--no-execute`` keeps the outputs of the submission, cleaned."""
    own = submission()
    own.cells[1].outputs = [nbformat.v4.new_output("display_data", data={"text/html": "<script>1</script><b>kept</b>"})]
    course, _ = a_class(tmp_path, {"ada": own})
    done = nbgrader(course, "autograde", "ps1", "--no-execute", "--force")
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(course / "autograded" / "ada" / "ps1" / "p1.ipynb", as_version=4)
    assert "<b>kept</b>" in str(notebook.cells[1].outputs)
    assert "script" not in str(notebook.cells[1].outputs)


@pytest.mark.slow
def test_other_commands(tmp_path: Path) -> None:
    """Feedback, report, exports and the commands for single submissions work, or say what they do not do."""
    course, _ = a_class(tmp_path, {"ada": submission(), "bob": {"p1.ipynb": "{"}})
    assert nbgrader(course, "generate_feedback", "ps1").returncode == 0
    page = (course / "feedback" / "ada" / "ps1" / "p1.html").read_text()
    assert "double" in page
    explained = autograder_cli(course, "explain", "ps1", "bob").stdout
    assert "It is no lab: its tests are cells of the notebook" in explained
    assert "Fixed on arrival\n  - p1.ipynb is not a notebook" in explained
    assert autograder_cli(course, "report", "ps1").returncode == 0
    report = (course / "reports" / "ps1.html").read_text()
    assert "Code of a submission can change what they find" in report.replace("\n", " ")
    assert "older version · " not in report
    for form in ("csv", "canvas", "moodle", "canvas-feedback", "moodle-feedback"):
        assert autograder_cli(course, "export", "ps1", "--format", form).returncode == 0, form
    for form in ("gradescope-results", "gradescope-autograder"):
        done = autograder_cli(course, "export", "ps1", "--format", form)
        assert done.returncode == 2
        assert f"The format {form} needs the checks of a lab" in done.stderr
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.find_grade("text", "p1", "ps1", "ada").manual_score = 1
        gradebook.db.commit()
    again = autograder_cli(course, "regrade", "ps1", "ada", PATH=SEARCHED)
    assert again.returncode == 0, again.stderr
    assert "Manual scores were kept" in again.stdout
    assert nbgrader(course, "generate_assignment", "ps1", "--force").returncode == 0
    changed = nbformat.read(course / "source" / "ps1" / "p1.ipynb", as_version=4)
    changed.cells.append(locked_test("four", "assert double(4) == 8"))
    nbformat.write(changed, course / "source" / "ps1" / "p1.ipynb")
    refused = nbgrader(course, "generate_assignment", "ps1", "--force")
    assert refused.returncode == 1
    assert "four" in refused.stderr
    assert "'nbgrader db assignment remove ps1 --force'" in refused.stderr
    assert "autograder build" not in refused.stderr
    assert (course / "release" / "ps1" / "p1.ipynb").is_file()
