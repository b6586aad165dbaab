"""The assignment in the gradebook, created from the released notebook if necessary.

The gradebook is not part of a course's repository, so a fresh clone has none. Grading must not depend on someone
building the release again.
"""

from __future__ import annotations

import copy
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.preprocessors import SaveCells

from amllab.lab import Lab


def assignment_in(gradebook: Gradebook, db_url: str, lab: Lab, release: NotebookNode) -> Any:
    """Return the assignment's row with its graded cells, creating it from the release if the gradebook lacks it.

    Args:
        gradebook: The open gradebook.
        db_url: URL of its database.
        lab: The lab of the assignment.
        release: The notebook that students receive.
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
