"""Seeds of the checks' inputs: one for each round of grading.

All submissions of a round are asked the same questions, like a class that sits one exam. The images are then drawn
once, and the reference answers once. A round ends when feedback has been generated that names its seed: code that is
graded for the first time after that gets the seed of a new round, since it may have been written for the old one. Code
that has already been graded keeps its seed, so that the same code always gets the same questions
(:mod:`autograder.gradebook.rounds`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbformat import NotebookNode

from autograder.notebooks.metadata import is_autograded, skipped_cells


@dataclass(frozen=True)
class Seeds:
    """The seeds of one run of grading.

    Attributes:
        current: Seed of the current round.
        earlier: What a student has submitted (:func:`code_of`) -> seed of the earlier round in which it was graded.
    """

    current: int
    earlier: Mapping[str, int] = field(default_factory=dict)

    def of(self, student: str, notebook: NotebookNode) -> int:
        """Return the seed for grading a normalized notebook."""
        return self.earlier.get(code_of(student, notebook), self.current) if self.earlier else self.current


def seed_of(secret: str, number: int) -> int:
    """Derive the seed of a round, which nobody can predict.

    Args:
        secret: The assignment's random ID in the gradebook, which no submission can see.
        number: Number of the round.
    """
    return int.from_bytes(hmac.digest(secret.encode(), f"round {number}".encode(), "sha256")[:8], "big") >> 1


def code_of(student: str, notebook: NotebookNode) -> str:
    """Return a digest of a student and of everything of their notebook that is run.

    It depends on everything that is run (:func:`what_is_run`), so that nobody can write code for a seed that feedback
    has named, and on nothing else, so that nobody can resubmit the same code until they like the questions.
    """
    return hashlib.sha256(json.dumps([student, what_is_run(notebook)]).encode()).hexdigest()


def what_is_run(notebook: NotebookNode) -> list[tuple[str, str]]:
    """List the steps of a worker in order: the sources of the cells that it runs, and the checks between them.

    The position of a check matters as much as the code around it: it decides how many cells run before the questions
    can reveal anything to the code.
    """
    skipped = set(skipped_cells(notebook))
    steps = []
    for i, cell in enumerate(notebook.cells):
        if is_autograded(cell):
            steps.append(("check", cell.metadata.nbgrader.grade_id))
        elif i not in skipped and cell.cell_type == "code" and cell.source.strip():
            steps.append(("run", cell.source))
    return steps
