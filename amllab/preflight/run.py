"""Implementation of :func:`amllab.preflight.preflight`."""

from __future__ import annotations

import dataclasses
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from amllab.checks.results import CheckResult
from amllab.checks.runner import run_checks
from amllab.lab import Lab
from amllab.preflight.document import Document, UnusableNotebookError, find_notebook, is_open, read
from amllab.preflight.inspections import Finding, inspect_cells, inspect_functions, inspect_imports, inspect_runs
from amllab.preflight.kernel_submission import VARIABLE, FreshSubmission
from amllab.preflight.packages import lacking_modules
from amllab.preflight.report import Preflight


def run_preflight(notebook: str | os.PathLike[str] | None, limits: dict[str, float] | None) -> Preflight:
    """Run a preflight; see :func:`amllab.preflight.preflight`."""
    if VARIABLE in os.environ:
        return Preflight(
            problem="Not run: this code already runs in grading, or in the fresh process of another preflight."
        )
    variables, named = _variables(), Path(notebook) if notebook is not None else None
    try:
        document = read(find_notebook(named, variables))
        findings = _unsaved(document) if is_open(document.path, variables) else []
    except UnusableNotebookError as error:
        return Preflight(problem=str(error))
    lab = dataclasses.replace(document.lab, limits={**document.lab.limits, **(limits or {})})
    print(f"Running {document.path.name} in a fresh process. This takes about half a minute ...", flush=True)
    report = _run(document, lab, [*findings, *inspect_cells(document)])
    if variables:
        from IPython.display import clear_output  # installed, since this is called from a notebook

        clear_output(wait=True)
    return report


def _run(document: Document, lab: Lab, findings: list[Finding]) -> Preflight:
    began = time.monotonic()
    cells, wanted = document.to_run(), document.functions()
    lacking = lacking_modules(lab, [cell.source for cell in cells])
    with FreshSubmission(lab, cells, document.checks(), document.experiments(), lacking) as submission:
        results = run_checks(lab, [lab.folder], submission, seed=secrets.randbits(63))
        defined = submission.defined(wanted)
        # a function that is gone at the end may still have existed at its check cell
        defined |= {name for name in wanted if not any(_lacks(result, name) for result in results)}
        causes = {name: submission.cause(name) for name in wanted}
    findings = [*findings, *inspect_imports(lacking), *inspect_functions(document, defined, causes)]
    findings += inspect_runs(document, submission.runs, lab.limits)
    points = {cell.grade_id: cell.points for cell in document.release if cell.is_graded}
    return Preflight(document.path, lab.title, findings, results, points, time.monotonic() - began)


def _lacks(result: CheckResult, name: str) -> bool:
    failure = result.failure
    return failure is not None and failure.symptom == "missing" and f"`{name}`" in failure.seen


def _shell() -> Any:
    """Return the IPython shell that the preflight is called from, if any."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _variables() -> dict[str, Any]:
    shell = _shell()
    return shell.user_ns if shell is not None else {}


def _unsaved(document: Document) -> list[Finding]:
    """Report functions whose code in the file differs from the code that was last run.

    Raises:
        UnusableNotebookError: the file does not contain the cell that the preflight is called from.
    """
    runs = [source.strip() for _, _, source in _shell().history_manager.get_range(raw=True, output=False)]
    saved = {cell.source.strip() for cell in document.cells}
    if runs and runs[-1] not in saved:
        raise UnusableNotebookError(
            f"Save the notebook (Ctrl+S, or ⌘S), then run this cell again: the file {document.path.name} does not contain it yet."
        )
    defining = {name: [run for run in runs if f"def {name}(" in run][-1:] for name in document.functions()}
    return [
        Finding(
            "fix",
            f"The saved file has a different version of `{name}` than the one you last ran: save the notebook (Ctrl+S, or ⌘S), or run the cell again.",
        )
        for name, last in defining.items()
        if last and last[0] not in saved
    ]
