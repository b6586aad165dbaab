"""A small student, a small teacher and a loader of new views, which note what a distillation does with them.

So a check knows which views both networks were shown, which of their answers were compared, with which labels, and
which gradients came back, whatever the code of the training looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amllab.kit.probing import CountedBatches
from amllab.kit.watermarks import UNREADABLE, Draws, Mark, read
from amllab.protocol.schema import FloatMatrix, IntMatrix, IntVector

SIDE = 4  # of the images, in pixels
CLASSES = 4
INPUTS, HIDDEN, WIDE = 3 * (SIDE - 1) * SIDE, 8, 12
MOST = 400  # calls that are recorded, so that an answer stays small
NEAR = 1e-5  # largest difference between a row and the same row after rounding, relative to its largest number
DEPENDING = nn.BatchNorm1d, nn.Dropout  # layers that do something else in train mode

Rows = NDArray[np.float64]


class Answered(TypedDict):
    """One call of a network.

    Attributes:
        net: ``"student"`` or ``"teacher"``.
        numbers: Number of the image of each row, int64 ``(n,)``; ``UNREADABLE`` for rows that are no view of an image.
        draws: Number of the draw of each row, int64 ``(n,)``.
        in_train_mode: Names of the BatchNorm and dropout layers in train mode.
        in_eval_mode: Names of those in eval mode.
        learning: Whether gradients were recorded.
        outputs: The logits, ``(n, classes)``.
        gradients: ``(n, classes)``, of the logits, the sum over all backward passes; zeros if there was none.
        reached: Whether any backward pass has reached the logits.
    """

    net: str
    numbers: IntVector
    draws: IntVector
    in_train_mode: list[str]
    in_eval_mode: list[str]
    learning: bool
    outputs: FloatMatrix
    gradients: FloatMatrix
    reached: bool


class Compared(TypedDict):
    """One call of the loss that the check lends.

    Attributes:
        learning: Whether gradients were recorded.
        nets: Whose logits the first two arguments are: ``"student"``, ``"teacher"`` or ``""``.
        numbers: ``(2, n)``, the numbers of the images of both.
        draws: ``(2, n)``, the numbers of the draws.
        labels: The labels, int64 ``(n,)``.
        attached: Whether the teacher's logits required a gradient.
        temperature: The temperature.
        alpha: The weight of the teacher's part.
        value: What the loss returned.
    """

    learning: bool
    nets: list[str]
    numbers: IntMatrix
    draws: IntMatrix
    labels: IntVector
    attached: bool
    temperature: float
    alpha: float
    value: float


class Journal:
    """What the networks and the lent loss have seen, and what the loader has given.

    Everything is kept as Python numbers: a tensor that is made inside a transform of ``torch.func`` is of no use
    outside of it.
    """

    def __init__(self) -> None:
        self.given: list[tuple[int, list[int], list[int]]] = []  # pass over the loader, numbers and draws of the batch
        self.answers: list[dict[str, Any]] = []
        self.compared: list[Compared] = []
        self.started: dict[str, Tensor] = {}
        # network -> rows of its logits, and the image and draw of each
        self._known: dict[str, tuple[list[Rows], list[Mark]]] = {"student": ([], []), "teacher": ([], [])}

    def __deepcopy__(self, memo: dict[int, Any]) -> Journal:
        """Return the journal itself: copies of a network write into it, too."""
        return self

    def note(self, net: str, module: nn.Module, images: Tensor, logits: Tensor) -> None:
        """Note a call of a network."""
        if len(self.answers) >= MOST or not len(logits):
            return
        marks = [part.tolist() for part in read(images)]
        if not self._known[net][0]:
            self.started |= {f"{net}.{name}": p.detach().cpu().clone() for name, p in module.named_parameters()}
        values = logits.detach().tolist()
        depending = {name: part.training for name, part in module.named_modules() if isinstance(part, DEPENDING)}
        entry: dict[str, Any] = {
            "net": net,
            "marks": marks,
            "in_train_mode": [name for name, training in depending.items() if training],
            "in_eval_mode": [name for name, training in depending.items() if not training],
            "learning": torch.is_grad_enabled(),
            "outputs": values,
            "gradients": np.zeros(np.shape(values)),
            "reached": False,
        }
        self.answers.append(entry)
        rows, names = self._known[net]
        rows.append(np.array(values, dtype=np.float64))
        names.extend(zip(*marks, strict=True))

        def back(gradient: Tensor) -> None:
            entry["gradients"] = entry["gradients"] + np.array(gradient.detach().tolist())
            entry["reached"] = True

        if logits.requires_grad:
            logits.register_hook(back)

    def marks(self, net: str, logits: Tensor) -> list[Mark]:
        """Return the images and draws of logits of a network, which are recognised by their values."""
        known, names = self._known[net]
        nothing = [(UNREADABLE, UNREADABLE)] * (len(logits) if logits.ndim else 0)
        if not known or logits.ndim != 2 or logits.shape[1] != known[0].shape[1] or not len(logits):
            return nothing
        rows = np.array(logits.detach().tolist(), dtype=np.float64)
        apart = np.abs(rows[:, None] - np.concatenate(known)[None]).max(2)
        nearest = apart.argmin(1)
        limits = NEAR * np.maximum(np.abs(rows).max(1), 1e-2)
        return [
            names[j] if row[j] <= limit else nothing[0] for row, j, limit in zip(apart, nearest, limits, strict=True)
        ]

    def compare(self, value: Tensor, student: Tensor, teacher: Tensor, labels: Tensor, *numbers: Any) -> None:
        """Note a call of the lent loss; ``numbers`` are temperature and alpha."""
        if len(self.compared) >= MOST:
            return
        nets, marks = [], []
        for rows, first in ((student, "student"), (teacher, "teacher")):
            tried = {net: self.marks(net, rows) for net in sorted(("student", "teacher"), key=first.__ne__)}
            net = next((net for net, found in tried.items() if (UNREADABLE, UNREADABLE) not in found), "")
            nets.append(net)
            marks.append(tried[net or first])
        self.compared.append(
            {
                "learning": torch.is_grad_enabled(),
                "nets": nets,
                "numbers": torch.tensor([[number for number, _ in found] for found in marks], dtype=torch.int64),
                "draws": torch.tensor([[draw for _, draw in found] for found in marks], dtype=torch.int64),
                "labels": torch.tensor([int(label) for label in labels.tolist()], dtype=torch.int64),
                "attached": bool(teacher.requires_grad),
                "temperature": float(numbers[0]),
                "alpha": float(numbers[1]),
                "value": float(value.detach()),
            }
        )

    def calls(self) -> list[Answered]:
        """Return the calls of the networks as tensors."""
        return [
            {
                "net": entry["net"],
                "numbers": torch.tensor(entry["marks"][0], dtype=torch.int64),
                "draws": torch.tensor(entry["marks"][1], dtype=torch.int64),
                "in_train_mode": entry["in_train_mode"],
                "in_eval_mode": entry["in_eval_mode"],
                "learning": entry["learning"],
                "outputs": torch.tensor(entry["outputs"], dtype=torch.float32),
                "gradients": torch.tensor(entry["gradients"], dtype=torch.float32),
                "reached": entry["reached"],
            }
            for entry in self.answers
        ]


class Student(nn.Module):
    """A small network from images ``(n, 3, 4, 4)`` to logits; it does not look at the watermarks."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, HIDDEN, bias=False)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.journal = journal

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, and note which views they are."""
        logits: Tensor = self.head(torch.tanh(self.norm(self.layer(images[:, :, 1:].flatten(1)))))
        if self.journal is not None:
            self.journal.note("student", self, images, logits)
        return logits


class Teacher(nn.Module):
    """A wider network of the same kind, with dropout."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(INPUTS, WIDE, bias=False), nn.BatchNorm1d(WIDE), nn.Tanh(), nn.Dropout(0.4))
        self.head = nn.Linear(WIDE, CLASSES)
        self.journal = journal

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, and note which views they are."""
        logits: Tensor = self.head(self.body(images[:, :, 1:].flatten(1)))
        if self.journal is not None:
            self.journal.note("teacher", self, images, logits)
        return logits


class Views(Draws):
    """An augmentation that gives an image new values.

    Args:
        seed: Seed of the values.
        scales: For each image, by its number, the size of the values.
    """

    def __init__(self, seed: int, scales: Sequence[float]) -> None:
        super().__init__(seed)
        self.scales = list(scales)

    def view(self, image: Tensor, number: int, draw: int) -> Tensor:
        """Return the view that a draw makes of an image, float32 of its shape."""
        view = super().view(image, number, draw)
        marks = view[0, 0, :2].clone()
        view = view * self.scales[number]
        view[0, 0, :2] = marks
        return view


class ViewsLoader(CountedBatches):
    """Batches of images in new views, other ones in each pass, as of a loader that augments.

    Args:
        data: As of :class:`~amllab.kit.batches.Batches`.
        views: The augmentation.
        journal: Where the batches are noted.
    """

    def __init__(self, data: dict[str, Any], views: Views, journal: Journal) -> None:
        super().__init__(data)
        self.views, self.journal = views, journal

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = super().__iter__()
        number = self.passes
        for images, labels in batches:
            views = self.views(images)
            if len(self.journal.given) < MOST:
                numbers, draws = read(views)
                self.journal.given.append((number, numbers.tolist(), draws.tolist()))
            yield views, labels
