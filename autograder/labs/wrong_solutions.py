"""Wrong functions that a lab keeps, to show that its checks notice them: ``autograder/checks/<lab>/wrong.py``.

That file has a list ``WRONG``. The lab's tests and ``autograder audit`` grade each of them.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

from amllab.checks.lab import Lab
from amllab.checks.results import CheckResult


@dataclass(frozen=True)
class Wrong:
    """What a student could hand in for one exercise.

    Attributes:
        name: the mistake as a clause: ``"divides by zero"``.
        cell: grade id of the cell that the function stands in.
        source: of that cell.
        fails: names of all checks that do not pass, those included that are skipped as they need a failed one.
    """

    name: str
    cell: str
    source: str
    fails: frozenset[str]

    def put_into(self, notebook: NotebookNode) -> NotebookNode:
        """A copy of the notebook that has this function in its cell.

        Raises:
            LookupError: the notebook has no such cell.
        """
        notebook = copy.deepcopy(notebook)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == self.cell:
                cell.source = self.source
                return notebook
        raise LookupError(f"{self.name!r} is for the cell {self.cell!r}, which the notebook does not have")


def not_passed(results: Iterable[CheckResult]) -> frozenset[str]:
    """Names of the checks that did not pass."""
    return frozenset(result.name for result in results if result.outcome != "passed")


def wrong_of(lab: Lab) -> list[Wrong]:
    """The wrong functions of a lab; none where it keeps none."""
    name = f"autograder.checks.{lab.name}.wrong"
    if importlib.util.find_spec(name) is None:
        return []
    wrong: list[Wrong] = importlib.import_module(name).WRONG
    return wrong
