"""Outputs of notebooks that test themselves are cleaned, and nbgrader reads the same points from them."""

from __future__ import annotations

import itertools
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.utils import determine_grade

from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import LEFT_OUT
from autograder.stock.outputs import clean
from tests.conftest import sampled
from tests.helpers.stock_courses import locked_test

new = nbformat.v4.new_output
FLOOD = "x" * 50_000
KINDS = {
    "stdout": [new("stream", name="stdout", text="hello\n")],
    "stderr": [new("stream", name="stderr", text="careful\n")],
    "empty stderr": [new("stream", name="stderr", text="")],
    "overwritten stderr": [new("stream", name="stderr", text="50 %\r")],
    "error": [new("error", ename="ValueError", evalue="x", traceback=["a", "b"])],
    "long error": [new("error", ename="ValueError", evalue=FLOOD, traceback=[FLOOD])],
    "number": [new("execute_result", data={"text/plain": "0.5"}, execution_count=3)],
    "zero": [new("execute_result", data={"text/plain": "0"}, execution_count=3)],
    "text": [new("execute_result", data={"text/plain": "'a'"}, execution_count=3)],
    "html": [new("execute_result", data={"text/plain": "<T>", "text/html": "<script>1</script><b>x</b>"})],
    "long": [new("execute_result", data={"text/plain": FLOOD})],
    "script": [new("display_data", data={"application/javascript": "alert(1)"})],
    "flood": [new("stream", name="stdout", text=FLOOD)],
    "many": [new("display_data", data={"text/plain": str(i)}) for i in range(300)],
    "nothing": [],
}


def points(outputs: list[NotebookNode]) -> float | None:
    cell = locked_test("test", "", 2)
    cell.outputs = outputs
    return determine_grade(cell)[0]


def cleaned(outputs: list[Any], limit: int = 10_000) -> list[NotebookNode]:
    with limited():
        return clean(outputs, limit, {"/secret/course": "course"})


@pytest.mark.parametrize("first", sampled(KINDS, 4))
def test_clean_keeps_points(first: str) -> None:
    """However much there is, and in whatever order: the points stay the same, and the outputs are valid."""
    for second, third in itertools.product(KINDS, ("nothing", "stderr", "flood")):
        outputs = [*KINDS[first], *KINDS[second], *KINDS[third]]
        found = cleaned(outputs)
        assert points(found) == points(outputs), (first, second, third)
        cell = nbformat.v4.new_code_cell(outputs=found)
        nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
        assert len(str(found)) < 200_000


def test_clean_removes_active_content() -> None:
    """Scripts and paths of the machine are removed, and what is too long is cut and says so."""
    text = str(cleaned([*KINDS["html"], *KINDS["script"], *KINDS["flood"]]))
    assert "<b>x</b>" in text
    assert "script" not in text.replace("text/html", "")
    assert LEFT_OUT in text
    assert cleaned([new("stream", name="stdout", text="in /secret/course/x")])[0].text == "in course/x"


JUNK = [None, 3, "x", [], {}, {"output_type": 5}, {"output_type": "stream"}, {"output_type": "error"},
        {"output_type": "error", "traceback": 3}, {"output_type": "execute_result"},
        {"output_type": "execute_result", "data": {"text/plain": 3}}, {"output_type": "display_data", "data": 5},
        {"output_type": "stream", "name": "stderr", "text": [1]}]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_clean_junk(junk: object) -> None:
    """A worker can send anything: it becomes valid outputs, and an error stays an error."""
    found = cleaned([junk, *KINDS["stdout"]])
    nbformat.validate(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=found)]))
    if isinstance(junk, dict) and junk.get("output_type") == "error":
        assert points(found) == 0
