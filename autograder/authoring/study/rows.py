"""One row of the results of a study: what the checks said about a submission over all seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autograder.authoring.study.checker import Verdict
from autograder.authoring.study.subjects import HAND, PUBLIC, STYLE
from autograder.grading.mistakes import Case


@dataclass
class Row:
    """What the checks said about a subject over all seeds: one row of the results.

    Attributes:
        points_lost: points lost in its own cell -> number of seeds; for mutants of a tool, only the first seed is
            complete.
        elsewhere: cell -> points lost in other cells; the maximum over the seeds with which they were checked.
        failed: check -> symptom -> number of seeds.
        patterns: patterns by which mistakes are recognised: whether the seed is odd, and cell -> pattern; each once.
        seeds: number of seeds with which it was checked.
        broken: checks that broke, and processes that gave no answer.
        accuracy: points lost in the accuracy check, if it was run.
        cost: the fewest and the most points that the mistake should cost.
    """

    id: str
    kind: str
    digest: str
    of: str = ""
    exercise: str = ""
    name: str = ""
    old: str = ""
    new: str = ""
    reason: str = ""
    points_lost: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    patterns: list[tuple[int, dict[str, list[str]]]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    accuracy: float | None = None
    cost: list[float] | None = None

    def add(self, seed: int, verdict: Verdict, failed: dict[str, Counter[str]]) -> None:
        """Add what the checks said with one seed; count the symptoms of failed checks in ``failed``."""
        self.seeds.append(seed)
        own = {f"check_{self.exercise}"} if self.exercise else set(verdict.lost)
        points = f"{sum(points for cell, points in verdict.lost.items() if cell in own):g}"
        self.points_lost[points] = self.points_lost.get(points, 0) + 1
        for cell, lost in verdict.lost.items():
            if cell not in own:
                self.elsewhere[cell] = max(lost, self.elsewhere.get(cell, 0.0))
        for check, symptom in verdict.failed.items():
            failed[check][symptom] += 1
        pattern = (seed % 2, verdict.patterns)
        if verdict.patterns and pattern not in [tuple(known) for known in self.patterns]:
            self.patterns.append(pattern)
        self.broken += [*verdict.broken, *([verdict.ended] if verdict.ended else [])]

    @property
    def lost(self) -> list[float]:
        """Points lost in its own cell, a number for each seed, in ascending order."""
        numbers = sorted((float(points), number) for points, number in self.points_lost.items())
        return [points for points, number in numbers for _ in range(number)]

    @property
    def caught(self) -> int:
        """Number of seeds with which it lost points."""
        return sum(points > 0 for points in self.lost)

    @property
    def state(self) -> str:
        """What the study says about it, in a word or two."""
        if not self.lost:
            return "not checked"
        if self.kind == STYLE:
            return "false alarm" if self.caught else "correct"
        if self.reason:
            return "equivalent, but loses points" if self.caught else "equivalent"
        if not self.caught:
            return "caught by accuracy" if self.accuracy else "survived"
        return "caught" if self.caught == len(self.lost) else "flaky"

    @property
    def fault(self) -> str:
        """A line about a submission whose verdict is not as it should be; empty if it is."""
        if self.state in ("caught", "equivalent", "correct", "not checked") and not (self.elsewhere or self.broken):
            return ""
        what = self.name or f"{self.old} -> {self.new}"
        more = "".join(f" {found}" for found in (self.elsewhere, self.broken) if found)
        return f"{self.id}: {self.state} {self.caught}/{len(self.lost)}: {what!r}{more}"


def cases(rows: Iterable[Row]) -> list[Case]:
    """Return known cases for recognising mistakes: those of people with a name, those of operators without."""
    return [
        Case(row.name if row.kind == HAND else "", odd, {c: tuple(p) for c, p in by_cell.items()})
        for row in rows
        if row.kind not in (PUBLIC, STYLE)
        for odd, by_cell in row.patterns
    ]


def seeds_of(rows: Iterable[Row], kinds: Iterable[str]) -> str:
    """Return the number of seeds with which subjects of some kinds were checked: "5", or "1–5" if they differ."""
    return span([len(row.seeds) for row in rows if row.kind in set(kinds)])


def span(numbers: Sequence[float]) -> str:
    """Return the fewest and the most of some numbers: "3" or "3–5"; empty if there are none."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"
