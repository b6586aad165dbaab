"""The batches of a distillation: what was compared, and which gradients came back to the student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amllab.checks.knowledge_distillation.distill_nets import Compared, Student
from amllab.checks.knowledge_distillation.distill_probes import stand_in_loss
from amllab.checks.knowledge_distillation.distill_runs import Run, rows_of
from amllab.kit.step_checks import likeness
from amllab.kit.watermarks import Mark, marks, outputs_of_views

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the student's logits, the teacher's logits and the labels


@dataclass(frozen=True)
class Trained:
    """A batch that the student was trained on once.

    Attributes:
        epoch: Number of the pass over the loader.
        rows: The views.
        student: The logits that the student gave first, float64 ``(n, classes)``.
        gradients: Sum of the gradients that came back to these logits, ``(n, classes)``.
        teacher: The teacher's logits of the same rows; those that were compared, if a loss was lent.
        labels: The labels, as the loss got them if one was lent.
        lent: The call of the lent loss; ``None`` if the notebook computes its own.
    """

    epoch: int
    rows: list[Mark]
    student: Tensor
    gradients: Tensor
    teacher: Tensor
    labels: Tensor
    lent: Compared | None = None

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def lent_loss(self) -> Loss | None:
        """The loss that was lent, with the numbers that it got; ``None`` if the notebook computes its own."""
        if self.lent is None:
            return None
        return partial(stand_in_loss, temperature=self.lent["temperature"], alpha=self.lent["alpha"])

    def value(self, loss: Loss) -> float:
        """Return a loss of the batch."""
        return float(loss(self.student, self.teacher, self.labels))

    def likeness(self, loss: Loss) -> float:
        """Return the cosine of the gradient of a loss and of the one that came back to the student."""
        logits = self.student.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(loss(logits, self.teacher, self.labels), logits)
        return likeness(wanted, self.gradients)


def trained_batches(run: Run) -> list[Trained]:
    """Return the batches that a student was trained on, in the order of the loader.

    Batches without the logits of both networks are left out.
    """
    logits, gradients = outputs_of_views(run.trained, equal_nan=True)
    answers, _ = outputs_of_views(run.answers, equal_nan=True)
    if run.got["compared"]:
        parts: list[tuple[list[Mark], list[Mark], Tensor, Compared | None]] = [
            (rows_of(done, 0), rows_of(done, 1), done["labels"], done)
            for done in run.compared
            if done["nets"] == ["student", "teacher"] and len(done["labels"])
        ]
    else:
        given = [marks(part["numbers"], part["draws"]) for part in run.got["given"]]
        shown = [[mark for mark in batch if mark in run.shown] for batch in given]
        labels = run.asked["labels"]
        parts = [(rows, rows, labels[[number for number, _ in rows]], None) for rows in shown if rows]
    temperature, alpha = run.arguments.get("temperature", 4.0), run.arguments.get("alpha", 0.9)
    found = []
    for rows, of_teacher, labels, lent in parts:
        if not (all(mark in logits for mark in rows) and all(mark in answers for mark in of_teacher)):
            continue
        student, teacher = (
            torch.stack([known[mark] for mark in names]) for known, names in ((logits, rows), (answers, of_teacher))
        )
        if lent and tuple(rows) in run.mixed:
            # the parts of the loss, each by itself, have to add up to the whole
            value = float(stand_in_loss(student, teacher, labels, temperature, alpha))
            lent = {**lent, "temperature": temperature, "alpha": alpha, "value": value}
        came_back = torch.stack([gradients[mark] for mark in rows])
        found.append(Trained(run.passing.get(rows[0], 0), rows, student, came_back, teacher, labels, lent))
    return found


def before_and_after(one: Trained, run: Run, loss: Loss) -> tuple[float, float] | None:
    """Return the loss of a batch with the weights that the student had at the start, and with those at the end.

    The views go through the student in the modes of the training. There is no loss if they went there in parts.
    """
    done = next((done for done in run.trained if marks(done["numbers"], done["draws"]) == one.rows), None)
    if done is None:
        return None
    views = torch.stack([run.view(mark) for mark in one.rows]).double()
    found = []
    for state in ({**run.asked["student"], **run.started}, run.got["final"]):
        student = Student().double()
        student.load_state_dict(state)
        student.norm.train(not done["in_eval_mode"])
        with torch.no_grad():
            found.append(float(loss(student(views), one.teacher, one.labels)))
    return found[0], found[1]


def evaluations(run: Run) -> float:
    """Return how often a view is evaluated in training, on average."""
    return sum(run.shown.values()) / max(len(run.shown), 1)
