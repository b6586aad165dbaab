"""The preflight: sees what is missing, runs what grading runs, and says both in the notebook and in the terminal."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbformat import NotebookNode

import amllab
from amllab.checks.results import CheckResult
from amllab.lab import Lab, released_notebooks
from amllab.preflight import document
from amllab.preflight import inspections as looks
from amllab.preflight import kernel_submission as fresh
from amllab.preflight import run as flight
from amllab.preflight.__main__ import main
from amllab.preflight.document import Document, UnusableNotebookError, find_notebook, is_stub, read
from amllab.preflight.inspections import Finding, inspect_cells, inspect_functions, inspect_runs, unanswered
from amllab.preflight.kernel_submission import FreshSubmission
from amllab.preflight.packages import lacking_modules
from amllab.preflight.report import Preflight
from amllab.protocol.failure import Failure
from autograder.grading.worker import Worker
from autograder.notebooks.metadata import skipped_cells
from autograder.notebooks.normalize import normalize
from autograder.sandbox import launcher
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, examples

SOLUTION = ROOT / "solutions" / ASSIGNMENT / NOTEBOOK


@pytest.fixture
def solution() -> NotebookNode:
    return nbformat.read(SOLUTION, as_version=4)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[NotebookNode], Document]:
    def save(notebook: NotebookNode) -> Document:
        nbformat.write(notebook, tmp_path / NOTEBOOK)
        return read(tmp_path / NOTEBOOK)

    return save


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    (cell,) = [cell for cell in notebook.cells if (cell.metadata.get("nbgrader") or {}).get("grade_id") == grade_id]
    return cell


def texts(findings: list[Finding], level: str = "fix") -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def plain(report: Preflight) -> str:
    """The words of the panel."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", report._repr_html_())).split())


def test_preflight_uses_release() -> None:
    """The preflight compares with the release of the checkout; tests of bundle and packages cover the wheels."""
    assert released_notebooks()[f"{ASSIGNMENT}/{NOTEBOOK}"] == ROOT / "assignments" / ASSIGNMENT / NOTEBOOK


def test_preflight_environment_of_lab(lab: Lab) -> None:
    """The preflight and a worker give a notebook the variables that the lab declares, and those of all labs."""
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
    with FreshSubmission(other, [document.Cell.read(raw, was_run=False, output_bytes=0, heading="")]) as submission:
        assert [run.error for run in submission.runs] == [""]


def test_environment_of_lab_1(lab: Lab) -> None:
    """Lab 1 declares the synthetic images; no lab gets them without asking."""
    assert lab.environment == {"AMLLAB_DATA": "drawn"}
    assert "AMLLAB_DATA" not in launcher._SETTINGS


def test_preflight_finished_no_findings(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """A finished notebook has no findings."""
    assert inspect_cells(saved(solution)) == []


# what students and their tools do to a cell
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "metadata": lambda cell: cell.update(metadata={}),
    "tags": lambda cell: cell["metadata"].pop("tags", None),
    "id": lambda cell: cell.pop("id", None),
    "kind": lambda cell: cell.update(cell_type="markdown" if cell["cell_type"] == "code" else "code"),
    "experiment": lambda cell: cell["metadata"].update(tags=["experiment"]),
    "note": lambda cell: cell["metadata"].update(tags=["grading-note"]),
    "text": lambda cell: cell.update(source=["x = 1\n", *cell["source"]]),
    "all text": lambda cell: cell.update(source=["Mine"]),
    "headings": lambda cell: cell.update(source=[re.sub("^#+ ", "# My ", line) for line in cell["source"]]),
}
GRADED = [1, 13, 14, 18, 19, 25, 26, 28, 48]  # places of these cells
STEP = st.tuples(
    st.sampled_from(["one", "all", "copy", "move", "delete"]),
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from(GRADED) | st.integers(0, 99),
    st.integers(0, 99),
)


def damage(cells: list[dict[str, Any]], action: str, change: str, at: int, to: int) -> None:
    at %= len(cells)
    if action == "copy":
        cells.insert(to, copy.deepcopy(cells[at]))
    elif action in ("move", "delete"):
        moved = cells.pop(at)
        cells[to:to] = [moved] if action == "move" else []
    for cell in cells if action == "all" else cells[at : at + 1]:
        CHANGES[change](cell)


@settings(
    max_examples=examples(400),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(STEP, max_size=8))
@example([("one", "all text", 48, 0), ("all", "metadata", 0, 0), ("all", "id", 0, 0)])  # only the heading tells it
def test_preflight_runs_same_cells_as_grading(
    release: NotebookNode, tmp_path: Path, steps: list[tuple[str, str, int, int]]
) -> None:
    """However a notebook was changed, the preflight runs and checks the same cells as grading."""
    notebook = json.loads(SOLUTION.read_text(encoding="utf-8"))
    for step in steps:
        damage(notebook["cells"], *step)
    (tmp_path / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    try:
        looked = read(tmp_path / NOTEBOOK)
    except UnusableNotebookError:
        reject()  # nothing is left that would tell the lab
    repaired = normalize(tmp_path / NOTEBOOK, release).notebook
    worker = Worker(looked.lab, repaired, skipped_cells(repaired))
    assert [cell.source for cell in looked.to_run()] == worker.cells
    assert [cell.source for cell in looked.experiments()] == worker.not_run
    assert list(looked.checks().items()) == list(worker._above.items())
    sources = {cell.metadata.nbgrader.grade_id: cell.source for cell in repaired.cells if "nbgrader" in cell.metadata}
    assert {grade_id: place.cell.source for grade_id, place in looked.graded.items()} == sources


def test_preflight_duplicate_check_cells(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Of two check cells the last counts; a missing one is restored after its exercise."""
    for place, grade_id in ((2, "check_accuracy"), (3, "check_freeze_layers"), (90, "check_build_transfer_model")):
        check = copy.deepcopy(cell_of(solution, grade_id))
        check.id += "-copy"
        solution.cells.insert(place, check)
    solution.cells.remove(cell_of(solution, "check_train_with_early_stopping"))
    assert saved(solution).checks() == {
        "check_freeze_layers": 4,
        "check_train_with_early_stopping": 7,
        "check_accuracy": 7,
        "check_build_transfer_model": 7,
    }


def test_preflight_untouched_release(release: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """The untouched release lacks all answers, experiments and functions."""
    looked = saved(release)
    reflection, experiments = texts(inspect_cells(looked))
    assert "“1. What did transfer give?”, “2. How many layers?”, “3. Overfitting”" in reflection
    assert experiments.startswith("All 13 experiments were not run")
    stubs = texts(inspect_functions(looked, looked.functions()))
    assert [text.split()[0] for text in stubs] == [f"`{name}`" for name in looked.functions()]
    assert len(looked.functions()) == 3


def test_preflight_unanswered_questions(release: NotebookNode) -> None:
    """Unanswered questions of the reflection are named."""
    text = cell_of(release, "reflection").source
    first = text.replace("YOUR ANSWER HERE", "It gave 12 points.", 1)
    assert unanswered(first, text) == ["2. How many layers?", "3. Overfitting"]
    assert unanswered(first.replace("YOUR ANSWER HERE", ""), text) == ["2. How many layers?", "3. Overfitting"]
    assert unanswered(text.replace("YOUR ANSWER HERE", "It gave 12 points."), text) == []
    assert unanswered("An essay of my own, without the questions.", text) == []
    assert len(unanswered("", text)) == 3


def test_preflight_changed_and_missing_cells(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Changed, missing and duplicate cells are reported."""
    cell_of(solution, "check_freeze_layers").source += "  # again"
    solution.cells.remove(cell_of(solution, "setup"))
    solution.cells.remove(cell_of(solution, "reflection"))
    solution.cells.append(copy.deepcopy(cell_of(solution, "freeze_layers")))
    solution.cells[-1].id = "copy"
    ran = [cell for cell in solution.cells if "experiment" in cell.metadata.get("tags", [])]
    ran[3].outputs, ran[3].execution_count = [], None
    solution.cells.remove(ran[4])
    findings = inspect_cells(saved(solution))
    assert [text.split(".")[0] for text in texts(findings)[:3]] == [
        "The locked cell `setup` is missing",
        "The locked cell `check_freeze_layers` was changed",
        "The cell of the reflection is missing (10 points)",
    ]
    assert [text.split(":")[0] for text in texts(findings)[3:]] == [
        "1 of 13 experiments were not run, or their outputs were removed",
        "1 of 13 experiments are missing",
    ]
    assert texts(findings, "note")[0].startswith("There are 2 cells `freeze_layers`")


def test_preflight_lost_metadata(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Cells without metadata and ids are recognised by their content."""
    for i, cell in enumerate(solution.cells):
        cell.metadata.clear()
        cell.id = f"other-{i}"
    looked = saved(solution)
    assert inspect_cells(looked) == []
    assert all(place.submitted and place.is_by_content for place in looked.graded.values())


def test_preflight_renamed_function(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """A renamed function is reported with the expected name."""
    cell = cell_of(solution, "freeze_layers")
    cell.source = cell.source.replace("def freeze_layers", "def freeze")
    (text,) = texts(inspect_functions(saved(solution), {"build_transfer_model", "train_with_early_stopping"}))
    assert text.endswith("Its cell defines `freeze`: the name must be `freeze_layers`.")


def test_is_stub() -> None:
    assert is_stub('def f(x):\n    """Doc."""\n    # YOUR CODE HERE\n    raise NotImplementedError()', "f")
    assert is_stub("def f(x): raise NotImplementedError", "f")
    assert not is_stub("def f(x):\n    raise ValueError", "f")
    assert not is_stub("def f(x):\n    if x: raise NotImplementedError\n    return x", "f")
    assert not is_stub("def f(:", "f")


def test_preflight_too_large(solution: NotebookNode, saved: Callable[[NotebookNode], Document]) -> None:
    """Code or outputs beyond the size limits of grading are reported."""
    solution.cells.append(nbformat.v4.new_code_cell("weights = '" + "0" * 200_000 + "'"))
    (text,) = texts(inspect_cells(saved(solution)))
    assert "more than 200 kB cannot be graded" in text
    output = nbformat.v4.new_output("stream", text="x" * 10_100_000)
    solution.cells[-1] = nbformat.v4.new_code_cell("print(x)", outputs=[output])
    large = inspect_cells(saved(solution))
    assert texts(large) == []
    assert "at most 10 MB of them, those of experiments first" in texts(large, "note")[0]
    output.text *= 5
    assert "more than 50 MB cannot be graded" in texts(inspect_cells(saved(solution)))[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"def freeze_layers(): ...", "not valid JSON"),
        (b"[]", "no list of cells"),
        (b'{"worksheets": []}', "no list of cells"),
        (b'{"cells": [{"cell_type": "code", "source": ["x = 1"]}]}', "not a notebook of a lab"),
    ],
)
def test_preflight_bad_files(content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are not a notebook of a lab are reported with the reason."""
    file = tmp_path / "work.ipynb"
    file.write_bytes(content)
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("preflight: work.ipynb is not a notebook")
    report = amllab.preflight(file)
    assert not report.is_ready
    assert says in plain(report)
    assert repr(report) == report.problem


def test_find_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solution: NotebookNode) -> None:
    """The notebook is found from the session, the editor or the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with pytest.raises(UnusableNotebookError, match="working directory: none"):
        find_notebook(None, {})
    with pytest.raises(UnusableNotebookError, match=r"no file absent\.ipynb"):
        find_notebook(Path("absent.ipynb"), {})
    nbformat.write(solution, tmp_path / "mine.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "other.ipynb")
    assert find_notebook(None, {}) == tmp_path / "mine.ipynb"
    assert texts(looks._name(read(tmp_path / "mine.ipynb")), "note") == [
        f"The file is named `mine.ipynb`: submit it as `{NOTEBOOK}`."
    ]
    nbformat.write(solution, tmp_path / NOTEBOOK)
    with pytest.raises(UnusableNotebookError, match=rf"mine\.ipynb, {NOTEBOOK}\. Pass one"):
        find_notebook(None, {})
    assert find_notebook(None, {"__vsc_ipynb_file__": str(tmp_path / "mine.ipynb")}) == tmp_path / "mine.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / NOTEBOOK))
    assert find_notebook(None, {"In": []}) == tmp_path / NOTEBOOK


@dataclass
class Finished:
    """Outputs of preflights in a real kernel, and the processor time that they took all in all.

    Attributes:
        saved: of a finished notebook.
        unsaved: called from a cell that the file does not have.
        seconds: of all processes, the notebook's own included.
    """

    saved: list[NotebookNode]
    unsaved: list[NotebookNode]
    seconds: float


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("student")
    path = folder / NOTEBOOK
    notebook = nbformat.read(SOLUTION, as_version=4)
    # as the notebook server does
    tell = f"import os\nos.environ['JPY_SESSION_NAME'] = {str(path)!r}"
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
    # a third of it where nothing else runs; wall time says nothing on a busy machine
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
    solution.cells.insert(5, nbformat.v4.new_code_cell("open('notes.txt')\n"))
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


def test_preflight_hanging_and_exiting_cells(
    solution: NotebookNode,
    saved: Callable[[NotebookNode], Document],
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cells that hang or end the process affect only themselves."""
    monkeypatch.setattr(fresh, "_PREPARE", "pass")  # three processes: quicker where none loads PyTorch
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
        "train_with_early_stopping": (0, 8),
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


def test_preflight_lab_without_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook of a lab without a release is not recognised."""
    monkeypatch.setattr(document, "released_notebooks", dict)
    with pytest.raises(UnusableNotebookError, match="is not a notebook of a lab"):
        read(SOLUTION)
