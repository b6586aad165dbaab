"""What a lab declares for the calibration of its thresholds, in ``autograder/checks/<lab>/calibration.py``.

* ``TASK``: its :class:`amllab.kit.task.Task`;
* ``STYLES``: right and wrong variants of the functions that the task trains with;
* ``CEILINGS``, if attempts can end early: name of the data -> score from which no further attempt is made. Both
  thresholds must then be lower. Without a ceiling every attempt is made, which takes longer.

A :class:`Loop` writes variants that train in usual ways.

A lab with several trainings declares ``PARTS`` in place of ``TASK`` and ``STYLES``: a list of pairs of both. The names
of their data must differ, because thresholds are stored by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amllab.kit.task import Task
from amllab.lab import Lab
from autograder.labs.corpus import replaced
from autograder.labs.locations import hidden_name


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


# usual ways to train -> the code for the places of a loop
OPTIMIZERS = {
    "AdamW": {},
    "Adam": {"optimizer": "torch.optim.Adam(params, lr=lr)"},
    "Adam, cosine, clipped": {
        "optimizer": "torch.optim.Adam(params, lr=lr)",
        "scheduler": "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)",
        "clip": "nn.utils.clip_grad_norm_(params, 1.0)",
        "epoch": "scheduler.step()",
    },
    "AdamW, one cycle, weight decay 0.05": {
        "optimizer": "torch.optim.AdamW(params, lr=lr, weight_decay=0.05)",
        "scheduler": "torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * lr, total_steps=epochs * len(loader))",
        "batch": "scheduler.step()",
    },
    "RMSprop": {"optimizer": "torch.optim.RMSprop(params, lr=lr)"},
    "Adagrad": {"optimizer": "torch.optim.Adagrad(params, lr=lr)"},
    "SGD": {"optimizer": "torch.optim.SGD(params, lr=lr)"},
    "SGD, momentum 0.9": {"optimizer": "torch.optim.SGD(params, lr=lr, momentum=0.9)"},
    "SGD, Nesterov, warm-up, weight decay": {
        "optimizer": "torch.optim.SGD(params, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)",
        "scheduler": "torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, len(loader))",
        "batch": "scheduler.step()",
    },
}


@dataclass(frozen=True)
class Loop:
    """A correct training with a loss, of which variants are made.

    Attributes:
        imports: The first lines of each variant.
        loss: Source of the loss.
        source: Source of the training, with places: expressions ``OPTIMIZER`` and ``SCHEDULER``, and statements
            ``CLIP``, ``BATCH`` and ``EPOCH`` before each step, after it and after each epoch. It has ``params``,
            ``lr``, ``epochs`` and ``loader``.
    """

    imports: str
    loss: str
    source: str

    def trained(self, name: str) -> str:
        """Return the source of the training with one of ``OPTIMIZERS``."""
        given = {"optimizer": "torch.optim.AdamW(params, lr=lr)", "scheduler": "None"} | OPTIMIZERS[name]
        places = ("optimizer", "scheduler", "clip", "batch", "epoch")
        return replaced(self.source, *(text for p in places for text in (p.upper(), given.get(p, "pass"))))

    def usual(self, name: str, loss: str = "") -> Style:
        """Return a right variant with one of ``OPTIMIZERS`` and, if it is given, another loss."""
        return self.style(name, self.trained(name), loss=loss)

    def style(self, name: str, training: str, *, right: bool = True, loss: str = "", every: int = 1) -> Style:
        """Return a variant with another training and, if it is given, another loss."""
        return Style(name, right, self.imports + (loss or self.loss) + training, every)


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
            f"{lab.title} has nothing to calibrate: there is no {hidden_name(lab.name, 'calibration.py')}"
        ) from None
    parts = module.PARTS if hasattr(module, "PARTS") else [(module.TASK, module.STYLES)]
    found = [Calibrated(task(lab), styles, getattr(module, "CEILINGS", {})) for task, styles in parts]
    if len({declared.task.data for declared in found}) < len(found):
        raise ValueError(f"{name}: the trainings in PARTS need data of different names")
    return found
