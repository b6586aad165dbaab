"""Which checks a wrong solution does not pass, for those of which that is written down.

They are not in :attr:`autograder.labs.corpus.Solution.fails`, since the audit would then grade all of them, which takes
hours. The tests compare them without the isolation of grading.
"""

from __future__ import annotations

FAILS: dict[str, frozenset[str]] = {}  # wrong solution -> names of checks


def note(solution: str, fails: str) -> None:
    """Write down which checks a solution does not pass: names without ``test_``, separated by spaces."""
    if fails:
        FAILS[solution] = frozenset(f"test_{check}" for check in fails.split())
