"""``check("freeze_layers")``: the public checks of an exercise, run on the functions of the current notebook."""

from __future__ import annotations

import os
import secrets
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from amllab.checks.exercises import exercises_of
from amllab.checks.hints import hints_due
from amllab.checks.open_notebook import OpenNotebook, variables
from amllab.checks.render import to_html, to_text
from amllab.checks.results import CheckResult
from amllab.checks.runner import run_checks
from amllab.lab import Lab, all_labs, find_lab, public_checks
from amllab.protocol.submission import InProcessSubmission

_VALIDATED_WIDTH = 80  # characters per line: nbgrader's Validator.width is 90, less a margin


class CheckReport:
    """Results of checks that display themselves: as a panel in a notebook, as text elsewhere.

    Args:
        results: Results of the public checks of an exercise.
        hidden_points: What its hidden checks are worth; ``None`` if that is not known.
    """

    def __init__(self, results: list[CheckResult], hidden_points: float | None = None) -> None:
        self.results = results
        self.hidden_points = hidden_points

    def __repr__(self) -> str:
        return to_text(self.results, hidden_points=self.hidden_points)

    def _repr_html_(self) -> str:
        more = "" if self.hidden_points == 0 else ", and hidden checks as well"
        note = f"Grading runs these checks again with other inputs{more}."
        return to_html(self.results, note=note, hidden_points=self.hidden_points)


class ChecksFailedError(AssertionError):
    """Checks did not pass in a cell that must then raise; shown as their report alone, without a traceback."""

    def __init__(self, results: list[CheckResult], hidden_points: float | None = None) -> None:
        shown = [_without_numbers(result) for result in results]
        super().__init__(_narrow(to_text(shown, hidden_points=hidden_points)))

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class _Passed(CheckReport):
    """A report that displays itself and is not the result of its cell.

    nbgrader would take a result for a score, and warn about this one.
    """

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data({"text/plain": repr(self), "text/html": self._repr_html_()})


def _without_numbers(result: CheckResult) -> CheckResult:
    """Return the result without its table, which is wider than what nbgrader shows."""
    return result if result.failure is None else replace(result, failure=replace(result.failure, series=None))


def _narrow(text: str) -> str:
    """Wrap text into lines that ``nbgrader validate`` does not cut off."""
    lines = []
    for line in text.splitlines():
        margin = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(line, _VALIDATED_WIDTH, subsequent_indent=margin, break_on_hyphens=False) or [""]
    return "\n".join(lines)


def check(cell: str, *, lab: str | None = None) -> CheckReport:
    """Run the public checks of one exercise on the functions that this notebook defines.

    If the checks fail several times in a row, the hints of the exercise open above the results.

    ``nbgrader validate`` and the *Validate* button only detect errors, so there checks that do not pass raise
    :class:`ChecksFailedError` with the same sentences.

    Args:
        cell: Name of the exercise: ``"freeze_layers"``, ``"build_transfer_model"``, ...
        lab: Name of the lab, if two labs have an exercise of the same name and the functions that this notebook defines
            do not tell which of them is meant.

    Returns:
        The results; on the last line of a cell they are shown as a panel.

    Raises:
        LookupError: There is no such exercise, or several labs have it; the message lists the choices.
        ValueError: The settings of the lab cannot be read.
        RuntimeError: Not called from a notebook or an IPython session.
        ChecksFailedError: Checks did not pass while the notebook was validated.
    """
    namespace = variables("check")
    name = cell.removeprefix("check_")
    chosen, file = _find(name, lab, namespace)
    validating = os.environ.get("NBGRADER_EXECUTION") == "validate" or "NBGRADER_VALIDATING" in os.environ
    # a notebook that is validated has been run from the top: no advice to run a cell
    submission = (InProcessSubmission if validating else OpenNotebook)(chosen.name, namespace)
    results = run_checks(chosen, [file], submission, seed=secrets.randbits(63))
    exercise = next(exercise for exercise in exercises_of(chosen) if exercise.name == name)
    hidden = exercise.hidden_points(results)
    passed = all(result.outcome == "passed" for result in results)
    if not validating:
        missing = any(result.failure is not None and result.failure.symptom == "missing" for result in results)
        if not missing and (hints := hints_due(chosen.name, exercise, passed=passed)):
            _display_markdown(hints)
        return CheckReport(results, hidden)
    if not passed:
        raise ChecksFailedError(results, hidden)
    return _Passed(results, hidden)


def _display_markdown(text: str) -> None:
    from IPython.display import publish_display_data

    publish_display_data({"text/markdown": text, "text/plain": text})


def _find(cell: str, lab: str | None, namespace: Mapping[str, object]) -> tuple[Lab, Path]:
    """Return the lab that has an exercise, and the file of its checks.

    If several labs have an exercise of this name, such as ``accuracy``, it is the one most of whose exercises are
    functions of the notebook. Only the settings of this lab are read: mistakes in those of another lab do not matter
    here.
    """
    names = [find_lab(lab).name] if lab else all_labs()
    exercises = {name: _exercises(name) for name in names}
    having = [name for name in names if cell in exercises[name]]
    if len(having) > 1:
        having = most_defined({name: exercises[name] for name in having}, namespace)
    if len(having) == 1:
        found = find_lab(having[0])
        return found, found.folder / f"test_{cell}.py"
    if having:
        raise LookupError(f"several labs have an exercise {cell!r}: pass lab=, one of {having}")
    known = sorted({exercise for of in exercises.values() for exercise in of})
    raise LookupError(f"no exercise {cell!r}; there are: {', '.join(known)}")


def most_defined(exercises: Mapping[str, Sequence[str]], namespace: Mapping[str, object]) -> list[str]:
    """Return the labs most of whose exercises are functions of the notebook.

    Args:
        exercises: Names of the exercises of each lab.
        namespace: Variables of the notebook.
    """
    defined = {lab: sum(callable(namespace.get(name)) for name in names) for lab, names in exercises.items()}
    return [lab for lab, count in defined.items() if count == max(defined.values())]


def open_lab(lab: str | None, namespace: Mapping[str, object]) -> Lab:
    """Return the lab of an open notebook: the named one, or the one most of whose exercises are functions of it.

    Raises:
        LookupError: There is no such lab, or several fit; the message lists the choices.
        ValueError: Its settings cannot be read.
    """
    names = [lab] if lab else most_defined({name: _exercises(name) for name in all_labs()}, namespace)
    if len(names) == 1:
        return find_lab(names[0])
    raise LookupError(f"this notebook could belong to several labs: run its cells first, or pass lab=, one of {names}")


def _exercises(lab: str) -> list[str]:
    """Return the names of a lab's exercises that have public checks."""
    return [file.stem.removeprefix("test_") for file in public_checks(lab).glob("test_*.py")]
