"""A trial run of the first step of grading: a real worker runs a real cell.

It gives the last result of ``autograder doctor``.
"""

from __future__ import annotations

import os
import re
import time

import nbformat
from nbformat import NotebookNode

from amllab.lab import all_labs, find_lab
from autograder.course import Course
from autograder.errors import IsolationError, LabError, WorkerError
from autograder.grading.worker import Worker
from autograder.sandbox.diagnostics import Finding
from autograder.sandbox.launcher import Launcher

_CELL = "import amllab\nprint(sum(p.numel() for p in amllab.load_backbone('net6').parameters()))"
_LAYER = "a cell in a worker"
_NO_PATH = (
    "{path} exists, but submissions cannot see it: install the course's packages in their own environment, "
    "python -m venv --copies FOLDER, then pip install -e '.[grader]' with its pip"
)
_INSTALL = (
    "install the course with all its dependencies: pip install -e '.[grader]'; then run 'autograder doctor' again"
)
_NO_LAB = "the trial uses the limits of a lab: add a lab with 'autograder new-lab', or correct the one named above"
_PATH = re.compile(r"'(/[^']+)'")


def trial() -> Finding:
    """Check that a worker starts, sees the packages, and runs a cell that needs them."""
    began = time.monotonic()
    try:
        course = Course.find().root
    except FileNotFoundError:  # a machine can be checked outside a course, too
        course = None
    launcher = Launcher("namespaces", course)
    cell = nbformat.v4.new_code_cell(_CELL)
    try:
        unusable = _run(cell, launcher)
    except (IsolationError, WorkerError) as error:
        return _failed(str(error))
    finally:
        launcher.close()
    if unusable is not None:
        return Finding(_LAYER, False, f"not tried: {unusable or 'there is no lab'}", _NO_LAB)
    said = "".join(output.get("text", "") for output in cell.outputs).strip()
    if not said.isdigit():
        told = [f"{output.get('ename')}: {output.get('evalue')}" for output in cell.outputs]
        return _failed("\n".join(told) or "it printed nothing")
    return Finding(
        _LAYER, True, f"loads PyTorch, amllab and a backbone: {said} weights, {time.monotonic() - began:.0f} s"
    )


def _run(cell: NotebookNode, launcher: Launcher) -> str | None:
    """Run a cell as part of the first lab that can be used; return why no lab can be used, if that is so."""
    unusable: list[str] = []
    for name in all_labs():
        try:
            with Worker(find_lab(name), nbformat.v4.new_notebook(cells=[cell]), launcher=launcher):
                return None
        except (ValueError, LabError) as error:
            unusable.append(str(error))
    return "; ".join(unusable)


def _failed(reason: str) -> Finding:
    hidden = next((path for path in _PATH.findall(reason) if os.path.exists(path)), None)
    remedy = _NO_PATH.format(path=hidden) if hidden else _INSTALL
    last = [line for line in reason.splitlines() if line.strip()][-1]
    return Finding(_LAYER, False, last, remedy)
