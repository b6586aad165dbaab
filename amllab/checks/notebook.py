"""``check("freeze_layers")``: the public checks of a cell, run on the functions of the notebook at hand."""

from __future__ import annotations

import os
import secrets
import textwrap
from dataclasses import replace
from pathlib import Path

from amllab.checks.lab import Lab, all_labs, find_lab
from amllab.checks.results import CheckResult, to_html, to_text
from amllab.checks.run import run_checks
from amllab.checks.submission import InProcessSubmission

_VALIDATED_WIDTH = 80  # characters of a line; nbgrader's Validator.width is 90, with a margin


class CheckReport:
    """Results of checks that show themselves: as a panel in a notebook, as text elsewhere."""

    def __init__(self, results: list[CheckResult]) -> None:
        self.results = results

    def __repr__(self) -> str:
        return to_text(self.results)

    def _repr_html_(self) -> str:
        note = "Grading runs these checks again, with other inputs, and further ones."
        return to_html(self.results, note=note)


class ChecksFailed(AssertionError):  # noqa: N818
    """Checks that were not passed, where a failed cell must raise; shown as their report alone, without a traceback."""

    def __init__(self, results: list[CheckResult]) -> None:
        super().__init__(_narrow(to_text([_without_numbers(result) for result in results])))

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class _Passed(CheckReport):
    """A report that is displayed, and is no result of its cell: nbgrader takes a result for a score, and warns of this one."""

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data({"text/plain": repr(self), "text/html": self._repr_html_()})


def _without_numbers(result: CheckResult) -> CheckResult:
    """The result without its table, which is wider than what nbgrader shows."""
    return result if result.failure is None else replace(result, failure=replace(result.failure, series=None))


def _narrow(text: str) -> str:
    """Text in lines that ``nbgrader validate`` does not cut."""
    lines = []
    for line in text.splitlines():
        margin = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(line, _VALIDATED_WIDTH, subsequent_indent=margin, break_on_hyphens=False) or [""]
    return "\n".join(lines)


def check(cell: str, *, lab: str | None = None) -> CheckReport:
    """Runs the public checks of one exercise on the functions that this notebook defines.

    Args:
        cell: name of the exercise: ``"freeze_layers"``, ``"build_transfer_model"``, ...
        lab: name of the lab, where two labs have an exercise of the same name.

    Returns:
        The results; in a notebook the last line of a cell shows them as a panel.

    ``nbgrader validate`` and the *Validate* button look at errors alone: there, checks that are not passed raise
    :class:`ChecksFailed` with the same sentences.

    Raises:
        LookupError: no such exercise; the message lists those there are.
        RuntimeError: not called from a notebook or an IPython session.
        ChecksFailed: see above.
    """
    # imported here: the library is of use without IPython
    from IPython import get_ipython

    shell = get_ipython()  # type: ignore[no-untyped-call]
    if shell is None:
        raise RuntimeError("check() looks at the functions of a notebook: call it in a notebook or in IPython")
    chosen, file = _find(cell.removeprefix("check_"), lab)
    submission = InProcessSubmission(chosen.name, shell.user_ns)
    results = run_checks(chosen, [file], submission, seed=secrets.randbits(63))
    if os.environ.get("NBGRADER_EXECUTION") != "validate" and "NBGRADER_VALIDATING" not in os.environ:
        return CheckReport(results)
    if any(result.outcome != "passed" for result in results):
        raise ChecksFailed(results)
    return _Passed(results)


def _find(cell: str, lab: str | None) -> tuple[Lab, Path]:
    labs = [find_lab(name) for name in ([lab] if lab else all_labs())]
    files = [(found, file) for found in labs if (file := found.folder / f"test_{cell}.py").is_file()]
    if len(files) == 1:
        return files[0]
    if files:
        raise LookupError(f"several labs have an exercise {cell!r}: add lab= one of {[f.name for f, _ in files]}")
    known = sorted(file.stem.removeprefix("test_") for found in labs for file in found.folder.glob("test_*.py"))
    raise LookupError(f"no exercise {cell!r}; there are: {', '.join(known)}")
