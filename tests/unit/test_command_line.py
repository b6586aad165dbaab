"""The command line without a course: arguments, help, completion, and messages with an exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from autograder.cli import cli, main
from tests.conftest import ASSIGNMENT


@pytest.mark.parametrize(
    "arguments",
    [
        "grade",
        "grade x --seed -5",
        "grade x --seed 1e9",
        "audit x --class-size 0",
        "calibrate x --jobs 0",
        "nope",
        "--nope",
    ],
)
def test_cli_invalid_arguments(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid arguments show the usage and the help option."""
    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: autograder")
    assert "--help" in said


def test_cli_version() -> None:
    """``python -m autograder --version`` prints the installed version."""
    done = subprocess.run([sys.executable, "-m", "autograder", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"autograder, version {version('amllab')}\n"


def test_cli_help_without_heavy_imports() -> None:
    """The help loads neither nbgrader nor PyTorch."""
    code = "import sys; from autograder.cli import main; main(['grade', '--help']); print({'nbgrader', 'sqlalchemy', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_cli_help_states_each_default_once(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No option is shown with an empty default, or with two defaults."""
    assert main([command, "--help"]) == 0
    options = re.split(r"\n  (?=-)", capsys.readouterr().out)
    assert [option for option in options if '[default: ""' in option or option.count("[default:") > 1] == []


def test_cli_completes_lab_names() -> None:
    """The shell completes names of labs."""
    environment = {
        **os.environ,
        "_AUTOGRADER_COMPLETE": "bash_complete",
        "COMP_WORDS": "autograder scores tra",
        "COMP_CWORD": "2",
    }
    code = "from autograder.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"plain,{ASSIGNMENT}\n"


def test_cli_verbose_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--verbose`` an error shows its traceback."""
    monkeypatch.chdir(tmp_path)
    assert main(["--verbose", "scores", ASSIGNMENT]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("autograder: no nbgrader_config.py")


@pytest.mark.parametrize("command", ["scores", "explain", "report", "export"])
def test_cli_assignment_like_a_pattern(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of an assignment is no pattern of file names: the message is the same as for any unknown one."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    (tmp_path / "submitted" / "ada" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    more = {"explain": ["ada"], "export": ["--format", "csv"]}.get(command, [])
    for name in ("**x", "[x]", "*"):
        assert main([command, name, *more]) == 2
        assert "the course has no gradebook yet: submitted/ has no submissions either" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["scores", "explain", "regrade", "report", "export", "similar", "bundle", "audit", "build"]
)
def test_cli_outside_course(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of a course every command says that the configuration is missing."""
    monkeypatch.chdir(tmp_path)
    more = {"explain": ["ada"], "regrade": ["ada"], "export": ["--format", "csv"]}.get(command, [])
    assert main([command, ASSIGNMENT, *more]) == 2
    assert "no nbgrader_config.py in this folder or above it" in capsys.readouterr().err
