"""Write solutions of an exercise for a corpus: the plain function with changes, or another body for it."""

from __future__ import annotations

from dataclasses import dataclass

from autograder.labs.corpus import Solution, replaced


@dataclass(frozen=True)
class Exercise:
    """An exercise of the corpus.

    Attributes:
        prefix: Beginning of the names of its solutions.
        cell: Name of the solution cell, and of the function.
        plain: Source of the plain correct function.
        head: Signature, and lines that refuse what the contract refuses.
    """

    prefix: str
    cell: str
    plain: str
    head: str

    def of_body(self, body: str, before: str = "") -> str:
        """Return the source of a function with another body after the head; ``before``: definitions before it."""
        return f"{before}\n{self.head}{body.strip(chr(10))}\n"

    def correct(self, name: str, text: str, source: str) -> Solution:
        """Return a correct solution: its name after the prefix, why it is correct, and its source."""
        return Solution(f"{self.prefix}_{name}", {self.cell: source}, text)

    def changed(self, name: str, text: str, cost: tuple[float, float], fails: str, *texts: str) -> Solution:
        """Return the plain solution with a mistake, by texts that are replaced: old, new, old, new, ..."""
        return self.wrong(name, text, cost, fails, replaced(self.plain, *texts))

    def wrong(self, name: str, text: str, cost: tuple[float, float], fails: str, source: str) -> Solution:
        """Return a solution with one mistake.

        Args:
            name: Its name, after the prefix.
            text: The mistake.
            cost: The fewest and the most points that it should cost.
            fails: Names of the checks that do not pass, without ``test_``, separated by spaces; empty if not listed.
            source: The source.
        """
        full = f"{self.prefix}_{name}"
        recorded = frozenset(f"test_{check}" for check in fails.split()) or None
        return Solution(full, {self.cell: source}, text, self.cell, cost=cost, recorded=recorded)
