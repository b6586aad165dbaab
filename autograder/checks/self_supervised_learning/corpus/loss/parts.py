"""The means to write solutions of exercise 1: the plain function with changes, or another body for it."""

from __future__ import annotations

from autograder.checks.self_supervised_learning.corpus.plain import LOSS
from autograder.labs.corpus import Solution, replaced

CELL = "nt_xent_loss"
SIGNATURE = "def nt_xent_loss(z1, z2, temperature=0.5):\n"
GUARD = """\
    if z1.dim() != 2 or z1.shape != z2.shape or z1.shape[0] < 2 or temperature <= 0:
        raise ValueError("z1 and z2: one shape (n, d) with n >= 2; temperature: positive")
    n = z1.shape[0]
"""

# texts of the plain function
NORMALISE = "F.normalize(torch.cat([z1, z2]), dim=1)"
LOGITS = "z @ z.T / temperature"
MASK = '    logits = logits.masked_fill(itself, float("-inf"))\n'
OTHER = "torch.cat([torch.arange(n, 2 * n), torch.arange(n)])"
RETURN = "return F.cross_entropy(logits, other)"


def of_body(body: str, before: str = "") -> str:
    """Return the source of a function that checks its arguments as it should, and then does something else."""
    return f"{before}\n{SIGNATURE}{GUARD}{body.strip(chr(10))}\n"


def changed(name: str, text: str, cost: tuple[float, float], *texts: str) -> Solution:
    """Return the plain solution with texts replaced: old, new, old, new, ..."""
    return wrong(name, text, cost, replaced(LOSS, *texts))


def wrong(name: str, text: str, cost: tuple[float, float], source: str) -> Solution:
    """Return a solution with one mistake, and the fewest and the most points that it should cost."""
    return Solution(f"loss_{name}", {CELL: source}, text, CELL, cost=cost)


def correct(name: str, text: str, source: str) -> Solution:
    """Return a correct solution in a style of its own."""
    return Solution(f"loss_{name}", {CELL: source}, text)
