"""The means to write solutions of exercise 3: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.knowledge_distillation.corpus.plain_calibration_error import CALIBRATION
from autograder.labs.corpus import Solution, replaced
from autograder.labs.exercise import Exercise

CELL = "calibration_error"
SIGNATURE = "def expected_calibration_error(logits, labels, n_bins=15):\n"
GUARD = """\
    if n_bins < 1 or logits.shape[0] != labels.shape[0]:
        raise ValueError("n_bins: at least 1; one label for each row of logits")
"""

# texts of the plain function
NO_BINS = '    if n_bins < 1:\n        raise ValueError("n_bins must be at least 1")\n'
LENGTHS = '    if len(labels) != len(logits):\n        raise ValueError("each row of logits needs a label")\n'
PROBABILITIES = "logits.detach().softmax(dim=1)"
MOST_PROBABLE = "probabilities.max(dim=1)"
RIGHT = "(predicted == labels).float()"
EDGES = "torch.linspace(0, 1, n_bins + 1)"
INSIDE = "(confidence > low) & (confidence <= high)"
GAP = "(right[inside].mean() - confidence[inside].mean()).abs()"
ADD = "error += inside.float().mean().item() * gap.item()"
RETURN = "return error"

_EXERCISE = Exercise("calibration", CELL, CALIBRATION, SIGNATURE + GUARD)
# the notebook need not import these
_IMPORTS = {
    "np.": "import numpy as np\n",
    "math.": "import math\n",
    "defaultdict(": "from collections import defaultdict\n",
}


def with_imports(source: str) -> str:
    """Return a source with the imports that it needs."""
    return "".join(line for name, line in _IMPORTS.items() if name in source) + source


def of_body(body: str, before: str = "") -> str:
    """Return the source of a function with another body after the head; ``before``: definitions before it."""
    return _EXERCISE.of_body(body, before)


def correct(name: str, text: str, source: str) -> Solution:
    """Return a correct solution; see :meth:`Exercise.correct`."""
    return _EXERCISE.correct(name, text, with_imports(source))


def wrong(name: str, text: str, cost: tuple[float, float], fails: str, source: str) -> Solution:
    """Return a solution with one mistake; see :meth:`Exercise.wrong`."""
    return _EXERCISE.wrong(name, text, cost, fails, with_imports(source))


def changed(name: str, text: str, cost: tuple[float, float], fails: str, *texts: str) -> Solution:
    """Return the plain solution with a mistake, by texts that are replaced: old, new, old, new, ..."""
    return wrong(name, text, cost, fails, replaced(CALIBRATION, *texts))
