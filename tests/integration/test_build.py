"""One source: built files differ from their master only in what nbgrader's commands remove."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from amllab.lab import find_lab
from autograder.authoring import build, drafts
from autograder.authoring.build import notebook_of, same_text, solved
from autograder.authoring.drafts import put_in_place
from autograder.course import Course
from autograder.errors import SettingsError
from autograder.labs.settings import load_lab
from autograder.notebooks.metadata import is_autograded
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, autograder_cli, new_course, sampled

MASTER = ROOT / "source" / ASSIGNMENT / "transfer_learning.py"
SOLUTION = ROOT / "solutions" / ASSIGNMENT / NOTEBOOK


def test_build_deterministic() -> None:
    """Two builds of the master give the same notebook."""
    assert notebook_of(MASTER) == notebook_of(MASTER)


def test_build_matches_shipped_files(tmp_path: Path) -> None:
    """The shipped notebooks are those that the master builds."""
    course = new_course(tmp_path)
    for folder in ("source", "assignments"):
        built, shipped = (root / folder / ASSIGNMENT / NOTEBOOK for root in (course, ROOT))
        assert nbformat.read(built, as_version=4) == nbformat.read(shipped, as_version=4), (
            f"run make release ({folder})"
        )
    solution = nbformat.read(SOLUTION, as_version=4)
    assert same_text(solution, solved(notebook_of(MASTER))), "run make solution"


def test_build_numbers_from_settings(tmp_path: Path) -> None:
    """Numbers in the text come from the settings; the error for an unknown one names it."""
    assert "{{accuracy.max_epochs}}" in MASTER.read_text()
    prose = "\n".join(cell.source for cell in notebook_of(MASTER).cells)
    assert f"for {find_lab(ASSIGNMENT).settings['accuracy']['max_epochs']} epochs on drawn reptiles" in prose
    assert "{{" not in prose
    other = tmp_path / ASSIGNMENT / MASTER.name
    other.parent.mkdir()
    other.write_text(MASTER.read_text().replace("{{accuracy.max_epochs}}", "{{accuracy.epochs}}"))
    with pytest.raises(SettingsError, match=r"needs a number or text accuracy\.epochs in lab\.toml"):
        notebook_of(other)


def test_solution_run_in_order() -> None:
    """The solution was run from top to bottom, without errors and with its plots."""
    cells = [cell for cell in nbformat.read(SOLUTION, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    errors = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert errors == []
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6


def test_solution_has_no_machine_paths() -> None:
    """The solution contains no path of the machine on which it was run."""
    text = SOLUTION.read_text()
    for root in (str(ROOT), "/home/", "/Users/", "/tmp/", "site-packages"):
        assert root not in text


def test_release_has_no_solution(release: NotebookNode) -> None:
    """The release contains stubs only: no solution and no marking scheme."""
    text = json.dumps(release)
    assert "BEGIN SOLUTION" not in text
    assert "MARK SCHEME" not in text
    solutions = [c for c in release.cells if c.metadata.get("nbgrader", {}).get("solution") and c.cell_type == "code"]
    assert [c.metadata.nbgrader.grade_id for c in solutions] == [
        "freeze_layers",
        "build_transfer_model",
        "train_with_early_stopping",
    ]
    assert all("NotImplementedError" in c.source for c in solutions)
    points = {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in release.cells if is_autograded(c)}
    assert sum(points.values()) == 90


def test_build_without_active_environment(tmp_path: Path) -> None:
    """``autograder build`` works if no environment is activated."""
    course = new_course(tmp_path)
    release = course / "assignments" / ASSIGNMENT / NOTEBOOK
    before = release.read_bytes()
    release.unlink()
    done = autograder_cli(course, "build", ASSIGNMENT, PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert release.read_bytes() == before


def test_cli_errors_name_remedy(tmp_path: Path) -> None:
    """Errors name the remedy, without a traceback."""
    for folder, arguments, says in (
        (tmp_path, ["scores", ASSIGNMENT], "inside the course"),
        (ROOT, ["build", "no-such-lab"], "transfer_learning"),
    ):
        done = autograder_cli(folder, *arguments)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr


Stage = Callable[[str], None]


def staged(monkeypatch: pytest.MonkeyPatch, stop: Stage) -> None:
    """Call ``stop`` with the name of each stage of a build before and after it; nbgrader's commands write little."""

    def written(course: Course, command: str, assignment: str, force: str, where: str, *options: str) -> None:
        stop(f"before {command}")
        target = course.root / where.partition("=")[2] / assignment / NOTEBOOK
        target.parent.mkdir(parents=True)
        target.write_text('{"half": ')
        stop(f"within {command}")
        nbformat.write(nbformat.read(course.root / "source" / ASSIGNMENT / NOTEBOOK, as_version=4), target)
        stop(f"after {command}")

    def put(draft: Path, target: Path) -> None:
        stop(f"before {target.parent.name}")
        put_in_place(draft, target)

    monkeypatch.setattr(build, "_nbgrader", written)
    monkeypatch.setattr(build, "put_in_place", put)


STAGES = [
    "before solutions",
    *(f"{when} {command}" for command in ("generate_solution", "generate_assignment") for when in ("before", "within", "after")),
]  # fmt: skip


def content(course: Path) -> dict[str, bytes]:
    """Return what release and solution hold, and what is next to them."""
    files = [path for role in ("assignments", "solutions") for path in (course / role).rglob("*") if path.is_file()]
    return {str(path.relative_to(course)): path.read_bytes() for path in files}


@pytest.fixture
def changed(course: Path) -> Path:
    """A course whose release and solution are out of date."""
    (course / "assignments" / ASSIGNMENT / "data.csv").write_text("old")
    master = course / "source" / ASSIGNMENT / "transfer_learning.py"
    master.write_text(master.read_text() + "\n# %%\n1 + 1\n")
    return course


@pytest.mark.parametrize("ended", sampled(itertools.product(["is killed", "fails"], STAGES), 6), ids=" ".join)
def test_build_keeps_release_on_failure(changed: Path, monkeypatch: pytest.MonkeyPatch, ended: tuple[str, str]) -> None:
    """A build that fails or is killed at any stage leaves release and solution, and the next build replaces both."""
    how, stage = ended
    before = content(changed)

    def stop(now: str) -> None:
        if now == stage and how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if now == stage:
            raise subprocess.CalledProcessError(1, "nbgrader")

    with monkeypatch.context() as patch:
        staged(patch, stop)
        done = autograder_cli(changed, "build", ASSIGNMENT)
    assert done.returncode == (2 if how == "fails" else -signal.SIGKILL), done.stderr
    after = content(changed)
    assert {name: after.get(name) for name in before} == before
    assert how == "is killed" or after == before
    staged(monkeypatch, lambda now: None)
    done = autograder_cli(changed, "build", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    after = content(changed)
    assert set(after) == {f"{role}/{ASSIGNMENT}/{NOTEBOOK}" for role in ("assignments", "solutions")}
    assert after[f"assignments/{ASSIGNMENT}/{NOTEBOOK}"] == after[f"solutions/{ASSIGNMENT}/{NOTEBOOK}"]
    assert not list((changed / "source").rglob(".*"))


def test_build_replaces_files_without_exchange(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If folders cannot be exchanged, every file is replaced, and files of the old build are removed."""
    (changed / "assignments" / ASSIGNMENT / "more" / "deeper").mkdir(parents=True)
    (changed / "assignments" / ASSIGNMENT / "more" / "deeper" / "x").touch()
    staged(monkeypatch, lambda now: None)

    def refused(one: str, other: str) -> None:
        raise OSError(errno.EXDEV, "no")

    monkeypatch.setattr(drafts, "exchange", refused)
    assert autograder_cli(changed, "build", ASSIGNMENT).returncode == 0
    assert set(content(changed)) == {f"{role}/{ASSIGNMENT}/{NOTEBOOK}" for role in ("assignments", "solutions")}
    assert not (changed / "assignments" / ASSIGNMENT / "more").exists()


def test_build_saves_due_date(
    changed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deadline of the lab's settings is in the gradebook after a build, and said once."""
    due = datetime.fromisoformat("2026-12-18T23:59:00+01:00")
    lab = load_lab(ASSIGNMENT)
    lab = dataclasses.replace(lab, settings={**lab.settings, "deadline": {"due": due}})
    monkeypatch.setattr(build, "load_lab", lambda name: lab)
    staged(monkeypatch, lambda now: None)
    for said in (1, 0):
        build.build(Course.find(changed), ASSIGNMENT)
        with Gradebook(f"sqlite:///{changed}/gradebook.db") as gradebook:
            assert gradebook.find_assignment(ASSIGNMENT).duedate == datetime(2026, 12, 18, 22, 59)
        assert capsys.readouterr().out.count("due date in the gradebook: 2026-12-18 22:59:00 UTC") == said


@pytest.mark.parametrize(("number", "said"), [(0, ""), (1, "1 code cell of the solution has no outputs")])
def test_build_counts_cells_without_outputs(
    changed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, said: str
) -> None:
    """Cells without outputs are news only if there are any."""
    monkeypatch.setattr(build, "_keep_outputs", lambda before, solution: number)
    staged(monkeypatch, lambda now: None)
    build.build(Course.find(changed), ASSIGNMENT)
    printed = capsys.readouterr().out
    assert said in printed
    assert bool(said) == ("no outputs" in printed)


def test_build_refuses_second_build(changed: Path) -> None:
    """A second build of the same lab is refused while one is running."""
    with drafts.locked(changed / "source" / ASSIGNMENT):
        done = autograder_cli(changed, "build", ASSIGNMENT)
    assert done.returncode == 2
    assert f"another build of {ASSIGNMENT} is running; run the command again when it has ended" in done.stderr


def test_build_keeps_release_if_nbgrader_fails(changed: Path) -> None:
    """Release and solution also stay if nbgrader fails half-way."""
    before = content(changed)
    master = changed / "source" / ASSIGNMENT / "transfer_learning.py"
    twice = '\n# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}\n1\n'
    master.write_text(master.read_text() + twice)
    done = autograder_cli(changed, "build", ASSIGNMENT)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr.splitlines()[-1]
    assert content(changed) == before
