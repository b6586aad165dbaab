"""Recognised mistakes: which mistake a pattern of failed checks stands for, as far as a study has shown it.

The mutation study (``bench/mutation_study.py``) makes one mistake at a time and notes which checks fail, and how (their
*symptoms*). A pattern that came from one mistake only names that mistake in the report of everyone who fails in the same way.
Every other pattern says nothing. What was learned is data: ``autograder/checks/<lab>/mistakes.json``.
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
    """What a pattern of failures stands for.

    Attributes:
        name: the mistake in words, as a clause: "restores the last instead of the best weights".
    """

    name: str

    def __str__(self) -> str:
        return f"This looks like a known mistake: {self.name}."


@dataclass(frozen=True)
class Case:
    """A submission of the study with one mistake, checked once.

    Attributes:
        mistake: its name; empty where it has none, as for most mutants.
        mutant: which submission it is; every one counts the same, however often it was checked.
        seed: of the checks.
        patterns: cell -> pattern, of the cells that lost points.
    """

    mistake: str
    mutant: str
    seed: int
    patterns: Mapping[str, Pattern]


def pattern(results: Iterable[CheckResult]) -> Pattern:
    """Names and symptoms of the failed checks; skipped ones follow from these."""
    failed = (r for r in results if r.outcome == "failed" and r.failure is not None)
    return tuple(sorted(f"{r.name}: {r.failure.symptom if r.failure else ''}" for r in failed))


def patterns(results: Sequence[CheckResult]) -> dict[str, Pattern]:
    """The pattern of each cell that has one."""
    found = {cell: pattern(r for r in results if r.cell == cell) for cell in dict.fromkeys(r.cell for r in results)}
    return {cell: failed for cell, failed in found.items() if failed}


def recognise(lab: str, results: Sequence[CheckResult]) -> dict[str, Mistake]:
    """The mistake that each cell's failures stand for; cells whose pattern says nothing are left out.

    Args:
        lab: its name, such as ``"transfer_learning"``.
        results: of all checks of a submission.
    """
    known = _known(lab)
    found = {cell: known.get((cell, failed)) for cell, failed in patterns(results).items()}
    return {cell: mistake for cell, mistake in found.items() if mistake is not None}


def learn(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Which patterns name a mistake: those of which every case, over even and over odd seeds, had this one mistake.

    Args:
        cases: of the study; those without a name count against every pattern that they share.

    Returns:
        What the file holds: one entry for each pattern that names a mistake.
    """
    names: dict[tuple[str, Pattern], set[str]] = defaultdict(set)
    halves: dict[tuple[str, Pattern], set[int]] = defaultdict(set)
    for case in cases:
        for item in case.patterns.items():
            names[item].add(case.mistake)
            halves[item].add(case.seed % 2)
    # a pattern of some seeds alone says little
    found = [(item, *named) for item, named in sorted(names.items()) if len(named) == 1 and halves[item] == {0, 1}]
    return [{"cell": cell, "pattern": list(failed), "name": name} for (cell, failed), name in found if name]


def write(lab: str, cases: Sequence[Case]) -> Path:
    """Learns, and writes the lab's file; returns its path."""
    entries = learn(cases)
    file = _file(lab)
    file.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _known.cache_clear()
    return file


def _file(lab: str) -> Path:
    return HIDDEN_CHECKS / lab / "mistakes.json"


@cache
def _known(lab: str) -> dict[tuple[str, Pattern], Mistake]:
    """What was learned of a lab; a lab without a study has nothing to say."""
    file = _file(lab)
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {(e["cell"], tuple(e["pattern"])): Mistake(e["name"]) for e in entries}
