"""The assignment in the gradebook, as the released notebook has it.

The gradebook is no part of a course's repository: a fresh clone has none, and grading does not wait for anybody to make the
release a second time.
"""

from __future__ import annotations

import copy
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.preprocessors import SaveCells

from amllab.checks.lab import Lab


def assignment_in(gradebook: Gradebook, db_url: str, lab: Lab, release: NotebookNode) -> Any:
    """The assignment's row, with its graded cells; where the gradebook lacks it, the release fills it.

    Args:
        gradebook: open.
        db_url: its address.
        lab: whose assignment it is.
        release: the notebook as students get it.
    """
    try:
        gradebook.find_notebook(lab.notebook, lab.assignment)
    except MissingEntry:
        gradebook.update_or_create_assignment(lab.assignment)
        gradebook.db.commit()
        place = {"notebook": lab.notebook, "assignment": lab.assignment, "db_url": db_url}
        SaveCells().preprocess(copy.deepcopy(release), {"nbgrader": place})
        gradebook.db.expire_all()
    return gradebook.find_assignment(lab.assignment)
