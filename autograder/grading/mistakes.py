"""Recognised mistakes: patterns of failed checks that a study has traced to a single mistake.

The mutation study (``autograder study``) makes one mistake at a time and records which checks fail, and
how (their *symptoms*). If only one mistake produces a pattern, the reports of all submissions that fail in the same way
name that mistake. The learned patterns are data: ``autograder/checks/<lab>/mistakes.json``.

Many submissions have several mistakes. A pattern that no single change of the study has caused is explained by two
patterns, or else three, that single changes have caused: they must have no check in common, and nothing else that the
study has seen may explain it, also not with checks in common. Those of the two or three that identify a mistake are
named, and so are those whose symptom alone says what is wrong, whatever the code (:func:`effect`). In all other cases,
the report says nothing.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amllab.checks.results import CheckResult
from autograder.labs.locations import hidden_checks

Pattern = tuple[str, ...]
_MOST_MISTAKES = 3  # that explain one pattern


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


@dataclass(frozen=True)
class Recognised:
    """The mistakes behind the failures of a cell.

    Attributes:
        names: Clauses such as "restores the last weights".
        partly: Whether there is another mistake that has no name.
    """

    names: tuple[str, ...]
    partly: bool = False

    @property
    def sentence(self) -> str:
        """What a report says."""
        begin = "Part of this" if self.partly else "This"
        number = {1: "a known mistake", 2: "two known mistakes"}.get(len(self.names), "several known mistakes")
        return f"{begin} looks like {number}: {'; and '.join(self.names)}."


def patterns(results: Iterable[CheckResult]) -> dict[str, Pattern]:
    """Return names and symptoms of each cell's failed checks, without the skipped checks that follow from them."""
    found: dict[str, list[str]] = defaultdict(list)
    for r in results:
        if r.outcome == "failed" and r.failure is not None:
            found[r.cell].append(f"{r.name}: {r.failure.symptom}")
    return {cell: tuple(sorted(failed)) for cell, failed in found.items()}


def recognise(lab: str, results: Sequence[CheckResult]) -> dict[str, Recognised]:
    """Return the mistakes behind each cell's failures.

    Cells whose pattern identifies none are left out.

    Args:
        lab: Name of the lab, such as ``"transfer_learning"``.
        results: Results of all checks of a submission.
    """
    found = {cell: explain(lab, cell, failed) for cell, failed in patterns(results).items()}
    return {cell: recognised for cell, recognised in found.items() if recognised is not None}


def explain(lab: str, cell: str, failed: Pattern) -> Recognised | None:
    """Return the mistakes that a pattern identifies, or ``None`` if it identifies none."""
    known, seen = _known(lab), _seen(lab).get(cell, frozenset())
    if (cell, failed) in known:
        return Recognised((known[cell, failed],))
    if failed in seen:
        return None
    checks = {_check(item) for item in failed}
    possible = [pattern for pattern in seen if {_check(item) for item in pattern} <= checks]
    for number in range(2, _MOST_MISTAKES + 1):
        if causes := _causes(frozenset(failed), frozenset(), possible, number):
            break
    else:
        return None
    parts = min(causes, key=len)
    if len(causes) > 1 or sum(map(len, parts)) > len(failed):  # several explanations, or checks in common
        return None
    names = [name for part in parts if (name := known.get((cell, part)) or effect(part))]
    if not names or len(set(names)) < len(names):
        return None
    return Recognised(tuple(sorted(names)), partly=len(names) < len(parts))


def effect(failed: Pattern) -> str:
    """Return what is wrong for sure, if the symptom of a pattern says it; else an empty string.

    Many changes have the same effect: a function without a test of its arguments, with one that only prints, or that
    bends them, accepts them all.
    """
    found = re.fullmatch(r"test_refuses_(\w+): accepts anything", failed[0]) if len(failed) == 1 else None
    return f"raises no ValueError for {found[1].replace('_', ' ')}" if found else ""


def _causes(
    left: frozenset[str], hidden: frozenset[str], possible: Sequence[Pattern], number: int
) -> set[frozenset[Pattern]]:
    """Return all sets of so many patterns that can together look like a pattern.

    A check that several of them make fail shows the symptom of one of them.

    Args:
        left: What the patterns have to show.
        hidden: Checks that show the symptom of another pattern.
        possible: Patterns to choose from.
        number: How many.
    """
    if number == 1:
        return {frozenset([p]) for p in possible if {item for item in p if _check(item) not in hidden} == left}
    found: set[frozenset[Pattern]] = set()
    for part in possible:
        shown = {item for item in part if _check(item) not in hidden}
        if shown and shown < left:
            rest = _causes(left - shown, hidden | {_check(item) for item in shown}, possible, number - 1)
            found |= {others | {part} for others in rest if part not in others}
    return found


def _check(item: str) -> str:
    return item.partition(":")[0]


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
    _seen.cache_clear()
    return file


def _file(lab: str) -> Path:
    return hidden_checks(lab) / "mistakes.json"


@cache
def _seen(lab: str) -> dict[str, frozenset[Pattern]]:
    """Return all patterns that a single change has caused in the study of a lab, by cell.

    The learned ones are among them, also if the evidence of the study is missing.
    """
    found: dict[str, set[Pattern]] = defaultdict(set)
    for cell, failed in _known(lab):
        found[cell].add(failed)
    file = hidden_checks(lab) / "evidence" / "study.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        for _, by_cell in json.loads(line).get("patterns", ()):
            for cell, failed in by_cell.items():
                found[cell].add(tuple(failed))
    return {cell: frozenset(each) for cell, each in found.items()}


@cache
def _known(lab: str) -> dict[tuple[str, Pattern], str]:
    """Return the name of the mistake behind each learned pattern of a lab; none for a lab without a study."""
    file = _file(lab)
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {(e["cell"], tuple(e["pattern"])): e["name"] for e in entries}
