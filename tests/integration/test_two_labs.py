"""A course with a second lab next to lab 1, through the real commands: neither lab affects the other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.course_copy import CourseCopy

# what the probes of a lab contain -> what grading it says; each file is broken in another way
PROBES = {
    "exits": ("raise SystemExit('done')", "amllab/checks/exits/probes.py does not import: SystemExit: done (probes.py"),
    "raises": ("raise BaseException", "amllab/checks/raises/probes.py does not import: BaseException"),
    "lacks": ("import no_such_package.x", "Install the package that has the module no_such_package, and add it to"),
    "unwritten": (None, "the lab unwritten cannot be used: there is no amllab/checks/unwritten/probes.py"),
    "half": (
        "def freeze(",
        "amllab/checks/half/probes.py does not import: SyntaxError: '(' was never closed (probes.py",
    ),
    "deeper": ("from amllab.checks.deeper import helper", "ZeroDivisionError: division by zero (helper.py, line 1)"),
    "hangs": ("import time; time.sleep(99)", "importing amllab/checks/hangs/probes.py did not end within 3 seconds"),
    "dies": ("import os; os._exit(3)", "importing amllab/checks/dies/probes.py ended the Python process"),
    "starts": (
        "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        "importing amllab/checks/starts/probes.py starts 1 threads",
    ),
    "trusts": ("", "trusts/lab.toml: probes.trusted: 'torch.autograd.gradient': torch.autograd has no gradient"),
}
# grades all labs from one process, with one fork server, so that PyTorch is loaded twice, not twice for each command
ASK = """
import contextlib, io, json, nbformat, sys
from amllab.lab import find_lab
from autograder.cli import main
from autograder.errors import LabError
from autograder.grading.worker import Worker, default_launcher
from autograder.sandbox.launcher import Launcher

cell = nbformat.v4.new_code_cell("def freeze_layers(model, n_trainable):\\n    return model")
said = {}
for name in [*sys.argv[1:], "transfer_learning"]:
    try:
        with Worker(find_lab(name), nbformat.v4.new_notebook(cells=[cell])) as worker:
            said[name] = str(len(worker.ask("freeze", backbone="net6", calls=[1])))
    except LabError as error:
        said[name] = str(error)
Launcher.__init__.__kwdefaults__["address"] = default_launcher().address
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    status = main(["grade", "--lab", "exits", "assignments/transfer-learning/transfer_learning.ipynb"])
json.dump({"said": said, "grade": [status, out.getvalue(), err.getvalue()]}, sys.stdout)
"""


def lab_folder(course: CourseCopy, name: str, probes: str | None) -> Path:
    """Write a lab that has only settings and probes."""
    folder = course.root / "amllab" / "checks" / name
    folder.mkdir()
    settings = (course.root / "amllab" / "checks" / "transfer_learning" / "lab.toml").read_text()
    if name == "trusts":
        settings = settings.replace("trusted = [", 'trusted = ["torch.autograd.gradient", ')
    budget = settings[settings.index("[accuracy]") :]  # the table of lab 1 alone
    (folder / "lab.toml").write_text(settings.replace(budget[: budget.index("\n# [deadline]")], ""))
    if probes is not None:
        (folder / "probes.py").write_text(probes)
    return folder


def python(course: CourseCopy, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the course's own Python."""
    command = [str(course.python), *arguments]
    return subprocess.run(command, cwd=course.root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> CourseCopy:
    """A course in which the probes of many labs do not import."""
    course = CourseCopy(tmp_path_factory.mktemp("broken"))
    for name, (probes, _) in PROBES.items():
        lab_folder(course, name, probes)
    (course.root / "amllab" / "checks" / "deeper" / "helper.py").write_text("1 / 0\n")
    imports = course.root / "autograder" / "sandbox" / "lab_imports.py"
    imports.write_text(imports.read_text().replace("_SECONDS = 90.0", "_SECONDS = 3.0"))
    return course


@pytest.fixture(scope="module")
def asked(broken: CourseCopy) -> dict[str, Any]:
    """Return what every lab says when it is asked, and status and output of the command that grades a broken one."""
    shutil.copytree(broken.root / "assignments" / "transfer-learning", broken.root / "assignments" / "exits")
    done = python(broken, "-c", ASK, *PROBES)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def test_probes_of_other_labs_broken(asked: dict[str, Any]) -> None:
    """Broken probes are named, with the reason, when their lab is graded; lab 1 is graded as before."""
    said = dict(asked["said"])
    assert said.pop("transfer_learning") == "1"
    assert said.keys() == PROBES.keys()
    for name, (_, expected) in PROBES.items():
        assert expected in said[name], said[name]
        assert "\n" not in said[name]


@pytest.mark.slow
def test_preload_probes_of_one_lab(broken: CourseCopy) -> None:
    """Parallel grading preloads the lab that is graded, and goes on without the probes of a broken lab."""
    script = "import os; os.environ['AMLLAB_PRELOADED_LAB'] = {!r}; import autograder.scheduling.preload; import sys; "
    script += "print(*sorted(n for n in sys.modules if n.endswith('.probes')))"
    done = python(broken, "-c", script.format("transfer-learning"))
    assert done.stdout.split() == ["amllab.checks.transfer_learning.probes"], done.stderr[-4000:]
    done = python(broken, "-c", script.format("dies"))
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr[-4000:]


def test_grade_broken_lab_one_sentence(asked: dict[str, Any]) -> None:
    """Grading a broken lab ends with one sentence and exit status 2."""
    status, out, err = asked["grade"]
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("autograder: the lab exits cannot be used: amllab/checks/exits/probes.py does not import: ")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> CourseCopy:
    """A course with a second lab, built, next to lab 1."""
    course = CourseCopy(tmp_path_factory.mktemp("second"))
    course.run(["autograder new-lab second", "autograder build second"])
    return course


SOLUTION = "solutions/second/second.ipynb"
POINTS = re.compile(r"^(\w+)\.ipynb: (\d+) of (\d+) automatic points", re.M)


@pytest.mark.slow
def test_grade_two_labs_at_once(second: CourseCopy) -> None:
    """The command grades notebooks of two labs, each by its own checks."""
    stub = "assignments/transfer-learning/transfer_learning.ipynb"
    done = python(second, "-m", "autograder", "grade", stub, SOLUTION)
    assert POINTS.findall(done.stdout) == [("transfer_learning", "0", "90"), ("second", "10", "10")], done.stderr


@pytest.mark.slow
def test_course_without_lab_1(second: CourseCopy) -> None:
    """Without lab 1, the library still has all its names, and the other labs can be graded."""
    for folder in ("amllab/checks", "autograder/checks"):
        shutil.rmtree(second.root / folder / "transfer_learning")
    for folder in ("source", "assignments", "solutions"):
        shutil.rmtree(second.root / folder / "transfer-learning")
    script = "import amllab\nfor name in amllab.__all__: getattr(amllab, name)\nimport autograder.scheduling.preload"
    done = python(second, "-c", script)
    assert done.returncode == 0, done.stderr[-4000:]
    done = python(second, "-m", "autograder", "grade", SOLUTION)
    assert POINTS.findall(done.stdout) == [("second", "10", "10")], done.stderr
    done = python(second, "-m", "autograder", "doctor")
    assert "a cell in a worker" in done.stdout
    assert "transfer" not in done.stdout + done.stderr
    done = python(second, "-m", "autograder", "grade", "--lab", "transfer-learning", SOLUTION)
    assert (done.returncode, done.stderr) == (
        2,
        "autograder: no lab 'transfer-learning'; there are: knowledge_distillation, meta_learning, second, self_supervised_learning\n",
    )
