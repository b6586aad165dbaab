"""Scores and reports in the check cells of a graded notebook."""

from __future__ import annotations

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.utils import determine_grade

from amllab.checks.results import CheckResult
from amllab.protocol.failure import Failure
from autograder.grading.mistakes import Recognised
from autograder.grading.report_cells import write_report
from autograder.grading.result import GradingResult
from autograder.notebooks.metadata import STORED, score_of

FAILURE = Failure("12 trainable tensors", "10", "the head has to learn", symptom="head frozen", share=0.6)
GRADING = GradingResult(
    [
        CheckResult("test_a", "The model is returned.", "check_x", 2, "passed"),
        CheckResult("test_b", "The head learns.", "check_x", 3, "failed", FAILURE),
        CheckResult("test_c", "Of another cell.", "check_y", 5, "passed"),
    ],
    seed=1 << 60,
    seconds=2.0,
    notes=["renamed"],
    mistakes={"check_x": Recognised(("freezes the head",))},
)


def cell(points: float) -> NotebookNode:
    """Return a check cell with an output of its own, which claims all points."""
    marks = {"grade_id": "check_x", "grade": True, "solution": False, "locked": True, "points": points}
    claimed = new_output("execute_result", data={"text/plain": "5"}, execution_count=1)
    return new_code_cell("check('x')", metadata={"nbgrader": marks}, outputs=[claimed])


def test_report_score() -> None:
    """The only result is what the checks of the cell earned, for the grader and for nbgrader."""
    written = cell(5)
    write_report(written, GRADING, "a note", with_submission=False)
    assert score_of(written) == 3.5  # 2, and 60 % of 3 rounded down to halves
    assert determine_grade(written) == (3.5, 5)


def test_report_text() -> None:
    """The report has the checks of the cell, with their points, the known mistake and the note."""
    written = cell(5)
    write_report(written, GRADING, "a note", with_submission=False)
    data = written.outputs[0]["data"]
    for text in data["text/plain"], data["text/html"]:
        for part in (
            "The model is returned.",
            "The head learns.",
            "12 trainable tensors",
            "freezes the head",
            "a note",
        ):
            assert part in text
        assert "Of another cell." not in text


@pytest.mark.parametrize("with_submission", [True, False])
def test_report_stored_data(with_submission: bool) -> None:
    """Other commands find the checks, the mistake and, in one cell, the submission; the seed survives JavaScript."""
    written = cell(5)
    write_report(written, GRADING, "", with_submission=with_submission)
    stored = written.outputs[0]["metadata"][STORED]
    assert [(c["name"], c["points"], c["earned"], c["symptom"]) for c in stored["checks"]] == [
        ("test_a", 2, 2, ""),
        ("test_b", 3, 1.5, "head frozen"),
    ]
    assert stored["mistakes"] == [{"name": "freezes the head"}]
    assert ("submission" in stored) is with_submission
    if with_submission:
        assert (stored["submission"]["seed"], stored["submission"]["notes"]) == (str(1 << 60), ["renamed"])


def test_report_points_of_the_cell() -> None:
    """A cell with other points than its checks is refused."""
    with pytest.raises(ValueError, match="check_x: the checks are worth 5 points, but the cell 4"):
        write_report(cell(4), GRADING, "", with_submission=False)
