"""A training under a budget: what a lab declares, and what its checks and its calibration derive from that.

A lab subclasses :class:`Task`: its budget, its data, the questions that train and predict, and the score. The checks
call :func:`measured` and compare with :func:`thresholds`; ``autograder calibrate`` measures the thresholds with the
same task.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from amllab.lab import Lab
from amllab.protocol.failure import CheckFailure
from amllab.protocol.submission import Submission, SubmissionError


@dataclass(frozen=True)
class Score:
    """The number that says how well a model has learned, and how it is written.

    Attributes:
        name: What it is, such as ``"accuracy"``.
        worst: What an attempt gets that ends in an error or in NaN. No score is worse.
        step: Thresholds are multiples of this.
        higher_is_better: Whether a model with a higher score is better.
        factor, unit, digits: 0.456 is written as ``45.6 %`` with 100, ``" %"`` and 1.
    """

    name: str
    worst: float
    step: float
    higher_is_better: bool = True
    factor: float = 1.0
    unit: str = ""
    digits: int = 3

    def text(self, value: float) -> str:
        """Return a score as people read it."""
        return f"{self.factor * value:.{self.digits}f}{self.unit}"

    def beats(self, value: float, other: float) -> bool:
        """Return whether a score is better than another."""
        return value > other if self.higher_is_better else value < other

    def reaches(self, value: float, threshold: float) -> bool:
        """Return whether a score is at least as good as a threshold."""
        return value == threshold or self.beats(value, threshold)

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some scores; the worst possible one if there are none."""
        choose = max if self.higher_is_better else min
        return choose(values, default=self.worst)

    def credible(self, value: float) -> float:
        """Return a score that is a number and no worse than the worst."""
        return value if math.isfinite(value) and self.beats(value, self.worst) else self.worst


ACCURACY = Score("accuracy", worst=0.0, step=0.005, factor=100, unit=" %", digits=1)


class Task(ABC):
    """A training under a budget, with the functions of a submission, and the score of the result.

    Args:
        lab: The lab, with its settings.

    Attributes:
        table: The table of ``lab.toml`` that holds the budget.
        score: What the scores are.
        data_word: What the data are, for headings.
    """

    table: ClassVar[str]
    score: ClassVar[Score]
    data_word: ClassVar[str] = "Data"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    @abstractmethod
    def budget(self) -> dict[str, Any]:
        """What the scores depend on, as plain data, except for the data: thresholds hold for this budget only."""

    @property
    @abstractmethod
    def data(self) -> str:
        """The name of the data: each has thresholds of its own."""

    @property
    @abstractmethod
    def spread(self) -> float:
        """The smallest credible standard deviation of the scores: a smaller one that is measured is luck."""

    @property
    def attempts(self) -> Sequence[str]:
        """What is tried one after the other until a score suffices, such as ``lr=0.1``; the best attempt counts."""
        return [""]

    def prepare(self, submission: Submission) -> str:
        """Look at the submission before any training.

        Returns:
            A remark on what the training replaces, such as a model that does not fit; empty if nothing.
        """
        return ""

    @abstractmethod
    def train(self, submission: Submission, seed: int, attempt: int = 0, remark: str = "") -> Any:
        """Train and predict with the submission's functions.

        Args:
            submission: The submission to ask.
            seed: Seed of the run.
            attempt: Index of the attempt.
            remark: What :meth:`prepare` returned.

        Returns:
            Whatever :meth:`verify` and :meth:`rate` need.
        """

    @abstractmethod
    def rate(self, trained: Any) -> float:
        """Return the score of a training."""

    def verify(self, trained: Any, *, earns: bool) -> None:  # noqa: B027  (most tasks have nothing to add)
        """Fail the check if the training exceeded its budget, or if the predictions have another origin.

        Args:
            trained: What :meth:`train` returned.
            earns: Whether its score is worth points.
        """

    @property
    def evidence(self) -> Path:
        """The file of the thresholds, as ``autograder calibrate`` writes it."""
        return self.lab.evidence or self.lab.folder / "thresholds.json"


@dataclass(frozen=True)
class Measured:
    """What a submission reached.

    Attributes:
        scores: Attempt -> score, in the order of the trainings.
        score: What the scores are.
        remark: What the training replaced.
    """

    scores: dict[str, float]
    score: Score
    remark: str = ""

    @property
    def best(self) -> float:
        """The best score of all attempts."""
        return self.score.best(self.scores.values())

    def __str__(self) -> str:
        """Return the scores as people read them."""
        reached = [self.score.text(value) + (f" with {name}" if name else "") for name, value in self.scores.items()]
        return ", ".join([*reached, self.remark] if self.remark else reached)


_measured: WeakKeyDictionary[Submission, dict[tuple[type[Task], int], Measured]] = WeakKeyDictionary()


def measured(submission: Submission, task: Task, seed: int) -> Measured:
    """Train with the submission under the task's budget, with further attempts if one is not enough.

    A second call for the same submission and seed returns the same result.

    Raises:
        CheckFailure: The first training exceeded the budget, or its predictions have another origin.
        SubmissionError: The submission gave no answer.
        ValueError: There are no thresholds for the data and the budget.
    """
    known = _measured.setdefault(submission, {})
    if (type(task), seed) not in known:
        wanted, remark = thresholds(task), task.prepare(submission)
        scores: dict[str, float] = {}
        for number, name in enumerate(task.attempts):
            scores[name] = attempted(submission, task, seed, number, remark)
            if task.score.reaches(scores[name], wanted["full"]):
                break
        known[type(task), seed] = Measured(scores, task.score, remark)
    return known[type(task), seed]


def attempted(submission: Submission, task: Task, seed: int, attempt: int = 0, remark: str = "") -> float:
    """Return the score of one attempt that keeps to the rules.

    Raises:
        CheckFailure, SubmissionError: The first attempt fails. A later one that fails gets the worst score: what is
            tried there does not suit every submission.
    """
    try:
        trained = task.train(submission, seed, attempt, remark)
        reached = task.score.credible(task.rate(trained))
        task.verify(trained, earns=task.score.beats(reached, thresholds(task)["start"]))
    except (CheckFailure, SubmissionError):
        if attempt == 0:
            raise
        return task.score.worst
    return reached


def thresholds(task: Task) -> dict[str, float]:
    """Return scores: ``start``, beyond which there are points, and ``full``, from which all are given.

    Raises:
        ValueError: The thresholds were not measured for this data and budget.
    """
    found = calibrations(task).get(task.data)
    if found is None or found["budget"] != task.budget:
        settings = "own.toml" if task.lab.own else "lab.toml"
        raise ValueError(
            f"no thresholds were measured for the data and the budget of {settings}: run "
            f"'autograder calibrate {task.lab.assignment}'"
        )
    wanted: dict[str, float] = found["thresholds"]
    return wanted


def share_of_points(reached: float, wanted: dict[str, float]) -> float:
    """Return the share of the points for a score between both thresholds: 0 at ``start``, 1 at ``full``."""
    return (reached - wanted["start"]) / (wanted["full"] - wanted["start"])


def calibrations(task: Task) -> dict[str, Any]:
    """Return the evidence for each kind of data, with its thresholds; empty if there is none."""
    file = task.evidence
    return _read(file, file.stat().st_mtime_ns) if file.is_file() else {}


@lru_cache(maxsize=4)
def _read(file: Path, changed: int) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))
