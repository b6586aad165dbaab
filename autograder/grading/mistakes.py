"""Recognised mistakes: patterns of failed checks that a study has traced to a single mistake.

The mutation study (``autograder study``) makes one mistake at a time and records which checks fail, and
how (their *symptoms*). If only one mistake produces a pattern, the reports of all submissions that fail in the same way
name that mistake. All other patterns say nothing. The learned patterns are data:
``autograder/checks/<lab>/mistakes.json``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amllab.checks.results import CheckResult
from autograder.labs.locations import hidden_checks

Pattern = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A submission of the study with one mistake, checked once.

    Attributes:
        mistake: Name of the mistake; empty if it has none, as for most mutants.
        seed: Seed of the checks.
        patterns: Cell -> pattern, for the cells that lost points.
    """

    mistake: str
    seed: int
    patterns: Mapping[str, Pattern]


def patterns(results: Iterable[CheckResult]) -> dict[str, Pattern]:
    """Return names and symptoms of each cell's failed checks, without the skipped checks that follow from them."""
    found: dict[str, list[str]] = defaultdict(list)
    for r in results:
        if r.outcome == "failed" and r.failure is not None:
            found[r.cell].append(f"{r.name}: {r.failure.symptom}")
    return {cell: tuple(sorted(failed)) for cell, failed in found.items()}


def recognise(lab: str, results: Sequence[CheckResult]) -> dict[str, str]:
    """Return the mistake behind each cell's failures, as a clause such as "restores the last weights".

    Cells whose pattern identifies none are left out.

    Args:
        lab: Name of the lab, such as ``"transfer_learning"``.
        results: Results of all checks of a submission.
    """
    known = _known(lab)
    return {cell: known[cell, failed] for cell, failed in patterns(results).items() if (cell, failed) in known}


def learn(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Find the patterns that identify a mistake.

    A pattern identifies a mistake if all of its cases have this one mistake, and if it occurs with even and odd seeds.

    Args:
        cases: Cases of the study. Cases without a named mistake disqualify every pattern that they share with others.

    Returns:
        The content of the lab's file: one entry for each pattern that identifies a mistake.
    """
    made: dict[tuple[str, Pattern], set[tuple[str, int]]] = defaultdict(set)
    for case in cases:
        for item in case.patterns.items():
            made[item].add((case.mistake, case.seed % 2))
    entries = []
    for (cell, failed), by in sorted(made.items()):
        name, _ = min(by)
        # a pattern that only some seeds produce is weak evidence
        if name and by == {(name, 0), (name, 1)}:
            entries.append({"cell": cell, "pattern": list(failed), "name": name})
    return entries


def write(lab: str, cases: Sequence[Case]) -> Path:
    """Learn from the cases, write the lab's file and return its path."""
    file = _file(lab)
    file.write_text(json.dumps(learn(cases), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _known.cache_clear()
    return file


def _file(lab: str) -> Path:
    return hidden_checks(lab) / "mistakes.json"


@cache
def _known(lab: str) -> dict[tuple[str, Pattern], str]:
    """Return the name of the mistake behind each learned pattern of a lab; none for a lab without a study."""
    file = _file(lab)
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {(e["cell"], tuple(e["pattern"])): e["name"] for e in entries}
