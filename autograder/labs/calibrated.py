"""What a lab declares for the calibration of its thresholds, in ``autograder/checks/<lab>/calibration.py``.

* ``TASK``: its :class:`amllab.kit.task.Task`;
* ``STYLES``: right and wrong variants of the functions that the task trains with;
* ``CEILINGS``, if attempts can end early: name of the data -> score from which no further attempt is made. Both
  thresholds must then be lower. Without a ceiling every attempt is made, which takes longer.

A lab with several trainings declares ``PARTS`` in place of ``TASK`` and ``STYLES``: a list of pairs of both. The names
of their data must differ, because thresholds are stored by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amllab.kit.task import Task
from amllab.lab import Lab


@dataclass(frozen=True)
class Style:
    """A variant of the functions.

    Attributes:
        name: Name for tables.
        right: Whether it is correct: a right variant should get full points, a wrong one should not.
        source: Source of all cells.
        every: The variant is measured on one in this many seeds; variants that are far off need fewer.
        fitted: Whether the thresholds are fitted to detect it. Not if the check gives no points however good the
            model is; its score is measured nevertheless.
    """

    name: str
    right: bool
    source: str
    every: int = 1
    fitted: bool = True


@dataclass(frozen=True)
class Calibrated:
    """The declarations; see the module."""

    task: Task
    styles: Sequence[Style]
    ceilings: Mapping[str, float]

    @property
    def ceiling(self) -> float | None:
        """The score from which no further attempt is made; ``None`` if all are made."""
        return self.ceilings.get(self.task.data)

    def complete(self, scores: Sequence[float]) -> bool:
        """Return whether all attempts that have to be made were made, up to the ceiling."""
        ended = self.ceiling is not None and self.task.score.reaches(scores[-1], self.ceiling)
        return ended or len(scores) == len(self.task.attempts)


def calibrated_of(lab: Lab, part: int = 0) -> Calibrated:
    """Return what a lab declares for one of its trainings, or for the only one; see :func:`all_calibrated`."""
    return all_calibrated(lab)[part]


def all_calibrated(lab: Lab) -> list[Calibrated]:
    """Return what a lab declares for each of its trainings.

    Raises:
        LookupError: The lab has nothing to calibrate.
        ValueError: Two trainings have data of the same name, so that one would overwrite the thresholds of the other.
    """
    name = f"autograder.checks.{lab.name}.calibration"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise LookupError(
            f"{lab.title} has nothing to calibrate: there is no autograder/checks/{lab.name}/calibration.py"
        ) from None
    parts = module.PARTS if hasattr(module, "PARTS") else [(module.TASK, module.STYLES)]
    found = [Calibrated(task(lab), styles, getattr(module, "CEILINGS", {})) for task, styles in parts]
    if len({declared.task.data for declared in found}) < len(found):
        raise ValueError(f"{name}: the trainings in PARTS need data of different names")
    return found
