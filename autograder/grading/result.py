"""The result of grading a submission."""

from __future__ import annotations

from dataclasses import dataclass, field

from amllab.checks.results import CheckResult, score
from autograder.grading.mistakes import Recognised


@dataclass
class GradingResult:
    """The result of grading one submission.

    Attributes:
        results: Results of all checks.
        seed: Seed of the inputs that the checks sampled.
        seconds: Wall time of the whole grading.
        notes: Notes from the repair: what it fixed, or why nothing could be read.
        isolation: How the submission was isolated.
        readable: Whether anything of the submission could be run.
        stopped: Which cells a limit ended or kept from running, and why, in the grader's own words.
        mistakes: Cell -> the known mistakes that its failures look like.
        crowded: How other processes starved the submission of CPU time until it reached a time limit; empty if they did
            not.
        failed: Notes for the student on cells above the checks that ended in an error or were stopped.
    """

    results: list[CheckResult]
    seed: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    isolation: str = "namespaces"
    readable: bool = True
    stopped: list[str] = field(default_factory=list)
    mistakes: dict[str, Recognised] = field(default_factory=dict)
    crowded: str = ""
    failed: list[str] = field(default_factory=list)

    def remarks(self, cell: str) -> list[str]:
        """Return sentences about a cell's failures as a whole."""
        return [self.mistakes[cell].sentence] if cell in self.mistakes else []

    def as_dict(self) -> dict[str, object]:
        """Return the result as data that JSON can store."""
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
            "failed": self.failed,
            "mistakes": {cell: "; and ".join(found.names) for cell, found in self.mistakes.items()},
        }
