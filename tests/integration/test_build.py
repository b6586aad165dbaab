"""One source: built files differ from their master only in what nbgrader's commands remove."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from amllab.lab import find_lab
from autograder.authoring.build import notebook_of, same_text, solved
from autograder.errors import SettingsError
from autograder.notebooks.metadata import is_autograded
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, autograder_cli, new_course

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
    """Numbers in the prose come from the settings; one that does not exist is named."""
    assert "{{accuracy.max_epochs}}" in MASTER.read_text()
    prose = "\n".join(cell.source for cell in notebook_of(MASTER).cells)
    assert f"for {find_lab(ASSIGNMENT).settings['accuracy']['max_epochs']} epochs on drawn reptiles" in prose
    assert "{{" not in prose
    other = tmp_path / ASSIGNMENT / MASTER.name
    other.parent.mkdir()
    other.write_text(MASTER.read_text().replace("{{accuracy.max_epochs}}", "{{accuracy.epochs}}"))
    with pytest.raises(SettingsError, match=r"no number or text accuracy\.epochs"):
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
    command = [sys.executable, "-m", "autograder", "build", ASSIGNMENT]
    done = subprocess.run(
        command, cwd=course, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (course / "assignments" / ASSIGNMENT / NOTEBOOK).is_file()


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
