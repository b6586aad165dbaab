"""The documentation: it builds, its reference of checks is up to date, and its commands exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amllab.lab import all_labs, find_lab
from autograder import cli
from autograder.labs.catalog import checks_of, page
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMAND = re.compile(r"^ *(autograder .+)$|`(autograder [a-z-]+[^`]*)`", re.M)
TARGET = re.compile(r"^ *make (\w+)|`make (\w+)`", re.M)


def commands(text: str) -> list[list[str]]:
    """Return the command lines of ``autograder`` in a page, from code blocks and from sentences."""
    found = (a or b for a, b in COMMAND.findall(text))
    return [shlex.split(command, comments=True)[1:] for command in found]


def test_checks_page_is_up_to_date() -> None:
    """The reference of checks agrees with the check files."""
    wanted = page(map(find_lab, all_labs()))
    found = (ROOT / "docs" / "checks.md").read_text()
    assert found == wanted, "run python -m autograder.labs.catalog docs/checks.md"


def test_checks_page_hides_hidden_checks() -> None:
    """The reference reveals no more of hidden checks than their titles."""
    text = page([find_lab("transfer-learning")])
    lines = text.splitlines()
    for check in checks_of(find_lab("transfer-learning")):
        row = f"| {check.title} | {check.points:g} |"
        assert any(line.startswith(row) for line in lines) is not check.hidden
        assert (f"- {check.title}" in lines) is check.hidden
        assert check.name not in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_docs_commands_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, options and make targets in the documentation exist."""
    text = path.read_text(encoding="utf-8")
    for name, *arguments in commands(text):
        assert cli.main([name, "--help"]) == 0, f"{path.name}: autograder {name}"
        known = capsys.readouterr().out
        for argument in arguments:
            option = argument.partition("=")[0]
            assert not option.startswith("--") or option in known, f"{path.name}: autograder {name} {option}"
    targets = {a or b for a, b in TARGET.findall(text)}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)), path.name


def test_docs_commands_parser() -> None:
    """Commands are found in sentences and in code blocks."""
    text = "Run `autograder audit a-lab --strict`.\n\n    autograder grade A.ipynb  # one\n\n`make demo`\n"
    assert commands(text) == [["audit", "a-lab", "--strict"], ["grade", "A.ipynb"]]
    assert TARGET.findall(text) == [("", "demo")]


def names_of(line: str) -> Iterator[tuple[Path, str]]:
    """Yield the paths in a line of a page, each alone and with every name that follows the path of a module."""
    path = Path()
    for quoted in re.findall(r"`([^`]+)`", line):
        if "/" in quoted and "<" not in quoted:
            path = ROOT / quoted
            yield path, ""
        elif path.suffix == ".py" and re.fullmatch(r"[A-Za-z_][\w.]*", quoted):
            yield path, quoted


def defined(path: Path) -> set[str]:
    """Return the functions and classes of a module, and methods as ``Class.method``."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)]
    methods = {f"{node.name}.{own.name}" for node in found for own in node.body if isinstance(own, kinds)}
    return {node.name for node in found} | methods


def test_architecture_names_exist() -> None:
    """Files and functions named in the architecture page exist."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    path_of_a_submission = text.partition("## The path of a submission")[2]
    assert len([name for line in path_of_a_submission.splitlines() for _, name in names_of(line) if name]) >= 10
    for line in text.splitlines():
        for path, name in names_of(line):
            assert path.exists(), line
            assert not name or name in defined(path), f"{name}: {line}"


def test_architecture_names_parser() -> None:
    """Paths and names of code are found in a line of a page."""
    line = "| 1 | `tests/unit/test_docs.py`: `defined`, `Some.method`; `make demo` in `docs/` | `x` | `source/<lab>/`"
    page, docs = ROOT / "tests" / "unit" / "test_docs.py", ROOT / "docs/"
    assert list(names_of(line)) == [(page, ""), (page, "defined"), (page, "Some.method"), (docs, "")]
    assert "defined" in defined(page)
    assert "Worker.run_cell" in defined(ROOT / "autograder" / "grading" / "worker.py")


@pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="zensical is not installed: pip install -e .[docs]"
)
def test_site_builds_without_warnings(tmp_path: Path) -> None:
    """The site builds without warnings and loads nothing from other sites."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    for path in PAGES:
        assert (site / f"{path.stem}.html").is_file()
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            assert (site / picture).is_file(), f"{path.name}: {picture}"
    # the search works in pages that are opened from the disk
    assert (site / "search.js").is_file()
    text = (site / "index.html").read_text()
    assert 'src="./javascripts/iframe-worker.js"' in text
    # for reading offline, and for privacy, pages load nothing from other sites
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", text)
