"""What a submission costs whose function never returns: ``python -m bench.endless_loops``

One function of a lab's solution gets an endless loop, and ``autograder grade`` grades the notebook. By default these
are the three functions of lab 1 and one of each other lab; names of functions choose others. On a machine that other
programs keep busy, the grader waits longer, and the last column says so. With ``--asleep`` the loop sleeps, so that the
machine's load matters less.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from amllab.lab import all_labs, find_lab
from autograder.text import table

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = (
    "freeze_layers",
    "build_transfer_model",
    "train_with_early_stopping",
    "pretrain",
    "maml_adapt",
    "distill",
)
SPINS, SLEEPS = "pass", "__import__('time').sleep(0.05)"


def with_loop(source: str, function: str, body: str) -> str | None:
    """Return a cell whose function begins with an endless loop; ``None`` if it does not define the function."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = node.body[1 if ast.get_docstring(node) is not None else 0]
            lines = source.splitlines()
            indent = " " * first.col_offset
            lines.insert(first.lineno - 1, f"{indent}while True:\n{indent}    {body}")
            return "\n".join(lines)
    return None


def notebook_with_loop(function: str, body: str, folder: Path) -> Path:
    """Write the solution of the lab that has this function, with a loop in it, and return the path.

    Raises:
        LookupError: No lab has a function of this name.
    """
    for lab in map(find_lab, all_labs()):
        notebook = nbformat.read(ROOT / "solutions" / lab.assignment / f"{lab.notebook}.ipynb", as_version=4)
        for cell in notebook.cells:
            solution = cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
            if solution and (source := with_loop(cell.source, function, body)) is not None:
                cell.source = source
                path = folder / f"{lab.notebook}.ipynb"
                nbformat.write(notebook, path)
                return path
    raise LookupError(f"no lab has a function {function}")


def measure(function: str, body: str) -> list[str]:
    """Grade a solution with a loop; return a row of the table."""
    with tempfile.TemporaryDirectory(prefix="amllab-loop-") as folder:
        path = notebook_with_loop(function, body, Path(folder))
        command = [sys.executable, "-m", "autograder", "grade", str(path), "--json", "--seed", "1"]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found = json.loads(done.stdout)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [path.stem, function, f"{found['score']:g}", f"{seconds:.0f}", f"{used:.0f}", found["crowded"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="*", default=FUNCTIONS)
    parser.add_argument("--asleep", action="store_true", help="a loop that sleeps")
    asked = parser.parse_args()
    rows = [measure(function, SLEEPS if asked.asleep else SPINS) for function in asked.functions]
    heads = ["lab", "function", "points", "seconds", "of the grader's processors", "busy"]
    print(table(heads, rows, left=(0, 1, 5)))


if __name__ == "__main__":
    main()
