"""The plain `pretrain` in parts, and the means to change it."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.plain import PLAIN
from autograder.labs.corpus import Solution, replaced

CELL = "pretrain"

SIGNATURE = "def pretrain(encoder, projector, loader, augment, *, epochs=10, lr=1e-3, temperature=0.5):\n"
REFUSE = '    if epochs < 1:\n        raise ValueError("epochs must be at least 1")\n'
OPTIMIZER = "    optimizer = torch.optim.AdamW(parameters, lr=lr)\n"
MODES = "    encoder.train()\n    projector.train()\n"
LOOP = "        for images, _labels in loader:\n"
SMALL = "            if len(images) < 2:\n                continue\n"
VIEWS = "            first, second = augment(images), augment(images)\n"
FORWARD = "            z1, z2 = projector(encoder(first)), projector(encoder(second))\n"
LOSS = "            loss = nt_xent_loss(z1, z2, temperature)\n"
CLEAR, BACK, STEP = (
    f"            {text}\n" for text in ("optimizer.zero_grad()", "loss.backward()", "optimizer.step()")
)
UPDATE = CLEAR + BACK + STEP
SUM = "            total += loss.item() * len(images)\n            seen += len(images)\n"
MEAN = '        history["loss"].append(total / seen)\n'


def correct(name: str, text: str, *changes: str) -> Solution:
    """Return the plain solution in another style: texts replaced, old, new, old, new, ..."""
    return Solution(f"pretrain_{name}", {CELL: replaced(PLAIN[CELL], *changes)}, text)


def wrong(name: str, text: str, cost: tuple[float, float], *changes: str, source: str = PLAIN[CELL]) -> Solution:
    """Return a solution with one mistake, which should cost so many points: texts replaced, old, new, old, new, ..."""
    return Solution(f"pretrain_{name}", {CELL: replaced(source, *changes)}, text, CELL, cost=cost)


def whole(name: str, text: str, source: str, cost: tuple[float, float] | None = None) -> Solution:
    """Return a solution with a source of its own; with a cost, a wrong one."""
    return Solution(f"pretrain_{name}", {CELL: source}, text, CELL if cost else "", cost=cost)
