"""Submitted outputs stay visible if running a cell again cannot reproduce them, and they never count."""

from __future__ import annotations

import base64
import copy
import io
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from autograder.grading.submitted_outputs import with_submitted
from autograder.labs.corpus import Solution
from tests.conftest import ASSIGNMENT, autograded, nbgrader, new_course, report, scores, submit
from tests.helpers.notebooks import notebook_of


def png() -> str:
    """Return a small picture as base64."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


PNG = png()
STUBS = Solution(
    "stubs", sources=dict.fromkeys(("freeze_layers", "build_transfer_model", "train_with_early_stopping"), "")
)
AS_SUBMITTED = "The outputs below are those that were submitted"


def picture() -> NotebookNode:
    return nbformat.v4.new_output(
        "display_data", data={"image/png": PNG, "text/html": "<b>mine</b><script>x()</script>"}
    )


def figure() -> NotebookNode:
    return nbformat.v4.new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})


def printed(text: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def error() -> NotebookNode:
    return nbformat.v4.new_output("error", ename="NameError", evalue="name 'sweep' is not defined", traceback=["..."])


CELLS = {
    "plot(sweep_histories)  # mine": picture(),
    "import os; os._exit(1)": printed("a table"),
    "if 'few_transfer' in globals(): print('a table')": printed("a table"),
    "print('from grading')": printed("from the student"),
    "open('nothing')": error(),
    "  \n": printed("20 of 20 points"),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> Path:
    course = new_course(tmp_path_factory.mktemp("course"))
    nb = notebook_of(STUBS, release)
    for source, output in CELLS.items():
        nb.cells.append(nbformat.v4.new_code_cell(source, outputs=[output]))
    # an edited experiment that lost its tag; the others keep theirs
    (sweep,) = [cell for cell in nb.cells if cell.source.startswith("sweep_histories, sweep_models")]
    sweep.metadata.tags, sweep.source, sweep.outputs = [], sweep.source.replace("for n in", "for n  in"), [figure()]
    # forged results
    (check,) = [c for c in nb.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == "check_freeze_layers"]
    check.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": "20"}, execution_count=1)]
    submit(course, "ada", nb)
    again = copy.deepcopy(nb)
    again.cells[-6].outputs = [printed("another picture")]
    submit(course, "ada_again", again)
    for command in (("autograde", ASSIGNMENT), ("generate_feedback", ASSIGNMENT)):
        done = nbgrader(course, *command)
        assert done.returncode == 0, done.stderr[-3000:]
    return course


def shown(course: Path, source: str, student: str = "ada") -> list[NotebookNode]:
    (cell,) = [cell for cell in autograded(course, student).cells if cell.source.startswith(source)]
    return list(cell.outputs)


def test_outputs_not_reproducible_kept(graded: Path) -> None:
    """Outputs that grading cannot reproduce are shown as submitted, with a note."""
    note, plot = shown(graded, "plot(sweep_histories)")
    assert "NameError: name 'plot' is not defined" in note.data["text/plain"]
    assert AS_SUBMITTED in note.data["text/plain"]
    assert plot.data["image/png"] == PNG
    assert "<script" not in plot.data["text/html"]
    note, table = shown(graded, "import os; os._exit")
    assert "this cell ended the Python process" in note.data["text/plain"]
    assert table.text == "a table"
    assert [o.get("text") for o in shown(graded, "if 'few_transfer' in")][1:] == ["a table"]
    assert shown(graded, "sweep_histories, sweep_models")[1].data["image/png"] == PNG
    (page,) = graded.glob(f"feedback/ada/{ASSIGNMENT}/*.html")
    html = page.read_text()
    assert f"data:image/png;base64,{PNG}" in html.replace("\n", "")
    assert "<b>mine</b>" in html


def test_outputs_reproducible_replaced(graded: Path) -> None:
    """Outputs that grading can reproduce replace the submitted ones."""
    assert [o.text for o in shown(graded, "print('from grading')")] == ["from grading\n"]
    (only,) = shown(graded, "open('nothing')")
    assert only.ename == "FileNotFoundError"


def test_outputs_submitted_never_scored(graded: Path) -> None:
    """Submitted outputs give no points."""
    assert scores(graded, "ada")["check_freeze_layers"] == 0
    assert "0 of 20" in report(graded, "ada", "check_freeze_layers") or "0/20" in report(
        graded, "ada", "check_freeze_layers"
    )
    blank = [c for c in autograded(graded, "ada").cells if c.cell_type == "code" and not c.source.strip()]
    assert all(AS_SUBMITTED in c.outputs[0].data["text/plain"] for c in blank if c.outputs)


def test_outputs_kept_per_submission(graded: Path) -> None:
    """Each submission keeps its own outputs, even if the same code is graded from the cache."""
    assert [o.get("text") for o in shown(graded, "plot(sweep_histories)", "ada_again")][1:] == ["another picture"]


def test_outputs_fewer_pictures_not_replaced() -> None:
    """New outputs with fewer pictures do not replace the submitted ones."""
    made = [printed("no GPU")]
    assert with_submitted(made, [picture(), printed("no GPU")])[2:] == [picture(), printed("no GPU")]
    assert with_submitted([picture()], [picture(), printed("x")]) == [picture()]
    assert with_submitted([error()], [error()]) == [error()]
    assert with_submitted([], []) == []
