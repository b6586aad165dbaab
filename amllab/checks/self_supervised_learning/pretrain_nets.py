"""Two small networks that note in a journal what goes through them, and the views that they are pretrained on.

So a check knows which views a pretraining has shown, which of them its loss has compared, and which gradients came
back, whatever its code looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amllab.kit.watermarks import UNREADABLE, Draws, read
from amllab.protocol.schema import FloatMatrix, IntMatrix, IntVector

SIDE = 4  # of the images, in pixels
INPUTS, FEATURES, HIDDEN, OUTPUTS = 3 * (SIDE - 1) * SIDE, 8, 8, 6
MOST = 400  # calls that are recorded, so that an answer stays small
ALIKE = 1e-5  # 1 - cosine of a row with itself after rounding; rows of different views are much further apart

Rows = NDArray[np.float64]


class Pass(TypedDict):
    """One call of a network.

    Attributes:
        net: ``"encoder"`` or ``"projector"``.
        given: Number of batches that the loader had given by then.
        numbers: Number of the image of each row, int64 ``(n,)``; ``UNREADABLE`` for rows that are no view of an image.
        draws: Number of the draw of each row, int64 ``(n,)``.
        training: Whether all modules of the network were in train mode.
        learning: Whether gradients were recorded.
        outputs: ``(n, d)``.
        gradients: ``(n, d)``, of the outputs, the sum over all backward passes; zeros if there was none.
    """

    net: str
    given: int
    numbers: IntVector
    draws: IntVector
    training: bool
    learning: bool
    outputs: FloatMatrix
    gradients: FloatMatrix


class Compared(TypedDict):
    """One call of the loss that the check lends.

    Attributes:
        given: Number of batches that the loader had given by then.
        learning: Whether gradients were recorded.
        nets: Whose outputs both arguments are: ``"projector"``, ``"encoder"`` or ``""``.
        numbers: ``(2, n)``, the numbers of the images in each argument.
        draws: ``(2, n)``, the numbers of the draws.
        temperature: The temperature.
        value: What the loss returned.
    """

    given: int
    learning: bool
    nets: list[str]
    numbers: IntMatrix
    draws: IntMatrix
    temperature: float
    value: float


class Journal:
    """What the networks and the lent loss have seen.

    Everything is kept as Python numbers: a tensor that is made inside a transform of ``torch.func`` is of no use
    outside of it.
    """

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.passes: list[dict[str, Any]] = []
        self.compared: list[Compared] = []
        self.started: dict[str, Tensor] = {}
        # network -> directions of its outputs, and the image and draw of each
        self._known: dict[str, tuple[list[Rows], list[tuple[int, int]]]] = {"encoder": ([], []), "projector": ([], [])}

    def __deepcopy__(self, memo: dict[int, Any]) -> Journal:
        """Return the journal itself: copies of a network write into it, too."""
        return self

    def note(self, net: str, module: nn.Module, marks: tuple[list[int], list[int]], output: Tensor) -> None:
        """Note a call of a network, for rows with these numbers of images and draws."""
        if len(self.passes) >= MOST or not len(output):
            return
        if not any(done["net"] == net for done in self.passes):
            self.started |= {f"{net}.{name}": p.detach().clone() for name, p in module.named_parameters()}
        values = output.detach().tolist()
        entry: dict[str, Any] = {
            "net": net,
            "given": len(self.given),
            "marks": marks,
            "training": all(part.training for part in module.modules()),
            "learning": torch.is_grad_enabled(),
            "outputs": values,
            "gradients": np.zeros(np.shape(values)),
        }
        self.passes.append(entry)
        rows, names = self._known[net]
        rows.append(_directions(values))
        names.extend(zip(*marks, strict=True))

        def back(gradient: Tensor) -> None:
            entry["gradients"] = entry["gradients"] + np.array(gradient.detach().tolist())

        if output.requires_grad:
            output.register_hook(back)

    def marks(self, net: str, rows: Tensor) -> tuple[list[int], list[int]]:
        """Return the images and draws of outputs of a network; they are recognised by their directions."""
        known, names = self._known[net]
        nothing = [UNREADABLE] * len(rows)
        if not known or rows.ndim != 2 or rows.shape[1] != known[0].shape[1]:
            return nothing, list(nothing)
        cosines = _directions(rows.detach().tolist()) @ np.concatenate(known).T
        found = [
            names[i] if row[i] > 1 - ALIKE else (UNREADABLE, UNREADABLE) for row in cosines for i in [row.argmax()]
        ]
        return [number for number, _ in found], [draw for _, draw in found]

    def compare(self, z1: Tensor, z2: Tensor, temperature: Any, value: Tensor) -> None:
        """Note a call of the lent loss."""
        if len(self.compared) >= MOST:
            return
        nets, marks = [], []
        for rows in (z1, z2):
            tried = {net: self.marks(net, rows) for net in ("projector", "encoder")}
            net = next((net for net, found in tried.items() if UNREADABLE not in found[0]), "")
            nets.append(net)
            marks.append(tried[net or "projector"])
        self.compared.append(
            {
                "given": len(self.given),
                "learning": torch.is_grad_enabled(),
                "nets": nets,
                "numbers": torch.tensor([numbers for numbers, _ in marks]),
                "draws": torch.tensor([draws for _, draws in marks]),
                "temperature": float(temperature),
                "value": float(value.detach()),
            }
        )

    def calls(self) -> list[Pass]:
        """Return the calls of the networks as tensors."""
        return [
            {
                "net": entry["net"],
                "given": entry["given"],
                "numbers": torch.tensor(entry["marks"][0]),
                "draws": torch.tensor(entry["marks"][1]),
                "training": entry["training"],
                "learning": entry["learning"],
                "outputs": torch.tensor(entry["outputs"], dtype=torch.float32),
                "gradients": torch.tensor(entry["gradients"], dtype=torch.float32),
            }
            for entry in self.passes
        ]


def _directions(values: Sequence[Sequence[float]]) -> Rows:
    rows = np.array(values, dtype=np.float64)
    directions: Rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return directions


class Encoder(nn.Module):
    """A small encoder from images ``(n, 3, 4, 4)`` to features ``(n, 8)``; it does not look at the watermarks."""

    num_features = FEATURES

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, FEATURES, bias=False)
        self.norm = nn.BatchNorm1d(FEATURES)
        self.journal = journal

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images, and note which views they are."""
        features = torch.tanh(self.norm(self.layer(images[:, :, 1:].flatten(1))))
        if self.journal is not None:
            numbers, draws = read(images)
            self.journal.note("encoder", self, (numbers.tolist(), draws.tolist()), features)
        return features


class Projector(nn.Module):
    """A small projector from features ``(n, 8)`` to ``(n, 6)``."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, HIDDEN, bias=False)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.head = nn.Linear(HIDDEN, OUTPUTS)
        self.journal = journal

    def forward(self, features: Tensor) -> Tensor:
        """Return the projections of features, and note of which views they are."""
        projections: Tensor = self.head(torch.tanh(self.norm(self.layer(features))))
        if self.journal is not None:
            self.journal.note("projector", self, self.journal.marks("encoder", features), projections)
        return projections


class Views(Draws):
    """An augmentation that adds noise to an image, so that views of one image are alike.

    Args:
        seed: Seed of the noise.
        noise: For each image, by its number, the size of its noise. It grows with the number of the draw, so that the
            loss of every epoch is another one.
    """

    def __init__(self, seed: int, noise: Sequence[float]) -> None:
        super().__init__(seed)
        self.noise = list(noise)

    def view(self, image: Tensor, number: int, draw: int) -> Tensor:
        """Return the view that a draw makes of an image, float32 of its shape."""
        view = super().view(image, number, draw)
        size = self.noise[number] if 0 <= number < len(self.noise) else 1.0
        noisy = image + size * (1 + draw / (4 * len(self.noise))) * view
        noisy[0, 0, :2] = view[0, 0, :2]
        return noisy
