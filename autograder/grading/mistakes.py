"""Recognised mistakes: patterns of failed checks that a study has traced to a single mistake.

The mutation study (``bench/mutation_study.py``) makes one mistake at a time and records which checks fail, and how
(their *symptoms*). If only one mistake produces a pattern, the reports of all submissions that fail in the same way
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
from autograder.labs.locations import HIDDEN_CHECKS

Pattern = tuple[str, ...]


@dataclass(frozen=True)
class Mistake:
    """A known mistake, recognised by a pattern of failures.

    Attributes:
        name: The mistake as a clause, such as "restores the last instead of the best weights".
    """

    name: str

    def __str__(self) -> str:
        return f"This looks like a known mistake: {self.name}."


@dataclass(frozen=True)
class Case:
    """A submission of the study with one mistake, checked once.

    Attributes:
        mistake: Name of the mistake; empty if it has none, as for most mutants.
        mutant: Identifier of the submission. All submissions count the same, however often they were checked.
        seed: Seed of the checks.
        patterns: Cell -> pattern, for the cells that lost points.
    """

    mistake: str
    mutant: str
    seed: int
    patterns: Mapping[str, Pattern]


def pattern(results: Iterable[CheckResult]) -> Pattern:
    """Return the names and symptoms of the failed checks, without the skipped checks that follow from them."""
    failed = (r for r in results if r.outcome == "failed" and r.failure is not None)
    return tuple(sorted(f"{r.name}: {r.failure.symptom if r.failure else ''}" for r in failed))


def patterns(results: Sequence[CheckResult]) -> dict[str, Pattern]:
    """Return the pattern of each cell that has failed checks."""
    found = {cell: pattern(r for r in results if r.cell == cell) for cell in dict.fromkeys(r.cell for r in results)}
    return {cell: failed for cell, failed in found.items() if failed}


def recognise(lab: str, results: Sequence[CheckResult]) -> dict[str, Mistake]:
    """Return the mistake behind each cell's failures; cells whose pattern identifies none are left out.

    Args:
        lab: Name of the lab, such as ``"transfer_learning"``.
        results: Results of all checks of a submission.
    """
    known = _known(lab)
    found = {cell: known.get((cell, failed)) for cell, failed in patterns(results).items()}
    return {cell: mistake for cell, mistake in found.items() if mistake is not None}


def learn(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Find the patterns that identify a mistake.

    A pattern identifies a mistake if all of its cases have this one mistake, and if it occurs with even and odd seeds.

    Args:
        cases: Cases of the study. Cases without a named mistake disqualify every pattern that they share with others.

    Returns:
        The content of the lab's file: one entry for each pattern that identifies a mistake.
    """
    names: dict[tuple[str, Pattern], set[str]] = defaultdict(set)
    halves: dict[tuple[str, Pattern], set[int]] = defaultdict(set)
    for case in cases:
        for item in case.patterns.items():
            names[item].add(case.mistake)
            halves[item].add(case.seed % 2)
    # a pattern that only some seeds produce is weak evidence
    found = [(item, *named) for item, named in sorted(names.items()) if len(named) == 1 and halves[item] == {0, 1}]
    return [{"cell": cell, "pattern": list(failed), "name": name} for (cell, failed), name in found if name]


def write(lab: str, cases: Sequence[Case]) -> Path:
    """Learn from the cases, write the lab's file and return its path."""
    entries = learn(cases)
    file = _file(lab)
    file.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _known.cache_clear()
    return file


def _file(lab: str) -> Path:
    return HIDDEN_CHECKS / lab / "mistakes.json"


@cache
def _known(lab: str) -> dict[tuple[str, Pattern], Mistake]:
    """Return the learned patterns of a lab; none for a lab without a study."""
    file = _file(lab)
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {(e["cell"], tuple(e["pattern"])): Mistake(e["name"]) for e in entries}
