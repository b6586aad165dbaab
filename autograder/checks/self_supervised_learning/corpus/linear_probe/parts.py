"""The means to write solutions of exercise 3: the plain function with changes, or another body for it."""

from __future__ import annotations

import textwrap

from autograder.checks.self_supervised_learning.corpus.plain import PROBE
from autograder.labs.corpus import Solution, replaced

CELL = "linear_probe"
SIGNATURE = "def linear_probe(encoder, loader, num_classes, *, epochs=50, lr=1e-2):\n"
GUARD = """\
    if num_classes < 2:
        raise ValueError(f"a probe needs two classes, not {num_classes}")
"""

# name, mistake, cost, and texts of the plain function that are replaced: old, new, old, new, ...
Row = tuple[str, str, tuple[float, float], *tuple[str, ...]]

# texts of the plain function
MODES = "    modes = [(module, module.training) for module in encoder.modules()]\n"
EVAL = "    encoder.eval()\n"
RESTORE = "    for module, training in modes:\n        module.training = training\n"
NO_GRAD = "    with torch.no_grad():\n        for images, targets in loader:\n"
ENCODE = "            features.append(encoder(images))\n"
COLLECT = f"{ENCODE}            labels.append(targets)\n"
JOIN = "    features, labels = torch.cat(features), torch.cat(labels)\n"
HEAD = "    head = nn.Linear(features.shape[1], num_classes).to(features.device)\n"
OPTIMIZER = "torch.optim.Adam(head.parameters(), lr=lr)"
EPOCHS = "        for _ in range(epochs):\n"
ROWS = "            for rows in torch.randperm(len(features)).split(64):\n"
LOSS = "F.cross_entropy(head(features[rows]), labels[rows])"
STEP = """\
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
"""
RETURN = "    return head\n"
# features computed once, as in the plain function, for other bodies to go on with
FEATURES = f"{MODES}{EVAL}    features, labels = [], []\n{NO_GRAD}{COLLECT}{RESTORE}{JOIN}"


def of_body(body: str, before: str = "", *, features: bool = False) -> str:
    """Return the source of a function that checks its arguments as it should, and then does something else.

    Args:
        body: What it does, indented or not.
        before: Definitions above the function.
        features: Whether ``features`` and ``labels`` are computed first, as in the plain function.
    """
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f"{textwrap.dedent(before)}\n{SIGNATURE}{GUARD}{FEATURES if features else ''}{lines}\n"


def changed(rows: list[Row]) -> list[Solution]:
    """Return the plain solution with one mistake for each row."""
    return [wrong(name, text, cost, replaced(PROBE, *texts)) for name, text, cost, *texts in rows]


def wrong(name: str, text: str, cost: tuple[float, float], source: str) -> Solution:
    """Return a solution with one mistake, and the fewest and the most points that it should cost."""
    return Solution(f"probe_{name}", {CELL: source}, text, CELL, cost=cost)


def correct(name: str, text: str, source: str) -> Solution:
    """Return a correct solution in a style of its own."""
    return Solution(f"probe_{name}", {CELL: source}, text)
