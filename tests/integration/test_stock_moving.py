"""The walk through docs/moving.md, with its own commands and files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.course_copy import blocks_of
from tests.helpers.stock_courses import SEARCHED, recorded

PAGE = ROOT / "docs" / "moving.md"


def script() -> str:
    """Return the page as a script: its commands in order, and its files where they are written."""
    lines = ["set -e"]
    for block in blocks_of(PAGE):
        if block.title:
            lines += [f"cat > {block.title} <<'END_OF_FILE'", block.text.rstrip("\n"), "END_OF_FILE"]
        elif block.language == "bash":
            lines.append(block.text)
    return "\n".join(lines)


@pytest.mark.slow
def test_moving_page(tmp_path: Path) -> None:
    """The commands of the page run as they are, and print what the page shows."""
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=tmp_path,
        env={**os.environ, "PATH": SEARCHED},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (shown,) = [block.text for block in blocks_of(PAGE) if block.language == "text"]
    assert shown in done.stdout
    course = tmp_path / "course101"
    found = recorded(course)
    tests = {place[0]: 0.0 for place in found}
    for place, value in found.items():
        if place[-1] == "score":
            tests[place[0]] += float(str(value[0] or 0))
    assert tests == {"ada": 3, "bob": 0, "eve": 0}
    assert (course / "feedback" / "ada" / "ps1" / "problem1.html").is_file()
    assert "ada" in (course / "reports" / "ps1-grades.csv").read_text()
    assert "problem1.ipynb is not a notebook" in done.stderr
