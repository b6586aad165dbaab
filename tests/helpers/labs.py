"""Labs for tests: small ones in a folder next to lab 1, and submissions of the functions of a real one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import amllab.lab
from amllab.lab import Lab
from amllab.protocol.submission import InProcessSubmission
from autograder.authoring.study.materials import Materials
from autograder.course import Course
from autograder.labs.corpus import corpus_of

SETTINGS = """
title = "Second"
notebook = "second"

[limits]
cell_seconds = 60
answer_seconds = 30
answer_bytes = 67108864
output_bytes = 200000
total_seconds = 300
memory_bytes = 2147483648
processes = 256
open_files = 512
file_bytes = 536870912
scratch_bytes = 1073741824
"""


def labs_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make ``folder`` the folder of public checks, with lab 1 in it, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    os.symlink(amllab.lab.CHECKS / "transfer_learning", folder / "transfer_learning")
    monkeypatch.setattr(amllab.lab, "CHECKS", folder)
    return folder


def write_lab(folder: Path, text: str | bytes | None = SETTINGS) -> Path:
    """Write the public part of a lab: its settings (a folder in their place with ``None``) and a file of checks."""
    folder.mkdir()
    if text is None:
        (folder / "lab.toml").mkdir()
    else:
        (folder / "lab.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    (folder / "test_other.py").write_text("")
    return folder


def submission(course: Course, lab: Lab, **sources: str) -> InProcessSubmission:
    """Return a submission of a lab's plain functions, some of them replaced."""
    namespace: dict[str, Any] = {}
    exec(Materials.of(course, lab).setup, namespace)
    for source in {**corpus_of(lab).plain, **sources}.values():
        exec(source, namespace)
    return InProcessSubmission(lab.name, namespace)
