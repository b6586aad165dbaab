"""Wrong functions stored with a lab, to show that its checks detect them: ``autograder/checks/<lab>/wrong.py``.

That file defines a list ``WRONG``. The lab's tests and ``autograder audit`` grade each of its entries.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

from amllab.checks.results import CheckResult
from amllab.lab import Lab


@dataclass(frozen=True)
class Wrong:
    """A wrong solution that a student could submit for one exercise.

    Attributes:
        name: The mistake as a clause, such as ``"divides by zero"``.
        cell: Grade id of the cell that contains the function.
        source: Source of that cell.
        fails: Names of all checks that do not pass, including those skipped because they need a failed one.
    """

    name: str
    cell: str
    source: str
    fails: frozenset[str]

    def put_into(self, notebook: NotebookNode) -> NotebookNode:
        """Return a copy of the notebook with this function in its cell.

        Raises:
            LookupError: The notebook has no such cell.
        """
        notebook = copy.deepcopy(notebook)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == self.cell:
                cell.source = self.source
                return notebook
        raise LookupError(f"{self.name!r} is for the cell {self.cell!r}, which the notebook does not have")


def not_passed(results: Iterable[CheckResult]) -> frozenset[str]:
    """Return the names of the checks that did not pass."""
    return frozenset(result.name for result in results if result.outcome != "passed")


def wrong_of(lab: Lab) -> list[Wrong]:
    """Return the wrong functions of a lab, or an empty list if it has none."""
    name = f"autograder.checks.{lab.name}.wrong"
    if importlib.util.find_spec(name) is None:
        return []
    wrong: list[Wrong] = importlib.import_module(name).WRONG
    return wrong
