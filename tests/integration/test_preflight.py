"""The preflight runs what grading runs, and reports in the notebook and in the terminal."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

import amllab
from amllab.checks.results import CheckResult
from amllab.lab import Lab
from amllab.preflight import kernel_submission as fresh
from amllab.preflight import run as flight
from amllab.preflight.__main__ import main
from amllab.preflight.document import Cell, Document
from amllab.preflight.inspections import Finding, inspect_runs
from amllab.preflight.kernel_submission import FreshSubmission
from amllab.preflight.packages import lacking_modules
from amllab.preflight.report import Preflight
from amllab.protocol.failure import Failure
from amllab.worker.environment import SETTINGS
from autograder.grading.worker import Worker
from tests.conftest import NOTEBOOK, SMALL
from tests.helpers.preflight_findings import SOLUTION, cell_of, plain, texts


def test_preflight_environment_of_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight and a worker give a notebook the variables that the lab declares, and those of all labs."""
    monkeypatch.setattr(fresh, "_PREPARE", "pass")  # faster without PyTorch
    declared = {"ONE": "1", "AMLLAB_DATA": "drawn", "OMP_NUM_THREADS": "7", "PATH": "/nowhere", "TMPDIR": "/nowhere"}
    other = dataclasses.replace(lab, settings={**lab.settings, "environment": declared})
    names = ("ONE", "AMLLAB_DATA", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "AMLLAB_PROGRESS")
    source = f"import os; print([os.environ.get(name) for name in {names}], '/nowhere' in os.environ.values())"
    cell = nbformat.v4.new_code_cell(source)
    with Worker(other, nbformat.v4.new_notebook(cells=[cell])):
        assert "".join(output["text"] for output in cell.outputs) == "['1', 'drawn', '1', '1', '', '0'] False\n"
    own = "import os\nassert '/nowhere' not in os.environ.values()\n"
    own += f"assert [os.environ.get(name) for name in {names}] == ['1', 'drawn', '1', '1', '', '0']"
    raw = {"cell_type": "code", "source": own}
    with FreshSubmission(other, [Cell.read(raw, was_run=False, output_bytes=0, heading="")]) as submission:
        assert [run.error for run in submission.runs] == [""]


def test_environment_of_lab_1(lab: Lab) -> None:
    """Lab 1 declares the synthetic images; no lab gets them without asking."""
    assert lab.environment == {"AMLLAB_DATA": "drawn"}
    assert "AMLLAB_DATA" not in SETTINGS


@pytest.mark.parametrize("in_preflight", [False, True], ids=["worker", "preflight"])
def test_threads_are_not_the_next_cells(lab: Lab, in_preflight: bool) -> None:
    """A cell is not blamed for threads that answers started, nor for the thread of a progress bar.

    Otherwise it would be watched for a second.
    """
    leaves = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    bar = "import tqdm; next(iter(tqdm.tqdm([1, 2])))"
    sources = [f"def freeze_layers(model, n):\n    {leaves}\n    return model", "x = 1", bar, leaves]
    checks = {"check_freeze_layers": 1}
    if in_preflight:
        raws = [{"cell_type": "code", "source": source} for source in sources]
        mine = [Cell.read(raw, was_run=False, output_bytes=0, heading="") for raw in raws]
        submission: FreshSubmission | Worker = FreshSubmission(lab, mine, checks)
    else:
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        locked = {"grade": True, "solution": False, "locked": True, "points": 1, "schema_version": 3}
        cells.insert(1, nbformat.v4.new_code_cell(metadata={"nbgrader": {**locked, "grade_id": next(iter(checks))}}))
        submission = Worker(lab, nbformat.v4.new_notebook(cells=cells))
    with submission:
        submission.reach("check_freeze_layers")
        (got,) = submission.ask("freeze", backbone="net6", calls=[1])
        submission.run_rest()
        assert (got["returned"], submission.reached) == ("model", len(sources))
        assert list(submission._running_on) == [len(sources) - 1]


SHORT_TRAINING = f"""
from amllab.checks.transfer_learning import accuracy_task
from amllab.kit import task

budget_of = accuracy_task.budget_of
accuracy_task.budget_of = lambda lab: budget_of(lab) | {SMALL}
task.calibrations = lambda own: {{own.data: {{"budget": own.budget, "thresholds": {{"start": 0.0, "full": 0.01}}}}}}
"""


@dataclass
class Finished:
    """Outputs of preflights in a real kernel, and the processor time that they took in total.

    Attributes:
        saved: of a finished notebook.
        unsaved: called from a cell that the file does not have.
        seconds: of all processes, including the notebook's.
    """

    saved: list[NotebookNode]
    unsaved: list[NotebookNode]
    seconds: float


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("student")
    path = folder / NOTEBOOK
    notebook = nbformat.read(SOLUTION, as_version=4)
    # as the notebook server does; a short training suffices
    tell = f"import os\nos.environ['JPY_SESSION_NAME'] = {str(path)!r}\n{SHORT_TRAINING}"
    ask = "import amllab\nreport = amllab.preflight()\nreport"
    notebook.cells.append(nbformat.v4.new_code_cell(ask))
    nbformat.write(notebook, path)
    client = NotebookClient(
        nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, (tell, ask, f"{ask}  # not saved")))),
        timeout=900,
        resources={"metadata": {"path": str(folder)}},
    )
    before = os.times()
    client.execute()
    after = os.times()
    outputs = [cell.outputs for cell in client.nb.cells[1:]]
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return Finished(*outputs, seconds)


def test_preflight_in_notebook(finished: Finished) -> None:
    """In a kernel a finished notebook gets one panel, in limited processor time."""
    (output,) = finished.saved  # one panel, and nothing above it
    text, panel = output.data["text/plain"], output.data["text/html"]
    assert text.startswith(f"Ready: nothing to fix in {NOTEBOOK}, and all public checks passed.")
    assert re.search(r"run again without experiments in \d+ s\.$", text)
    # 12 s on an idle machine; wall time means nothing on a busy one
    assert finished.seconds < 45
    assert "#d55e00" not in panel
    assert "style=" in panel
    assert "color:#000" not in panel


def test_preflight_points_match_checks(finished: Finished, lab: Lab) -> None:
    """The points in the panel are those of the public checks and of the release."""
    text = finished.saved[0].data["text/plain"]
    rows = re.findall(r"^  (\w+) +(\d+) of +(\d+)  \+ (\d+), hidden checks$", text, re.M)
    public: dict[str, int] = {}
    for file in lab.folder.glob("test_*.py"):
        points = map(int, re.findall(r"mark\.points\((\d+)\)", file.read_text()))
        public[file.stem.removeprefix("test_")] = sum(points)
    assert {name: int(got) for name, got, _, _ in rows} == public
    assert {name: int(most) for name, _, most, _ in rows} == public
    assert sum(int(most) + int(further) for _, _, most, further in rows) == 90
    assert "+ 10, graded by a person" in text


def test_preflight_unsaved_notebook(finished: Finished) -> None:
    """A notebook with unsaved changes has to be saved first."""
    (output,) = finished.unsaved
    assert output.data["text/plain"].startswith("Save the notebook (Ctrl+S, or ⌘S), then run this cell again")


def test_preflight_notebook_with_mistakes(
    solution: NotebookNode, saved: Callable[[NotebookNode], Document], capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal report of one notebook with wrong, renamed and failing functions and a failing cell."""
    cell = cell_of(solution, "freeze_layers")
    cell.source = cell.source.replace("i >= first_trainable", "i > first_trainable")
    cell = cell_of(solution, "build_transfer_model")
    cell.source = cell.source.replace("def build_transfer_model", "def build")
    cell_of(
        solution, "train_with_early_stopping"
    ).source = "def train_with_early_stopping(*args, **kwargs):\n    torch.equal = max\n    raise KeyError('val')"
    behind = next(i for i, cell in enumerate(solution.cells) if cell.source.startswith("QUICK = False")) + 1
    solution.cells.insert(behind, nbformat.v4.new_code_cell("open('notes.txt')\n"))
    looked = saved(solution)
    assert main([str(looked.path)]) == 1
    text = capsys.readouterr().out
    assert "4 things to fix" not in text
    for part in (
        "✗ There is no function `build_transfer_model` after the notebook has run. Its cell defines `build`",
        "✗ The cell `open('notes.txt')` (under The data) ended with an error in a fresh process: FileNotFoundError",
        "freeze_layers                 4 of 10  + 10, hidden checks",
        "build_transfer_model          0 of 10",
        "✗ Exactly the last `n_trainable` layers can be trained",
        "the notebook replaces `torch.equal`",
    ):
        assert part in text
    assert "waits for this check" not in text


@pytest.mark.slow
def test_preflight_hanging_and_exiting_cells(
    solution: NotebookNode,
    saved: Callable[[NotebookNode], Document],
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cells that hang or end the process affect only themselves."""
    monkeypatch.setattr(fresh, "_PREPARE", "pass")  # three processes: faster if none loads PyTorch
    endless, deadly = "import time; time.sleep(600)", "import os; os._exit(1)"
    keep = [cell for cell in solution.cells if cell.id in ("cell-000",)]
    sources = (endless, "import time; time.sleep(3)", deadly, "def freeze_layers(model, n_trainable): return 3")
    solution.cells = [*keep, *map(nbformat.v4.new_code_cell, sources)]
    looked = saved(solution)
    mine = [cell for cell in looked.to_run() if cell.source in sources]
    limits = {**lab.limits, "cell_seconds": 8, "answer_seconds": 8}
    with FreshSubmission(Lab(**{**vars(lab), "limits": limits}), mine) as submission:
        assert [run.state for run in submission.runs] == ["timeout", "ok", "died", "ok"]
        assert submission.defined(["freeze_layers", "build_transfer_model"]) == {"freeze_layers"}
        hung, slow, died = [f.text for f in inspect_runs(looked, submission.runs, limits)]
    assert hung.startswith("The cell `import time; time.sleep(600)`")
    assert "stopped after 8 s" in hung
    assert "grading stops a cell after 8 s" in slow
    assert died.endswith("ended the Python process: grading skips it.")
    assert not Path(submission._folder.name).exists()


@pytest.mark.slow
def test_preflight_exiting_notebook(
    solution: NotebookNode, saved: Callable[[NotebookNode], Document], lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exiting cells affect only themselves, as in grading; a missing package is reported."""
    train = cell_of(solution, "train_with_early_stopping")
    train.source = "import xyzzy.deep as x\n" + train.source
    accuracy = solution.cells.index(cell_of(solution, "check_accuracy"))
    mine = (
        "freeze_layers = freeze_layers(load_backbone('net6'), 1)",
        "exit()",
        "import this",
        "get_ipython().kernel.do_shutdown(False)",
    )
    for place, source in zip((accuracy + 1,) * 3 + (3,), mine, strict=True):
        solution.cells.insert(place, nbformat.v4.new_code_cell(source))
    looked = saved(solution)
    report = flight._run(looked, lab, [])
    points = {row.name: (row.earned, row.public) for row in report.rows if row.public}
    assert points == {
        "freeze_layers": (10, 10),
        "build_transfer_model": (10, 10),
        "train_with_early_stopping": (0, 15),
        "accuracy": (0, 8),
    }
    found = texts(report.findings)
    assert len(found) == 5
    assert found[0].startswith("The notebook imports `xyzzy`, which is not installed for grading")
    assert sum(text.endswith("ended the Python process: grading skips it.") for text in found) == 2
    assert (
        "because its cell failed with ModuleNotFoundError: No module named 'xyzzy' (line 1: import xyzzy.deep as x)"
        in " ".join(found)
    )


def test_preflight_missing_packages(lab: Lab) -> None:
    """Imports of packages that grading does not have are found."""
    sources = [
        "import torch, numpy as np, matplotlib.pyplot as plt\nfrom amllab import plots\nimport os.path, PIL.Image, yaml",
        "%matplotlib inline\n!pip install einops\nimport jupyterlab\nfrom nbgrader.api import Gradebook",
        "try:\n    import wandb\nexcept ImportError:\n    wandb = None",
        "def f():\n    from lightning.pytorch import Trainer\n    from . import mine",
        "%%writefile helper.py\nimport strange",
        "import helper\nopen('other.py', 'w').write('x = 1')\nimport other",
        "import cut off (",
        "%%time\nimport einops",
    ]
    assert lacking_modules(lab, sources) == {"jupyterlab", "nbgrader", "lightning", "einops"}
    added = dataclasses.replace(lab, settings={**lab.settings, "packages": ["lightning>=2", "einops", "jupyterlab"]})
    assert lacking_modules(added, sources) == {"nbgrader"}


def test_preflight_panel_matches_text() -> None:
    """The panel and the text report have the same content."""
    failure = Failure("2 layers", "<b>3</b> layers", "it `matters`", "Exercise 1")
    results = [
        CheckResult("test_a", "Works & returns.", "check_a", 4, "failed", failure),
        CheckResult("test_b", "Refuses.", "check_a", 1, "passed"),
        CheckResult("test_c", "Is there.", "check_c", 2, "failed", Failure("a", "b", "c", symptom="missing")),
    ]
    findings = [Finding("fix", "No `f` <i>."), Finding("note", "By the way.")]
    report = Preflight(
        SOLUTION, "A lab", findings, results, {"check_a": 7.0, "check_c": 3.0, "reflection": 10.0}, seconds=3
    )
    assert not report.is_ready
    text, panel = repr(report), plain(report)
    for part in (
        f"{NOTEBOOK}: 1 thing to fix, 2 of 3 public checks did not pass.",
        "No `f` <i>.",
        "By the way.",
        "1 of 7 points in the public checks. Grading adds hidden checks for 3 points and 10 points graded by a person.",
        "Works & returns.",
        "<b>3</b> layers",
        "+ 2, hidden checks",
        "+ 10, graded by a person",
        "run again without experiments in 3 s.",
    ):
        assert part in text
        assert "".join(part.replace("`", " ").split()) in "".join(panel.split())
    assert "Is there." not in text + panel
    assert "<i>" not in report._repr_html_().replace("&lt;i&gt;", "")


def test_preflight_not_recursive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preflight that is called within a preflight ends at once."""
    monkeypatch.setenv(fresh.VARIABLE, "1")
    assert "fresh process" in amllab.preflight(SOLUTION).problem
