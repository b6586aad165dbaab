"""From the wheel to grades in a course of one's own, in an empty folder without the repository."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from autograder.labs.conflicts import conflict_lines
from bench import new_course
from bench.new_course import OUR_CELL, OURS, THEIRS, THEIRS_LATER, Walk
from tests.conftest import ASSIGNMENT, NOTEBOOK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The whole way, once."""
    return new_course.walk(tmp_path_factory.mktemp("empty"), (ASSIGNMENT,))


def output(way: Walk, command: str) -> Iterator[str]:
    """Yield what a command printed, each time."""
    for step in way.steps:
        if step.command == command:
            yield step.output


def test_walk_scores(way: Walk) -> None:
    """The class is graded as in a checkout: the solution gets all automatic points, the release none."""
    (table,) = output(way, f"autograder scores {ASSIGNMENT}")
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.startswith(("ada", "bob"))}
    assert rows["ada"][-1] == "90"
    assert rows["bob"][-1] == "0"
    for student in ("ada", "bob"):
        assert (way.root / "feedback" / student / ASSIGNMENT / NOTEBOOK.replace(".ipynb", ".html")).is_file()


def test_walk_without_repository(way: Walk) -> None:
    """Nothing of the repository was imported, and the course does not name it."""
    done = way.installation.run(way.root, "python", "-c", "import amllab, autograder; print(amllab.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(way.folder)
    for file in (way.root / "labs").rglob("*.py"):
        ast.parse(file.read_bytes())
    repository = str(Path(__file__).parent.parent.parent)
    texts = [
        way.root / name for name in ("README.md", "nbgrader_config.py", "requirements.txt", ".shipped/course.json")
    ]
    assert not [path for path in texts if repository in path.read_text(encoding="utf-8")]


def test_walk_bundle(way: Walk) -> None:
    """Students get the public checks of the lab in the course's folder, and nothing hidden."""
    with zipfile.ZipFile(way.root / "dist" / "own-lab-student.zip") as bundle:
        (wheel,) = [name for name in bundle.namelist() if name.endswith(".whl")]
        bundle.extract(wheel, way.folder)
    with zipfile.ZipFile(way.folder / wheel) as archive:
        names = archive.namelist()
    assert "amllab/checks/own_lab/test_standardise.py" in names
    assert "amllab/releases/own-lab/own_lab.ipynb" in names
    assert not [name for name in names if "hidden" in name or name.startswith("autograder")]
    assert {name.split("/")[2] for name in names if name.startswith("amllab/checks/") and name.count("/") > 2} == {
        "own_lab"
    }


def test_walk_own_lab(way: Walk) -> None:
    """A lab of the course's own is written to its folder, found by name and graded in isolation."""
    (written,) = output(way, "autograder new-lab own-lab")
    assert "labs/public/own_lab/lab.toml" in written.splitlines()
    assert "labs/hidden/own_lab/test_standardise_hidden.py" in written.splitlines()
    (graded,) = output(way, "autograder grade solutions/own-lab/own_lab.ipynb")
    assert "10 of 10 automatic points" in graded
    tested = way.installation.run(way.root, "python", "-m", "pytest", "-q", "tests/test_own_lab.py")
    assert tested.returncode == 0, tested.stdout


def test_walk_submissions_see_no_secrets(way: Walk) -> None:
    """A submission sees the public checks of the course's labs, and nothing else of the course."""
    notebook = nbformat.read(way.root / "solutions" / "own-lab" / "own_lab.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "standardise"]
    public, *secret = (
        way.root / name
        for name in ("labs/public/own_lab/probes.py", "labs/hidden/own_lab", ".shipped", "source", "solutions")
    )
    looks = f"Path({str(public)!r}).exists() and not any(Path(p).exists() for p in {list(map(str, secret))})"
    head, _, body = cell.source.partition(":\n")
    cell.source = f"from pathlib import Path\n{head}:\n    assert {looks}\n{body}"
    nbformat.write(notebook, way.folder / "own_lab.ipynb")
    done = way.installation.run(way.root, "autograder", "grade", str(way.folder / "own_lab.ipynb"), "--json")
    assert json.loads(done.stdout)["score"] == 10, done.stdout


def test_walk_upgrade(way: Walk) -> None:
    """The first upgrade merged both edits; the second shows the conflict, and lost nothing."""
    merged, conflict = output(way, "autograder upgrade-course")
    master = f"source/{ASSIGNMENT}/{NOTEBOOK.replace('.ipynb', '.py')}"
    assert f"merged    {master}" in merged
    assert "upgraded: amllab 0.1.0 to 0.2.0" in merged
    text = way.master.read_text(encoding="utf-8")
    (line,) = conflict_lines(text.encode())
    assert f"conflict  {master} (line {line}:" in conflict
    for part in (OURS, THEIRS, THEIRS_LATER):  # the course's, the base's and the new one
        assert part.splitlines()[-1] in text
    assert text.endswith(OUR_CELL)
    # the notebook was built from the merged text, between both upgrades
    release = nbformat.read(way.root / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    prose = "\n".join(cell.source for cell in release.cells)
    assert "A sentence of the new version." in prose
    assert "A paragraph of this course." in prose


def test_walk_students_repository(way: Walk) -> None:
    """The students' repository has what its files refer to, and the library in it works."""
    students = way.root / "students"
    for file in (students / "requirements.txt", students / "binder" / "requirements.txt"):
        first, *others = file.read_text().splitlines()
        assert (students / first).is_file()  # both pip and repo2docker look from the top folder
        assert [Requirement(line).name for line in others] == ["jupyterlab"]
    copied = [
        line.split()[1:-1] for line in (students / "Dockerfile").read_text().splitlines() if line.startswith("COPY")
    ]
    assert all((students / name).exists() for names in copied for name in names if not name.startswith("--"))
    site = way.folder / "students-site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(students / first)], check=True)
    labs = "import amllab.lab; print(amllab.lab.CHECKS, amllab.lab.all_labs())"
    shown = way.installation.run(way.folder, "python", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {labs}")
    assert shown.stdout.split() == [str(site / "amllab" / "checks"), "['transfer_learning']"]
    readme = (students / "README.md").read_text()
    assert f"https://mybinder.org/v2/gh/ada/course/main?labpath={ASSIGNMENT}%2F{NOTEBOOK}" in readme
    assert f"https://colab.research.google.com/github/ada/course/blob/main/colab/{ASSIGNMENT}/{NOTEBOOK}" in readme
    assert (students / "colab" / ASSIGNMENT / NOTEBOOK).is_file()


def test_walk_colab_notebook_is_graded(way: Walk) -> None:
    """The cell that installs the library on Colab does nothing elsewhere, and costs no points."""
    solved = nbformat.read(way.root / "solutions" / ASSIGNMENT / NOTEBOOK, as_version=4)
    first = nbformat.read(way.root / "students" / "colab" / ASSIGNMENT / NOTEBOOK, as_version=4).cells[0]
    assert "wheels/amllab-0.1.0-py3-none-any.whl" in first.source
    solved.cells.insert(0, first)
    nbformat.write(solved, way.folder / NOTEBOOK)
    done = way.installation.run(way.root, "autograder", "grade", str(way.folder / NOTEBOOK), "--json")
    # the master text still has its conflict, which stops only the build
    assert json.loads(done.stdout)["score"] == 90, done.stderr
