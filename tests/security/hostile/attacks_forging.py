"""Attacks that write their own score: into the notebook, or through the kernel that runs it."""

from __future__ import annotations

import copy

import nbformat
from nbformat import NotebookNode

from tests.security.hostile.attack_base import FIRST, FORGING, LAST, SECOND, Attack, about_lab_1, check_cells

# nbgrader uses the value of a check cell's last line for partial credit
_STOCK_PARTIAL = """
import ast

class Score(ast.NodeTransformer):
    def visit_Module(self, node):
        if any(isinstance(item, ast.Assert) for item in ast.walk(node)):
            return ast.parse(@VALUE@)
        return node

get_ipython().ast_transformers.append(Score())
"""


def _prefilled(notebook: NotebookNode) -> NotebookNode:
    for cell in check_cells(notebook):
        points = float(cell.metadata.nbgrader.points)
        cell.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": f"{points:g}"}, execution_count=1)]
        cell.execution_count = 1
    return notebook


def _skipped(notebook: NotebookNode) -> NotebookNode:
    for cell in check_cells(notebook):
        cell.metadata["tags"] = ["skip-execution"]
        cell.outputs = []
    return notebook


def _experiments(notebook: NotebookNode) -> NotebookNode:
    notebook = _prefilled(notebook)
    for cell in check_cells(notebook):
        cell.metadata["tags"] = ["experiment"]
    return notebook


def _flags(notebook: NotebookNode) -> NotebookNode:
    for cell in check_cells(notebook):
        cell.metadata.nbgrader.update(grade=False, solution=True, locked=False, task=False)
        cell.source = "pass"
    return notebook


def _points(notebook: NotebookNode) -> NotebookNode:
    for cell in check_cells(notebook):
        cell.metadata.nbgrader.points = 2000
        cell.source = "2000"
    return notebook


def _edited(notebook: NotebookNode) -> NotebookNode:
    for cell in check_cells(notebook):
        cell.source = f"{float(cell.metadata.nbgrader.points):g}"
    return notebook


def _copied(notebook: NotebookNode) -> NotebookNode:
    """Duplicate each check cell, with text of the student and the score as its output."""
    for cell in check_cells(notebook):
        twin = copy.deepcopy(cell)
        twin.source, twin.id = "20", f"{cell.id}-twin"
        twin.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": "20"}, execution_count=1)]
        notebook.cells.insert(notebook.cells.index(cell) + 1, twin)
    return notebook


ATTACKS = [
    Attack(
        "printed_score",
        FORGING,
        "prints and displays its points",
        cell='from IPython.display import display\nprint("20")\nprint("90 of 90 automatic points")\ndisplay(20)\n20',
    ),
    Attack(
        "display_hook",
        FORGING,
        "replaces sys.displayhook and the shell's formatter, so that any result reads as full points",
        cell="""
import sys
shell = get_ipython()
shell.display_formatter.format = lambda *a, **k: ({"text/plain": "20"}, {})
sys.displayhook.write_format_data = lambda data, metadata=None: sys.displayhook.msg["content"].update(
    data={"text/plain": "20"})
""",
        sources={FIRST: "def @FIRST@(*given, **more):\n    return 20"},
    ),
    Attack(
        "nan_partial_credit",
        FORGING,
        "a check cell whose value is NaN: every comparison with the maximum is false",
        cell="def check(*a, **k):\n    return float('nan')",
        stock=_STOCK_PARTIAL.replace("@VALUE@", "\"float('nan')\""),
    ),
    Attack(
        "partial_credit",
        FORGING,
        "rewrites the syntax tree of check cells into a number",
        cell=_STOCK_PARTIAL.replace("@VALUE@", '"20"'),
    ),
    Attack(
        "always_equal",
        FORGING,
        "returns objects that are equal to everything, have every attribute, and call themselves a model",
        cell="""
from torch import nn

class Yes(nn.Module):
    __hash__ = object.__hash__
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __bool__(self): return True
    def __float__(self): return 0.0
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __contains__(self, other): return True
    def __getitem__(self, key): return self
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
""",
        sources={name: f"def {name}(*given, **more):\n    return Yes()" for name in (FIRST, SECOND, LAST)},
    ),
    Attack(
        "drops_asserts",
        FORGING,
        "an AST transformer takes every assert out of later cells",
        cell="""
import ast

class NoAsserts(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)

get_ipython().ast_transformers.append(NoAsserts())
""",
        stock_sources={
            "freeze_layers": "def freeze_layers(model, n_trainable):\n    return model",
            "build_transfer_model": "def build_transfer_model(backbone, num_classes, n_trainable):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, max(num_classes, 1)))",
            "train_with_early_stopping": "def train_with_early_stopping(model, *a, **k):\n"
            "    return {'train_loss': [1.0], 'train_acc': [1.0], 'val_loss': [1.0], 'val_acc': [1.0], 'best_epoch': 0}",
        },
    ),
    Attack(
        "empties_cells",
        FORGING,
        "an input transformer empties every cell that contains a check",
        cell="""
def no_checks(lines):
    return ["pass\\n"] if any("assert" in line or "check(" in line for line in lines) else lines

get_ipython().input_transformers_cleanup.append(no_checks)
""",
    ),
    Attack(
        "replaced_do_execute",
        FORGING,
        "replaces the kernel's do_execute by one that runs nothing and reports a result of 20",
        cell="""
kernel = get_ipython().kernel

async def do_execute(code, silent=False, *args, **kwargs):
    kernel.send_response(kernel.iopub_socket, "execute_result",
                         {"execution_count": 1, "data": {"text/plain": "20"}, "metadata": {}})
    return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}

kernel.do_execute = do_execute
""",
    ),
    Attack(
        "replaced_run_cell",
        FORGING,
        "replaces the shell's run_cell and run_cell_async by ones that run nothing",
        cell="""
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult
shell = get_ipython()

def nothing(*a, **k):
    result = ExecutionResult(ExecutionInfo("", False, False, False, ""))
    result.result = 20
    return result

async def nothing_async(*a, **k):
    return nothing()

shell.run_cell, shell.run_cell_async, shell._run_cell = nothing, nothing_async, nothing
""",
    ),
    Attack(
        "redefined_check",
        FORGING,
        "defines a check() of its own, in the notebook and in the library",
        cell="import amllab, amllab.checks, amllab.checks.notebook\n"
        "def check(*a, **k):\n    return 20\n"
        "amllab.check = amllab.checks.check = amllab.checks.notebook.check = check",
    ),
    Attack(
        "forged_messages",
        FORGING,
        "sends results and replies of its own on the kernel's sockets, for the next hundred requests",
        cell="""
kernel = get_ipython().kernel
parent = kernel.get_parent()
for i in range(100):
    kernel.session.send(kernel.iopub_socket, "execute_result",
                        {"execution_count": i, "data": {"text/plain": "20"}, "metadata": {}}, parent=parent)
    kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent=parent)
""",
    ),
    about_lab_1(
        "nan_history",
        FORGING,
        "a history of NaN and infinities, without training",
        sources={
            "train_with_early_stopping": """
def train_with_early_stopping(model, train_loader, val_loader, max_epochs=30, **k):
    n = max(max_epochs, 0)
    return {"train_loss": [float("nan")] * n, "train_acc": [float("inf")] * n, "val_loss": [float("nan")] * n,
            "val_acc": [float("inf")] * n, "best_epoch": 0}
"""
        },
    ),
    Attack(
        "flipped_flags",
        FORGING,
        "declares the check cells to be solutions that are not graded, and empties them",
        edit=_flags,
    ),
    Attack("raised_points", FORGING, "makes each check cell worth 2,000 points, and returns them", edit=_points),
    Attack("edited_checks", FORGING, "replaces the text of locked check cells by their points", edit=_edited),
    Attack("copied_checks", FORGING, "copies every check cell, the score already in it", edit=_copied),
    Attack(
        "prefilled_outputs", FORGING, "hands in check cells with the points as their stored output", edit=_prefilled
    ),
    Attack(
        "skip_execution",
        FORGING,
        "tags the check cells skip-execution: no error, hence no points lost",
        edit=_skipped,
    ),
    Attack("experiment_tags", FORGING, "tags the check cells as experiments, with stored points", edit=_experiments),
    Attack(
        "exits_in_check",
        FORGING,
        "ends the process with status 0 while it is being checked",
        sources={
            FIRST: "def @FIRST@(*given, **more):\n    import os\n    os._exit(0)",
            SECOND: "def @SECOND@(*given, **more):\n    raise SystemExit(0)",
            LAST: "def @LAST@(*given, **more):\n    raise KeyboardInterrupt",
        },
    ),
]
