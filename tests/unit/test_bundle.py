"""The bundle for students: complete, reproducible, and without anything that students must not see."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

import amllab.lab
from amllab.lab import PACKAGE, Lab, all_labs, find_lab
from autograder.authoring import bundle as bundles
from autograder.authoring import leak_check
from autograder.authoring.build import notebook_of
from autograder.authoring.bundle import build_wheel, write_zip
from autograder.authoring.leak_check import find_leaks, read_secrets
from autograder.authoring.new_lab import new_lab
from autograder.cli import main
from autograder.course import Course
from autograder.labs import locations
from autograder.labs.locations import HIDDEN_CHECKS
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, sampled

FOLDER = ASSIGNMENT


@pytest.fixture(scope="module")
def course() -> Course:
    return Course.find(ROOT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a separate course, as the command builds it."""
    course = course_in(tmp_path_factory.mktemp("course"))
    with contextlib.chdir(course), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["bundle", ASSIGNMENT]) == 0
    assert Path(printed.getvalue().strip()) == Path("dist", f"{ASSIGNMENT}-student.zip")
    return course / printed.getvalue().strip()


def course_in(folder: Path) -> Path:
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    for part in ("source", "assignments", "solutions"):
        shutil.copytree(ROOT / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def members(bundle: Path) -> dict[str, bytes]:
    return contents(bundle)


@pytest.fixture(scope="module")
def wheel(members: dict[str, bytes]) -> dict[str, bytes]:
    (name,) = [name for name in members if name.endswith(".whl")]
    return contents(io.BytesIO(members[name]))


def contents(archive: Path | io.BytesIO) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_bundle_contents(members: dict[str, bytes]) -> None:
    """The bundle contains the notebook, the wheel of the library and one page of instructions."""
    (wheel,) = [name for name in members if name.endswith(".whl")]
    assert set(members) == {f"{FOLDER}/{NOTEBOOK}", f"{FOLDER}/START.md", wheel}
    assert members[f"{FOLDER}/{NOTEBOOK}"] == (ROOT / "assignments" / ASSIGNMENT / NOTEBOOK).read_bytes()
    start = members[f"{FOLDER}/START.md"].decode()
    assert f"pip install ./{Path(wheel).name} jupyterlab\n.venv/bin/jupyter lab {NOTEBOOK}" in start
    assert "$" not in start
    assert len(start.splitlines()) < 60  # one page


@pytest.mark.parametrize("deadline", [{}, {"deadline": {"due": datetime.fromisoformat("2026-12-18T23:59:00+01:00")}}])
def test_start_page_names_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: dict[str, Any]) -> None:
    """The first page names the deadline with its time zone, if the lab has one."""
    lab = find_lab(ASSIGNMENT)
    settings = {name: value for name, value in lab.settings.items() if name != "deadline"} | deadline
    monkeypatch.setattr(bundles, "find_lab", lambda name: dataclasses.replace(lab, settings=settings))
    (wheel := tmp_path / "amllab-0.1.0-py3-none-any.whl").touch()
    monkeypatch.setattr(bundles, "build_wheel", lambda *arguments: wheel)
    monkeypatch.setattr(bundles, "find_leaks", lambda *arguments: [])
    built = contents(bundles.bundle(Course.find(course_in(tmp_path)), ASSIGNMENT))
    start = built[f"{FOLDER}/START.md"].decode()
    assert ("The deadline is **Friday, 18 December 2026, 23:59 (UTC+01:00)**." in start) == bool(deadline)
    assert "$" not in start


def test_wheel_contains_library_only(wheel: dict[str, bytes]) -> None:
    """The wheel contains the whole library, with the checks of one lab, and nothing else."""
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"amllab", "amllab-0.1.0.dist-info"}
    sources = {f"amllab/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.py")}
    others = tuple(f"amllab/checks/{name}/" for name in all_labs() if name != "transfer_learning")
    assert {name for name in wheel if name.endswith(".py")} == {n for n in sources if not n.startswith(others)}
    files = ("weights/net12.safetensors", "checks/transfer_learning/lab.toml", "py.typed")
    for name in (*files, *(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.j2"))):
        assert wheel[f"amllab/{name}"] == (PACKAGE / name).read_bytes()
    release = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK
    assert wheel[f"amllab/releases/{ASSIGNMENT}/{NOTEBOOK}"] == release.read_bytes()
    metadata = wheel["amllab-0.1.0.dist-info/METADATA"].decode()
    assert "Requires-Dist: torch" in metadata
    assert "Author: The maintainers" in metadata
    assert "Requires-Dist: jinja2" in metadata
    assert not any(word in metadata for word in ("Requires-Dist: nbgrader", "autograder ", "Provides-Extra"))
    points = wheel["amllab-0.1.0.dist-info/entry_points.txt"].decode().split()
    assert points == ["[jupyter_client.kernel_provisioners]", "amllab-warm", "=", "amllab.kernels:WarmProvisioner"]


@pytest.mark.slow
def test_bundle_of_several_labs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One zip has the notebooks of the named labs and one wheel with their checks, and nothing of the others."""
    (tmp_path / "course").mkdir()
    with contextlib.chdir(course_in(tmp_path / "course")):
        assert main(["bundle", "meta_learning", ASSIGNMENT, "meta-learning"]) == 0
        assert capsys.readouterr().out == "dist/labs-student.zip\n"
        built = contents(Path("dist", "labs-student.zip"))
    (wheel,) = [name for name in built if name.endswith(".whl")]
    assert set(built) == {"labs/meta_learning.ipynb", f"labs/{NOTEBOOK}", "labs/START.md", wheel}
    start = built["labs/START.md"].decode()
    assert "# Meta-learning, Transfer learning: start here" in start
    assert f"Submit `meta_learning.ipynb`, `{NOTEBOOK}`" in start
    assert "$" not in start
    with zipfile.ZipFile(io.BytesIO(built[wheel])) as archive:
        archive.extractall(tmp_path / "site")
    look = "import sys; sys.path.insert(0, sys.argv[1]); from amllab import lab; print(*lab.all_labs(), lab.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", look, tmp_path / "site"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[:-1] == ["meta_learning", "transfer_learning"]
    assert str(tmp_path) in done.stdout
    assert main(["bundle", ASSIGNMENT, "no-such-lab"]) == 2
    assert "no lab 'no-such-lab'" in capsys.readouterr().err


def test_bundle_of_several_labs_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret of any lab, and two notebooks of the same name, end the command; an older zip does not stay."""
    with contextlib.chdir(course_in(tmp_path)):
        Path("dist").mkdir()
        Path("dist", "labs-student.zip").touch()
        (tmp_path / "amllab-0.1.0-py3-none-any.whl").touch()
        monkeypatch.setattr(bundles, "build_wheel", lambda *arguments: tmp_path / "amllab-0.1.0-py3-none-any.whl")
        release = Path("assignments", "meta-learning", "meta_learning.ipynb")
        notebook = nbformat.read(release, as_version=4)
        solved = nbformat.read(Path("solutions", ASSIGNMENT, NOTEBOOK), as_version=4)
        (cell,) = [c for c in solved.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "freeze_layers"]
        notebook.cells.append(cell)
        nbformat.write(notebook, release)
        assert main(["bundle", ASSIGNMENT, "meta-learning"]) == 2
        assert "no bundle was written, because it would reveal:" in capsys.readouterr().err
        assert not Path("dist", "labs-student.zip").exists()
        first, second = find_lab(ASSIGNMENT), find_lab("meta-learning")
        same = {first.assignment: first, second.assignment: dataclasses.replace(second, notebook=first.notebook)}
        (release.parent / NOTEBOOK).touch()
        monkeypatch.setattr(bundles, "find_lab", lambda name: same[name])
        assert main(["bundle", ASSIGNMENT, "meta-learning"]) == 2
        assert f"{ASSIGNMENT} and meta-learning both have a notebook {NOTEBOOK}" in capsys.readouterr().err


@pytest.fixture
def two_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course with lab 1 and a second lab that is not built yet, in copies of both packages."""
    root = course_in(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(PACKAGE, root / "amllab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HIDDEN_CHECKS, root / "autograder" / "checks", ignore=shutil.ignore_patterns("__pycache__"))
    new_lab(Course.find(root), "second")
    for module in (bundles, leak_check, amllab.lab):
        monkeypatch.setattr(module, "PACKAGE", root / "amllab")
        monkeypatch.setattr(module, "CHECKS", root / "amllab" / "checks")
    for module in (leak_check, locations):
        monkeypatch.setattr(module, "HIDDEN_CHECKS", root / "autograder" / "checks")
    monkeypatch.chdir(root)
    return root


def released(root: Path, additions: Iterable[str]) -> None:
    """Add each text to another cell of the release of lab 1."""
    path = root / "assignments" / ASSIGNMENT / NOTEBOOK
    notebook = nbformat.read(path, as_version=4)
    for cell, addition in zip(notebook.cells, additions, strict=False):
        cell.source += f"\n\n{addition}"
    nbformat.write(notebook, path)


def test_bundle_holds_one_lab(two_labs: Path) -> None:
    """The bundle of a lab contains nothing of another lab, whatever state that lab is in."""
    for name in ("releases/second/second.ipynb", "checks/third/probes.py", "checks/third/data.npz"):
        (two_labs / "amllab" / name).parent.mkdir(parents=True, exist_ok=True)
        (two_labs / "amllab" / name).write_text("import nothing")
    for own, other in ((ASSIGNMENT, "second"), ("second", "transfer")):
        if own == "second":
            for folder, cleared in (("assignments", "# YOUR CODE HERE"), ("solutions", None)):
                notebook = notebook_of(two_labs / "source" / "second" / "second.py")
                if cleared:
                    for cell in notebook.cells:
                        cell.source = cleared if "SOLUTION" in cell.source else cell.source
                (two_labs / folder / "second").mkdir()
                nbformat.write(notebook, two_labs / folder / "second" / "second.ipynb")
        assert main(["bundle", own]) == 0
        zipped = contents(two_labs / "dist" / f"{own}-student.zip")
        (wheel,) = [name for name in zipped if name.endswith(".whl")]
        inner = contents(io.BytesIO(zipped[wheel]))
        folders = {name.split("/")[2] for name in inner if name.startswith("amllab/checks/") and name.count("/") > 2}
        assert folders == {own.replace("-", "_")}
        assert {name.split("/")[2] for name in inner if name.startswith("amllab/releases/")} == {own}
        assert not any(other in name.split("/")[-1] or "third" in name for name in [*zipped, *inner])
        assert {"amllab/kit/scripts.py", "amllab/weights/net6.safetensors"} <= inner.keys()


SECOND_SECRETS = {
    "return centred / torch.where(deviation > 0, deviation, 1.0)": "solution in second.py",
    "3: the gradient of a weight is proportional to its input. 2: one learning rate cannot fit both scales.": "marking",
    "test_constant_columns": "hidden check test_standardise_hidden.py",
}


@pytest.mark.parametrize("half_written", sampled([False, True], 2))
def test_bundle_secrets_of_other_labs(two_labs: Path, half_written: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Secrets of a lab that is not released yet are found in the bundle of another one, even if it is half-written."""
    if half_written:
        (two_labs / "amllab" / "checks" / "second" / "lab.toml").write_text("title = ")
        (two_labs / "solutions" / "second").mkdir()
        (two_labs / "solutions" / "second" / "second.ipynb").write_bytes(b"{\xff")
        (two_labs / "assignments" / "second").mkdir()
        (two_labs / "assignments" / "second" / "second.ipynb").write_bytes(b"{\xff")
        hidden = two_labs / "autograder" / "checks" / "second"
        (hidden / "test_half_hidden.py").write_bytes(
            b'"""Half.\n    a line of a hidden check that nobody has finished yet\n\xff'
        )
        (two_labs / "source" / "second" / "more.py").write_text(
            "# BEGIN SOLUTION\nx = 'a line of a solution that does not end anywhere'"
        )
    secrets = dict(SECOND_SECRETS)
    if half_written:
        assert main(["bundle", ASSIGNMENT]) == 0
        secrets["a line of a hidden check that nobody has finished yet"] = "hidden check test_half_hidden.py"
        secrets["x = 'a line of a solution that does not end anywhere'"] = "solution in more.py"
    released(two_labs, secrets)
    capsys.readouterr()
    assert main(["bundle", ASSIGNMENT]) == 2
    said = capsys.readouterr().err
    for number, what in enumerate(secrets.values(), start=1):
        assert re.search(rf"{NOTEBOOK}, cell {number}, line \d+: second: {re.escape(what)}", said), said


def test_bundle_imports_from_other_labs(two_labs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Public checks that need the folder of another lab are refused: students of this lab would not have it."""
    probes = two_labs / "amllab" / "checks" / "transfer_learning" / "probes.py"
    text = probes.read_text()
    lines = (
        "from amllab.checks.second.probes import standardise",
        "import amllab.checks.second.probes as other",
        "from amllab.checks import second",
        "from ..second import probes as other",
        "def f():\n    from amllab.checks.second import probes",
    )
    for line in lines:
        probes.write_text(f"{text}\n{line}\n")
        assert (main(["bundle", ASSIGNMENT]), line) == (2, line)
        assert "transfer_learning/probes.py imports from the lab second" in capsys.readouterr().err


def test_bundle_is_reproducible(bundle: Path, members: dict[str, bytes], tmp_path: Path) -> None:
    """The same content gives the same bytes, with the date of the release."""
    (name,) = [name for name in members if name.endswith(".whl")]
    release = ROOT / "assignments" / ASSIGNMENT / NOTEBOOK
    again = build_wheel(tmp_path, (find_lab(ASSIGNMENT), release))
    assert again.read_bytes() == members[name]
    date = int(release.stat().st_mtime)
    write_zip(tmp_path / "again.zip", dict(reversed(members.items())), date)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        assert {member.date_time[:5] for member in archive.infolist()} == {time.gmtime(date)[:5]}


def test_wheel_works_alone(members: dict[str, bytes], tmp_path: Path) -> None:
    """The library works from the wheel alone, without the packages of the grader."""
    (name,) = [name for name in members if name.endswith(".whl")]
    with zipfile.ZipFile(io.BytesIO(members[name])) as archive:
        archive.extractall(tmp_path / "site")
    notebook = nbformat.reads(members[f"{FOLDER}/{NOTEBOOK}"].decode(), as_version=4)
    (setup,) = [cell.source for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "setup"]
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
for name in ("autograder", "nbgrader", "nbclient", "nbformat", "jupytext"):
    sys.modules[name] = None  # what students may not have
import amllab
from pathlib import Path
from amllab.lab import find_lab
from amllab.preflight.document import read
assert amllab.__file__.startswith({str(tmp_path)!r}), amllab.__file__
{setup}
import amllab.preflight.kernel_submission
from amllab.checks.render import to_html
assert "0 of 0 points" in to_html([])
from amllab.checks.exercises import exercises_of
assert [exercise.points for exercise in exercises_of(find_lab({ASSIGNMENT!r}))] == [20, 20, 30, 20]
looked = read(Path({str(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK)!r}))
print(len(layers_of(load_backbone("net12"))), len(layers_of(load_backbone("net6"))), looked.lab.title, len(looked.to_run()))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["12", "6", "Transfer", "learning", "7"], done.stderr


def test_bundle_has_no_leaks(bundle: Path, lab: Lab, course: Course) -> None:
    """The bundle contains no part of the solution, marking scheme or hidden checks."""
    assert find_leaks(bundle, lab, course) == []


@pytest.mark.parametrize("name", all_labs())
def test_public_checks_have_no_leaks(name: str, course: Course, tmp_path: Path) -> None:
    """The public checks and the release of each lab contain no secret of any lab."""
    found = find_lab(name)
    for folder in (found.folder, course.release(found).parent):
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    assert find_leaks(tmp_path, found, course) == []


def test_secrets_of_every_kind(lab: Lab, course: Course) -> None:
    """The secrets include lines of every solution, the marking scheme and every file of hidden checks."""
    kinds = [what.split(":")[0] for what in read_secrets(lab, course).values()]
    for cell in ("freeze_layers", "build_transfer_model", "train_with_early_stopping", "reflection"):
        assert kinds.count(f"solution of {cell}") >= 3
    assert kinds.count("marking scheme") >= 10
    for file in (ROOT / "autograder" / "checks" / lab.name).glob("test_*.py"):
        assert kinds.count(f"hidden check {file.name}") >= 3


def source_of(path: Path, grade_id: str) -> str:
    cells = nbformat.read(path, as_version=4).cells
    (source,) = [cell.source for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id]
    return str(source)


def test_leaks_planted(bundle: Path, lab: Lab, course: Course, tmp_path: Path) -> None:
    """Planted leaks, each where one could be left by mistake, are found with member and line."""
    solution = source_of(course.solution(lab), "freeze_layers")
    hidden = (ROOT / "autograder" / "checks" / lab.name / "test_freeze_layers_hidden.py").read_text()
    master = (ROOT / "source" / ASSIGNMENT / "transfer_learning.py").read_text()
    scheme = master[master.index("**Question 1 (3).**") :].splitlines()[1].removeprefix("# ")
    title = "Can be called again with another number: layers are thawed as well as frozen."
    assert title in hidden
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / FOLDER

    numbers = {number: line.strip() for number, line in enumerate(solution.splitlines(), start=3)}
    (marked,) = [number for number, line in numbers.items() if line == "### BEGIN SOLUTION"]
    (first,) = [number for number, line in numbers.items() if line.startswith("first_trainable =")]
    (folder / "training.py").write_text("x = 1\n\n" + solution)
    notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
    notebook.cells[3].metadata["note"] = numbers[first]
    notebook.cells[5].source += f"\n\n{scheme}"
    nbformat.write(notebook, folder / NOTEBOOK)
    words = title.split()
    (folder / "README.md").write_text("Hints\n\n" + " ".join(words[:5]) + "\n    " + " ".join(words[5:]) + "\n")
    (folder / "helper.py").write_text("import torch\n\n    from autograder.grading.grader import grade\n")
    source = tmp_path / "compiled.py"
    source.write_text(f"def test_thaws():\n    {title!r}\n")
    py_compile.compile(str(source), cfile=str(folder / "compiled.pyc"))
    source.unlink()
    write_zip(
        folder / "inner.whl", {"autograder/grading/grader.py": b"", "amllab/notes.txt": b"see\ntest_thaws there"}, 2**30
    )
    with tarfile.open(folder / "inner.tar.gz", "w:gz") as tar:
        tar.add(ROOT / "autograder" / "checks" / lab.name / "test_accuracy_hidden.py", "tests/accuracy.py")

    leaks = find_leaks(tmp_path, lab, course)
    found = {(leak.where, leak.what.split(":")[0]) for leak in leaks}
    assert (f"{FOLDER}/training.py, line {marked}", "the marker BEGIN SOLUTION") in found
    assert (f"{FOLDER}/training.py, line {first}", "solution of freeze_layers") in found
    assert any(w.startswith(f"{FOLDER}/{NOTEBOOK}, cell 4, line") and "solution" in what for w, what in found)
    assert any(w.startswith(f"{FOLDER}/{NOTEBOOK}, cell 6, line") and what == "marking scheme" for w, what in found)
    assert (f"{FOLDER}/README.md, line 3", "hidden check test_freeze_layers_hidden.py") in found
    assert (f"{FOLDER}/helper.py, line 3", "an import of the autograder package") in found
    assert (f"{FOLDER}/compiled.pyc", "bytecode, which may contain code that cannot be searched") in found
    assert any(w.startswith(f"{FOLDER}/compiled.pyc, byte") and "hidden check" in what for w, what in found)
    assert (f"{FOLDER}/inner.whl!autograder/grading/grader.py", "a part of the autograder package") in found
    assert (f"{FOLDER}/inner.whl!amllab/notes.txt, line 2", "hidden check test_freeze_layers_hidden.py") in found
    assert any(w.startswith(f"{FOLDER}/inner.tar.gz!tests/accuracy.py, line") for w, _ in found)
    planted = {"training.py", NOTEBOOK, "README.md", "helper.py", "compiled.pyc", "inner.whl", "inner.tar.gz"}
    assert {leak.where.removeprefix(f"{FOLDER}/").split(",")[0].split("!")[0] for leak in leaks} == planted


def test_leaks_reformatted_and_public_lines(lab: Lab, course: Course, tmp_path: Path) -> None:
    """A reformatted line of the solution is a leak; common lines of PyTorch are not."""
    solution = [line.split() for line in source_of(course.solution(lab), "train_with_early_stopping").splitlines()]
    (line,) = [words for words in solution if words[:2] == ["correct", "+="]]
    (tmp_path / "a.py").write_text("# a\n\n#\n" + "\t  ".join(line))
    (tmp_path / "b.py").write_text(
        "optimizer.zero_grad()\nloss.backward()\noptimizer.step()\nmodel.eval()\ntest_thaws_more = 1"
    )
    (leak,) = find_leaks(tmp_path, lab, course)
    assert leak.where == "a.py, line 4"
    assert str(leak).startswith("a.py, line 4: solution of train_with_early_stopping: correct +=")


def test_bundle_refuses_leaking_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release with a leak is not bundled, and an older bundle is removed."""
    monkeypatch.chdir(course_in(tmp_path))
    target = Path("dist", f"{ASSIGNMENT}-student.zip")
    target.parent.mkdir()
    target.write_bytes(b"of yesterday")
    release = tmp_path / "assignments" / ASSIGNMENT / NOTEBOOK
    notebook = json.loads(release.read_text())
    stub = next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == "freeze_layers")
    notebook["cells"][stub]["source"] = source_of(tmp_path / "solutions" / ASSIGNMENT / NOTEBOOK, "freeze_layers")
    release.write_text(json.dumps(notebook))
    assert main(["bundle", ASSIGNMENT]) == 2
    assert f"{NOTEBOOK}, cell {stub + 1}, line " in capsys.readouterr().err
    assert not target.exists()
    release.unlink()
    assert main(["bundle", ASSIGNMENT]) == 2
    assert f"run 'autograder build {ASSIGNMENT}'" in capsys.readouterr().err


def test_leaks_missing_course_files(lab: Lab, tmp_path: Path) -> None:
    """Missing files of the course are named."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    course = Course.find(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"source/transfer-learning/transfer_learning\.py is missing"):
        read_secrets(lab, course)
    shutil.copytree(ROOT / "source", tmp_path / "source")
    shutil.copytree(ROOT / "assignments", tmp_path / "assignments")
    shutil.copytree(ROOT / "solutions", tmp_path / "solutions")
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        find_leaks(tmp_path / "no-such-file", lab, course)
