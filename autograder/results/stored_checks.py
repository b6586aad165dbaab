"""Check results that the grader stored in an autograded notebook, under ``STORED``.

See :mod:`autograder.grading.report_cells` for how they are written. Only graded cells whose scores come from checks are
read: their outputs come from the grader, all others from a submission. A notebook that was graded before results were
stored has none, and a notebook that a person edited may contain anything: data that does not have exactly the expected
form is ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.notebooks.metadata import STOCK, STORED, STORED_VERSION, graded_cells, is_autograded, submitted_of

OUTCOMES = ("passed", "failed", "skipped", "error")

# symptoms of checks that a limit left without an answer
# (see amllab.protocol.submission.SubmissionError, autograder.grading.worker)
LIMITS = {
    "timeout": "no answer within the time limit",
    "memory": "exceeded the memory limit",
    "budget": "the time for the whole submission was used up",
    "died": "the process died during the call",
}
TAMPERED = "tampered"


@dataclass(frozen=True)
class StoredCheck:
    """One check of one submission; see :class:`amllab.checks.results.CheckResult`.

    Attributes:
        broke: the exception, if the check itself broke.
    """

    name: str
    title: str
    points: float
    earned: float
    outcome: str
    symptom: str
    seconds: float
    broke: str


@dataclass
class Stored:
    """The results stored in an autograded notebook.

    Attributes:
        checks: checks by grade id.
        mistakes: names of the mistakes recognised in the failures, by grade id.
        seconds: time that grading took; ``None`` if unknown.
        isolation: how the submission was isolated; empty if unknown.
        readable: whether any part of the submission could be run.
        stopped: cells that a limit ended or kept from running.
        notes: notes of the repair.
        seed: seed of the inputs that the checks sampled, in decimal digits; empty if unknown.
        submitted: digest of what was submitted when it was graded
            (:func:`autograder.gradebook.regrading.digest_of`); empty if unknown.
        cells: points of all cells that checks or people grade, by grade id.
        ordinary: whether the notebook is of no lab: its tests are among its cells.
    """

    checks: dict[str, list[StoredCheck]] = field(default_factory=dict)
    mistakes: dict[str, list[str]] = field(default_factory=dict)
    seconds: float | None = None
    isolation: str = ""
    readable: bool = True
    stopped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seed: str = ""
    submitted: str = ""
    cells: dict[str, float] = field(default_factory=dict)
    ordinary: bool = False


def read(path: Path) -> Stored | None:
    """Read the results stored in a notebook.

    Returns:
        The results, without any checks if an older version graded the notebook; ``None`` if the file does not exist or
        cannot be read.
    """
    try:
        # only nbgrader's cells become objects: the outputs of experiments make up most of a file
        notebook = json.loads(path.read_bytes())
        marked = [nbformat.from_dict(cell) for cell in notebook["cells"] if cell["metadata"].get("nbgrader")]
        found = Stored(submitted=submitted_of(notebook), cells=graded_cells(marked))
        for cell in filter(is_autograded, marked):
            # a grade id occurs once in a notebook that nbgrader wrote; of several cells, nbgrader graded the first
            _add(found, cell.metadata.nbgrader.grade_id, cell.outputs)
        stored = notebook["metadata"].get(STORED)
        if isinstance(stored, Mapping) and isinstance(stock := stored.get(STOCK), Mapping):
            found.ordinary = True
            _describe(found, stock)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return found


def stored_in(cell: NotebookNode) -> list[StoredCheck] | None:
    """Return the checks that the grader stored in a cell; ``None`` if it stored none there."""
    if not is_autograded(cell):
        return None
    found, grade_id = Stored(), str(cell.metadata.nbgrader.get("grade_id"))
    _add(found, grade_id, cell.outputs)
    return found.checks.get(grade_id)


def stored_seed(notebook: NotebookNode) -> int | None:
    """Return the seed that the grader stored in a graded notebook; ``None`` if it stored none."""
    found = Stored()
    for cell in filter(is_autograded, notebook.cells):
        _add(found, str(cell.metadata.nbgrader.get("grade_id")), cell.outputs)
    return int(found.seed) if found.seed else None


def _add(found: Stored, grade_id: str, outputs: list[Any]) -> None:
    data = next((o.metadata[STORED] for o in outputs if STORED in (o.get("metadata") or {})), None)
    if grade_id in found.checks or not isinstance(data, Mapping) or data.get("version") != STORED_VERSION:
        return
    checks = data.get("checks")
    parsed = [_check(check) for check in checks] if isinstance(checks, list) else [None]
    known = [check for check in parsed if check is not None]
    if len(known) < len(parsed):
        return
    found.checks[grade_id] = known
    mistakes = data.get("mistakes")
    found.mistakes[grade_id] = [
        m["name"]
        for m in (mistakes if isinstance(mistakes, list) else [])
        if isinstance(m, Mapping) and isinstance(m.get("name"), str) and m["name"]
    ]
    submission = data.get("submission")
    if isinstance(submission, Mapping):
        _describe(found, submission)


def _describe(found: Stored, submission: Mapping[str, Any]) -> None:
    found.seconds = _number(submission.get("seconds"))
    found.isolation = _text(submission.get("isolation"))
    found.readable = submission.get("readable") is not False
    found.stopped, found.notes = _texts(submission.get("stopped")), _texts(submission.get("notes"))
    found.seed = seed if (seed := _text(submission.get("seed"))).isdecimal() else ""


def _check(raw: Any) -> StoredCheck | None:
    if not isinstance(raw, Mapping) or raw.get("outcome") not in OUTCOMES:
        return None
    points, earned = _number(raw.get("points")), _number(raw.get("earned"))
    name = _text(raw.get("name"))
    if not name or points is None or earned is None:
        return None
    return StoredCheck(
        name,
        _text(raw.get("title")) or name,
        points,
        earned,
        raw["outcome"],
        _text(raw.get("symptom")),
        _number(raw.get("seconds")) or 0.0,
        _text(raw.get("broke")),
    )


def _number(value: Any) -> float | None:
    """Return a finite, non-negative number, or ``None`` for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
