"""A submission that uses up its total time is graded on what it has answered until then."""

from __future__ import annotations

import dataclasses

import nbformat
import pytest
from nbformat import NotebookNode

from amllab.lab import Lab
from autograder.checks.transfer_learning.corpus import FREEZE
from autograder.grading.grader import grade
from autograder.grading.reference import Reference
from autograder.grading.worker import default_launcher
from autograder.labs.corpus import Solution
from autograder.notebooks.normalize import NormalizedSubmission
from tests.conftest import sampled
from tests.helpers.notebooks import notebook_of

HANGS = "import time; time.sleep(600)"
SECONDS = 8


@pytest.mark.parametrize("hangs", sampled(["a function", "a cell"], 2))
def test_total_time_limit_still_graded(hangs: str, lab: Lab, release: NotebookNode, reference: Reference) -> None:
    """When the total time is used up, the remaining checks fail with that reason."""
    freeze = f"def freeze_layers(model, n_trainable):\n    {HANGS}" if hangs == "a function" else FREEZE
    notebook = notebook_of(Solution("x", sources={"freeze_layers": freeze}), release)
    notebook.cells.append(nbformat.v4.new_code_cell("print('below')"))
    if hangs == "a cell":
        notebook.cells.insert(4, nbformat.v4.new_code_cell(HANGS))
    short = dataclasses.replace(lab, limits={**lab.limits, "total_seconds": SECONDS})
    grading = grade(NormalizedSubmission(notebook), short, reference, default_launcher(), seed=5)
    assert {result.outcome for result in grading.results} <= {"failed", "skipped"}
    used_up = f"the time for the whole submission, {SECONDS} seconds, is used up"
    assert used_up in {result.failure.seen for result in grading.results if result.failure}
    assert notebook.cells[-1].outputs[0].evalue == f"not run: {used_up}"
