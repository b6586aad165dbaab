"""The worker: hanging, dying and lying submissions cost only what they break."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from amllab.checks.lab import Lab
from amllab.checks.submission import SubmissionError
from autograder.worker import Worker, _read_regular_file

FREEZE = "def freeze_layers(model, n):\n    {body}\n    return model"
QUESTION = {"backbone": "net6", "seed": 1, "calls": [1]}


def notebook(*sources: str) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


@pytest.fixture
def hasty(lab: Lab) -> Lab:
    """The lab with limits of a few seconds."""
    return dataclasses.replace(lab, limits={**lab.limits, "cell_seconds": 8, "answer_seconds": 8})


def test_runs_cells_and_answers(lab: Lab) -> None:
    nb = notebook(
        "import warnings, sys; warnings.warn('w'); print('to stderr', file=sys.stderr)",
        "1 / 0",
        FREEZE.format(body="pass"),
    )
    with Worker(lab, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
        scratch = worker.scratch
        assert scratch.is_dir()
    assert not scratch.exists()
    assert got["same_object"] is True
    assert nb.cells[1].outputs[0].ename == "ZeroDivisionError"


def test_cells_that_hang_or_end_the_process_cost_only_themselves(hasty: Lab) -> None:
    nb = notebook("while True: pass", FREEZE.format(body="pass"), "import os; os._exit(3)")
    with Worker(hasty, nb) as worker:
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["same_object"] is True
    assert "stopped after 8 seconds" in nb.cells[0].outputs[0].evalue
    assert "ended the Python process" in nb.cells[2].outputs[0].evalue


def test_answers_that_hang_or_end_the_process_leave_the_others(hasty: Lab) -> None:
    nb = notebook(
        FREEZE.format(body="while n == 1: pass"),
        "def build_transfer_model(backbone, num_classes, n):\n    import os; os._exit(1)",
    )
    with Worker(hasty, nb) as worker:
        with pytest.raises(SubmissionError) as slow:
            worker.ask("freeze", **QUESTION)
        with pytest.raises(SubmissionError) as dead:
            worker.ask("build", backbone="net6", num_classes=3, n_trainable=1, seed=1)
        (got,) = worker.ask("freeze", **{**QUESTION, "calls": [2]})
    assert slow.value.kind == "timeout"
    assert "8 seconds" in slow.value.failure.seen
    assert dead.value.kind == "died"
    assert got["same_object"] is True


def test_errors_name_the_line_of_the_submission(lab: Lab) -> None:
    train = "def train_with_early_stopping(*a, **k):\n    return {}['nothing']"
    freeze = "def freeze_layers(model, n):\n    return model"
    with Worker(lab, notebook(freeze, train)) as worker:
        with pytest.raises(SubmissionError) as info:
            worker.ask("train_frozen", backbone="net6", n_trainable=1, seed=0, freezing=None)
        assert info.value.kind == "raised"
        assert "KeyError" in info.value.failure.seen
        assert "return {}['nothing']" in info.value.failure.seen


def test_the_worker_knows_little_of_the_grader(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_SECRET", "swordfish")
    nb = notebook("import os; print(sorted(os.environ), os.getcwd())")
    with Worker(lab, nb) as worker:
        assert worker.scratch.name in nb.cells[0].outputs[0].text
    assert "COURSE_SECRET" not in nb.cells[0].outputs[0].text


def test_answer_files_are_plain_and_of_limited_size(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    assert _read_regular_file(tmp_path / "large", 100) == b"x" * 100
    for name, limit in (("large", 99), ("link", 1000), ("missing", 10)):
        with pytest.raises(OSError, match=r"."):
            _read_regular_file(tmp_path / name, limit)
