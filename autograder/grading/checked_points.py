"""The points of a lab's checks, compared with those of the release once for each version of both.

To list the checks takes seconds, since it imports PyTorch, which the process of ``nbgrader autograde`` does not need.
``autograder build`` has compared them already when a class is graded for the first time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode

from amllab.lab import Lab
from autograder.grading.cache import engine
from autograder.grading.lab_digest import lab_digest
from autograder.labs.catalog import checks_of
from autograder.labs.points import check_points
from autograder.notebooks.metadata import is_autograded

FILE = "checked-points"  # in the folder of cached gradings


def require_points(lab: Lab, path: Path, notebook: NotebookNode, folder: Path) -> None:
    """Reject a lab whose points do not add up, unless the same checks and cells were found right before.

    Args:
        lab: Lab whose points to check.
        path: Path of the master text or the release, for the message.
        notebook: Notebook built from the master text, or the release.
        folder: Folder of cached gradings, where the digest of what was found right is kept.

    Raises:
        ValueError: The checks cannot be read, or the points are wrong; see :func:`autograder.labs.points.check_points`.
    """
    cells = [
        (cell.metadata.nbgrader.grade_id, cell.metadata.nbgrader.points)
        for cell in notebook.cells
        if is_autograded(cell)
    ]
    digest = hashlib.sha256(json.dumps([cells, lab_digest(lab), engine()], sort_keys=True).encode()).hexdigest()
    file = folder / f"{FILE}-{lab.name}"
    if file.is_file() and file.read_text(encoding="utf-8", errors="replace") == digest:
        return
    check_points(lab, path, notebook, checks_of(lab))
    folder.mkdir(mode=0o700, exist_ok=True)
    file.write_text(digest, encoding="utf-8")
