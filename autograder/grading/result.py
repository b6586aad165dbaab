"""What grading found out about a submission."""

from __future__ import annotations

from dataclasses import dataclass, field

from amllab.checks.results import CheckResult, score
from autograder.grading.mistakes import Mistake


@dataclass
class GradingResult:
    """What came of one submission.

    Attributes:
        results: of all checks.
        seed: from which the checks drew their inputs.
        seconds: wall time of it all.
        notes: what was mended beforehand.
        isolation: how the submission was kept apart.
        readable: whether anything of the submission could be run.
        stopped: which cells a limit ended or kept from running, and why, in the judge's own words.
        mistakes: cell -> the known mistake that its failures look like.
        crowded: how others kept the processors from it until a limit of time was reached; empty where they did not.
    """

    results: list[CheckResult]
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    isolation: str = "namespaces"
    readable: bool = True
    stopped: list[str] = field(default_factory=list)
    mistakes: dict[str, Mistake] = field(default_factory=dict)
    crowded: str = ""

    def remarks(self, cell: str) -> list[str]:
        """Sentences about a cell's failures taken together."""
        return [str(self.mistakes[cell])] if cell in self.mistakes else []

    def as_dict(self) -> dict[str, object]:
        earned, possible = score(self.results)
        cells = {cell: score(self.results, cell) for cell in dict.fromkeys(r.cell for r in self.results)}
        return {
            "score": earned,
            "max_score": possible,
            "cells": {cell: {"score": got, "max_score": most} for cell, (got, most) in cells.items()},
            "checks": [r.as_dict() for r in self.results],
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "notes": self.notes,
            "isolation": self.isolation,
            "readable": self.readable,
            "stopped": self.stopped,
            "crowded": self.crowded,
            "mistakes": {cell: mistake.name for cell, mistake in self.mistakes.items()},
        }
