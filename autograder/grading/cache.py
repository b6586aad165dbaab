"""A cache of gradings: results as plain data, stored under a key of everything they depend on.

A submission need not be graded again while its code, its lab, the grader, the libraries and the seed stay the same. A
change of another lab, or of a deadline, does not matter (:mod:`autograder.grading.lab_digest`). Like the
folder of autograded submissions, the cache contains reports of hidden checks: only graders may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

import amllab
from amllab.lab import Lab
from autograder.grading.lab_digest import data_digest, lab_digest
from autograder.grading.submitted_outputs import with_submitted
from autograder.notebooks.metadata import scores_of
from autograder.notebooks.normalize import add_notes

FOLDER = ".graded"  # inside the course folder
PACKAGES = (Path(amllab.__file__).parent, Path(__file__).parent.parent)
FORMAT = 2  # version of the file format
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "safetensors", "ipykernel", "nbclient", "nbformat")
_CODE = ("*.py", "*.toml", "*.json", "*.safetensors", "*.j2")


@dataclass(frozen=True)
class CachedGrading:
    """The results of grading a submission, as plain data.

    Attributes:
        cells: Index of each cell whose outputs grading wrote -> ``{"outputs": [...], "execution_count": ...}``.
        earned, possible: Automatic points.
        seconds: Wall time of the grading itself.
        attention: Remarks that a person should follow up, one line each.
        sound: Whether all checks ran. A check that broke says nothing about the submission, and may work the next time.
        scores: Check cell -> points that the grader wrote into it.
        notes: Notes for the student that follow those from the repair.
    """

    cells: dict[str, dict[str, Any]]
    earned: float
    possible: float
    seconds: float
    attention: list[str]
    sound: bool = True
    scores: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, notebook: NotebookNode) -> None:
        """Write outputs, reports, scores and notes into the submitted notebook, in place.

        Raises:
            ValueError: This is not the notebook that was graded: its check cells do not end up with the scores that the
                grader gave them.
        """
        for index, written in self.cells.items():
            cell = notebook.cells[int(index)]
            cell.outputs = with_submitted(
                [nbformat.from_dict(output) for output in written["outputs"]], cell.get("outputs", [])
            )
            cell.execution_count = written["execution_count"]
        if scores_of(notebook) != self.scores:
            raise ValueError(
                f"the check cells have the scores {scores_of(notebook)}, but the grader gave {self.scores}"
            )
        add_notes(notebook, self.notes)


def written(notebook: NotebookNode, untouched: Iterable[int] = ()) -> dict[str, dict[str, Any]]:
    """Return the outputs of all code cells except the untouched ones, as :class:`CachedGrading` stores them."""
    left = set(untouched)
    return {
        str(i): {"outputs": list(cell.outputs), "execution_count": cell.execution_count}
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and i not in left
    }


class GradingCache:
    """A folder of gradings, one file each.

    Args:
        folder: Path of the folder, which is created when the first grading is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> CachedGrading | None:
        """Return the cached grading, or ``None`` if there is no intact one.

        A file that was truncated or edited, or that belongs to another key, does not count.
        """
        try:
            stored = json.loads((self.folder / f"{key}.json").read_bytes())
            if stored["format"] != FORMAT or stored["digest"] != _digest(key, stored["graded"]):
                return None
            return CachedGrading(**stored["graded"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, graded: CachedGrading) -> None:
        """Store a grading atomically: concurrent readers see all of it or nothing."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        content = asdict(graded)
        text = json.dumps({"format": FORMAT, "digest": _digest(key, content), "graded": content})
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".part", delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, self.folder / f"{key}.json")


def _digest(key: str, graded: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([key, graded], sort_keys=True).encode()).hexdigest()


def key_of(notebook: NotebookNode, lab: Lab, **more: Any) -> str:
    """Return a hash of everything that a grading depends on.

    Args:
        notebook: The notebook before it is run. The key covers the type, the nbgrader metadata and the tags of all
            cells, in order, and the sources of code cells.
        lab: The lab, with the limits in force. The key covers its files and the data that its settings name.
        **more: Plain data, such as the seed, the notes from the repair and anything the course adds.
    """
    cells = [
        [cell.cell_type, cell.metadata.get("nbgrader"), cell.metadata.get("tags")]
        + ([cell.source] if cell.cell_type == "code" else [])
        for cell in notebook.cells
    ]
    parts = [FORMAT, lab.assignment, lab.limits, cells, more, lab_digest(lab), data_digest(lab), engine()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def engine() -> str:
    """Return a hash of both packages without the folders of labs, and of the versions of Python and libraries."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted(file for pattern in _CODE for file in package.rglob(pattern)):
            name = file.relative_to(package)
            if name.parts[0] != "checks" or len(name.parts) == 2:
                digest.update(f"{name}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    digest.update(json.dumps(versions).encode())
    return digest.hexdigest()
