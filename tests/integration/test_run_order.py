"""A submission's functions are graded as they are at their check cell; later cells have no influence.

Whatever a notebook does after its check cells, grading always gives the points that the check cells show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import nbformat
import pytest
from nbformat import NotebookNode

from amllab.checks.results import CheckResult, score
from amllab.checks.runner import run_checks
from amllab.lab import Lab
from amllab.protocol.submission import SubmissionError
from autograder.checks.transfer_learning.corpus import BUILD, FREEZE
from autograder.grading.reference import Reference
from autograder.grading.worker import Worker
from autograder.labs.locations import HIDDEN_CHECKS
from autograder.notebooks.metadata import skipped_cells
from autograder.sandbox.launcher import Tree
from tests.conftest import ASSIGNMENT, ROOT, sampled

CHECKS = ("check_freeze_layers", "check_build_transfer_model", "check_train_with_early_stopping", "check_accuracy")
FREEZING = {CHECKS[0]: 20.0}
UNTRAINED = FREEZING | {CHECKS[1]: 20.0}
QUESTION = {"backbone": "net6", "calls": [1]}


@pytest.fixture(scope="module")
def references(lab: Lab) -> Iterator[Reference]:
    reference = Reference(lab, ROOT / "solutions" / ASSIGNMENT / f"{lab.notebook}.ipynb")
    yield reference
    reference.close()


@pytest.fixture
def short(lab: Lab) -> Lab:
    """Return the lab with limits of a few seconds."""
    return dataclasses.replace(lab, limits={**lab.limits, "cell_seconds": 20, "answer_seconds": 30})


def code(source: str, grade_id: str = "") -> NotebookNode:
    nbgrader = {
        "grade": True,
        "solution": False,
        "locked": True,
        "points": 1,
        "grade_id": grade_id,
        "schema_version": 3,
    }
    return nbformat.v4.new_code_cell(source, metadata={"nbgrader": nbgrader} if grade_id else {})


def notebook(*cells: NotebookNode | str) -> NotebookNode:
    """Return a notebook of these cells; a grade id becomes its check cell."""
    made = [code("check(...)", c) if c in CHECKS else code(c) if isinstance(c, str) else c for c in cells]
    return nbformat.v4.new_notebook(cells=made)


def place(notebook: NotebookNode, grade_id: str) -> int:
    ids = [(cell.metadata.get("nbgrader") or {}).get("grade_id") for cell in notebook.cells]
    return ids.index(grade_id)


SETUP = "import torch\nfrom torch import nn\nfrom amllab import evaluate, layers_of, load_backbone"


def checked(
    lab: Lab, reference: Reference, nb: NotebookNode, *cells: str
) -> tuple[dict[str, float], list[CheckResult], Worker]:
    """Run public and hidden checks of some cells; return points by cell, results and worker."""
    files = [
        file
        for folder in (lab.folder, HIDDEN_CHECKS / lab.name)
        for cell in cells
        for file in sorted(folder.glob(f"test_{cell.removeprefix('check_')}*.py"))
    ]
    with Worker(lab, nb, skipped_cells(nb)) as worker:
        results = run_checks(lab, files, worker, reference=lambda: reference, seed=5)
        worker.run_rest()
    return {cell: score(results, cell)[0] for cell in cells}, results, worker


LATER = (
    "evaluate = load_backbone = layers_of = 3",
    "def freeze_layers(model, n_trainable):\n    return None  # an open question of the notebook",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_grad_enabled(False)",
    "nn.Linear = nn.Module.parameters = torch.equal = None",
    "nn.modules.module.register_module_forward_hook(lambda *_: 1 / 0)",
    "import random, warnings, os\nrandom.seed(0); torch.manual_seed(0)\nwarnings.simplefilter('error')\nos.chdir('/')\nos.environ.clear()",
    "print('the last one')",
)


def test_run_order_later_cells_ignored(lab: Lab, references: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells after a check cell do not affect its result, and a proper submission needs one process."""
    started: list[Worker] = []

    def start(self: Worker, begin: Callable[[Worker], Tree] = Worker._started) -> Tree:
        started.append(self)
        return begin(self)

    monkeypatch.setattr(Worker, "_started", start)
    nb = notebook(
        SETUP, FREEZE, CHECKS[0], "freeze_layers = freeze_layers(load_backbone('net6'), 1)", BUILD, CHECKS[1], *LATER
    )
    points, results, worker = checked(lab, references, nb, *CHECKS[:2])
    assert points == UNTRAINED, [r for r in results if r.outcome != "passed"]
    assert nb.cells[-1].outputs[0]["text"] == "the last one\n"
    assert worker.left_out == {}
    assert started.count(worker) == 1


@pytest.mark.slow
def test_run_order_late_definitions(lab: Lab, references: Reference) -> None:
    """Functions that are defined after their check cell are checked at the end of the notebook."""
    stubs = ("def freeze_layers(model, n_trainable):\n    raise NotImplementedError()", "raise KeyError")
    middle = "def freeze_layers(model, n_trainable):\n    return helper(model, n_trainable)"
    helper = FREEZE.replace("def freeze_layers", "def helper")
    for cells in (
        (SETUP, stubs[0], CHECKS[0], stubs[1], CHECKS[1], "order = 3", FREEZE + BUILD),  # all in the last cell
        (CHECKS[1], CHECKS[0], SETUP, BUILD, FREEZE),  # check cells on top, and in another order
        (SETUP, middle, BUILD, CHECKS[0], CHECKS[1], helper),  # what a function calls
    ):
        points, results, _ = checked(lab, references, notebook(*cells), *CHECKS[:2])
        assert points == UNTRAINED, [r for r in results if r.outcome != "passed"]


def test_run_order_later_fix_ignored(lab: Lab, references: Reference) -> None:
    """The version at the check cell counts, even if a later cell fixes it."""
    wrong = FREEZE.replace("return model", "return None")
    points, _, _ = checked(lab, references, notebook(SETUP, wrong, CHECKS[0], FREEZE), CHECKS[0])
    assert points[CHECKS[0]] < 20


def test_run_order_exiting_question(short: Lab) -> None:
    """Questions that end the process do not run cells after the check cell."""
    deadly = "def freeze_layers(model, n):\n    import os\n    return os._exit(1) if n == 1 else model"
    nb = notebook("calls = []", deadly, CHECKS[0], "freeze_layers = None", "print(len(calls))")
    with Worker(short, nb) as worker:
        for _ in range(2):
            worker.reach(CHECKS[0])
            with pytest.raises(SubmissionError, match="died"):
                worker.ask("freeze", **QUESTION)
            (got,) = worker.ask("freeze", backbone="net6", calls=[2])
            assert got["returned"] == "model"
        worker.run_rest()
    assert nb.cells[-1].outputs[0]["text"] == "0\n"


def test_run_order_reference(lab: Lab, tmp_path: object) -> None:
    """The reference is asked at the position of its check cells too."""
    nb = notebook(SETUP, FREEZE, CHECKS[0], "def freeze_layers(model, n):\n    return None", CHECKS[1])
    path = tmp_path / "solution.ipynb"  # type: ignore[operator]
    nbformat.write(nb, path)
    reference = Reference(lab, path)
    answers = []
    try:
        for calls in ([1], [2], [3]):  # several submissions
            for cell in CHECKS[:2]:
                reference.reach(cell)
                (got,) = reference.ask("freeze", backbone="net6", calls=calls)
                answers.append(got["returned"] == "model")
        assert answers == [True, False] * 3
        assert len(reference._workers) == 2
    finally:
        reference.close()


ENDING = {
    "exit()": "at once",
    "get_ipython().kernel.do_shutdown(restart=False)": "at once",
    "import threading; threading.Thread(target=exit).start()": "at once",
    "import asyncio; asyncio.get_event_loop().call_later(2.5, os._exit, 0)": "later",
}
HARMLESS = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"


@pytest.mark.slow
def test_delayed_exit_blamed_once(short: Lab) -> None:
    """A cell that ends the process later is named once; questions, other cells and harmless threads lose nothing."""
    pause = "import time; time.sleep(3)"
    nb = notebook(
        f"import os; {HARMLESS}",
        *ENDING,
        pause,
        FREEZE.replace("layers_of", "list"),
        CHECKS[0],
        "%%capture\nexit()",
        "x = 1",
    )
    nb.cells[len(ENDING) + 2].source = "def freeze_layers(model, n):\n    return model"
    with Worker(short, nb) as worker:
        worker.reach(CHECKS[0])
        got = [worker.ask("freeze", backbone="net6", calls=[n])[0]["returned"] == "model" for n in (1, 2, 3)]
        worker.run_rest()
    assert got == [True] * 3
    assert sorted(worker.stopped) == [1, 2, 3, 4, 8]
    assert set(worker.stopped.values()) == {"this cell ended the Python process"}


@pytest.mark.slow
def test_delayed_exit_any_delay(short: Lab) -> None:
    """A cell that ends the process later gets as many processes as its answers take; then it is left out."""
    slow = "import os, threading, time\nthreading.Timer(2.5, os._exit, [0]).start()\ndef freeze_layers(model, n):\n    time.sleep(0.7)\n    return model"
    with Worker(short, notebook(slow, CHECKS[0], "x = 1")) as worker:
        worker.reach(CHECKS[0])
        got = [worker.ask("freeze", backbone="net6", calls=[n])[0]["returned"] == "model" for n in range(6)]
        worker.run_rest()
    assert got == [True] * 6
    assert worker.stopped == {0: "this cell ended the Python process"}


def test_exiting_question_fails_alone(short: Lab) -> None:
    """Only the question that ends the process fails."""
    leaving = "def freeze_layers(model, n):\n    if n == 1:\n        exit()\n    return model"
    with Worker(short, notebook(leaving, CHECKS[0])) as worker:
        worker.reach(CHECKS[0])
        for n in (2, 1, 3, 0):
            if n == 1:
                with pytest.raises(SubmissionError, match="died"):
                    worker.ask("freeze", **QUESTION)
            else:
                (got,) = worker.ask("freeze", backbone="net6", calls=[n])
                assert got["returned"] == "model", n


CAUSES = {
    "import lightning\nfrom torch import nn\n"
    + FREEZE: "because its cell failed with ModuleNotFoundError: No module named 'lightning' (line 1: import lightning)",
    "def freeze_layers(model, n_trainable:\n    return model": "because its cell failed with SyntaxError: '(' was never closed (line 1: def freeze_layers(model, n_trainable:)",
    f"open('/nowhere/data.csv')\n{FREEZE}": "because its cell failed with FileNotFoundError",
    f"exit()\n{FREEZE}": "because its cell ended the Python process",
    f"import nothing_there as nt\n#\ndef other(): pass\n{FREEZE.replace('return model', 'return nt.f(model)')}": "ModuleNotFoundError",
}


@pytest.mark.parametrize("source", sampled(CAUSES, 4))
def test_missing_function_shows_cell_error(short: Lab, source: str) -> None:
    """A missing function is reported with the error of its cell."""
    with Worker(short, notebook(SETUP, source, CHECKS[0], "1 / 0")) as worker:
        worker.reach(CHECKS[0])
        with pytest.raises(SubmissionError) as info:
            worker.ask("freeze", **QUESTION)
    assert info.value.kind == "missing"
    assert info.value.failure.seen.startswith("`freeze_layers` is not defined because its cell ")
    assert CAUSES[source] in info.value.failure.seen


def test_missing_name_shows_cell_error(short: Lab) -> None:
    """A name that a function lacks is reported with the error of the cell that should define it."""
    nb = notebook("import lightning as L", "def freeze_layers(model, n):\n    return L.freeze(model, n)", CHECKS[0])
    with Worker(short, nb) as worker:
        worker.reach(CHECKS[0])
        with pytest.raises(SubmissionError) as info:
            worker.ask("freeze", **QUESTION)
    assert "`L` is not defined because its cell failed with ModuleNotFoundError" in info.value.failure.seen


def test_modules_written_by_notebook(short: Lab) -> None:
    """Modules that the notebook writes can be imported and reloaded."""
    nb = notebook(
        "%%writefile helper.py\ndef double(n):\n    return 2 * n",
        "import helper\nassert helper.double(2) == 4",
        "%%writefile helper.py\ndef double(n):\n    return 20 * n",
        "import importlib\nimportlib.reload(helper)\nassert helper.double(2) == 40",
        "import os\nos.mkdir('tools')\nopen('tools/__init__.py', 'w').close()\nopen('tools/more.py', 'w').write('def same(model, n):\\n    return model\\n')",
        "from tools.more import same as freeze_layers",
        CHECKS[0],
    )
    with Worker(short, nb) as worker:
        worker.reach(CHECKS[0])
        (got,) = worker.ask("freeze", **QUESTION)
    assert got["returned"] == "model"
    assert worker.errors == {}
