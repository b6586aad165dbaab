"""Gradings that are kept: what grading made of a submission as plain data, and a folder of it by what it depends on.

A submission that comes again with the same code, under the same checks, library and seed, need not be graded again. What is
kept holds reports of hidden checks, as the folder of autograded submissions does: it is for graders alone.
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
from amllab.checks.lab import Lab
from autograder.grading.submitted_outputs import with_submitted
from autograder.notebooks.metadata import scores_of

FOLDER = ".graded"  # in the course
FORMAT = 2  # of a file in it
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "safetensors", "ipykernel", "nbclient", "nbformat")
_CODE = ("*.py", "*.toml", "*.json", "*.safetensors", "*.j2")


@dataclass(frozen=True)
class CachedGrading:
    """What grading made of a submission.

    Attributes:
        cells: index of each cell whose outputs it wrote -> ``{"outputs": [...], "execution_count": ...}``.
        earned, possible: automatic points.
        seconds: wall time of the grading itself.
        attention: what a person should look at, one line each.
        sound: whether all checks ran; a check that broke says nothing, and may not break again.
        scores: check cell -> the points that the grader wrote into it.
    """

    cells: dict[str, dict[str, Any]]
    earned: float
    possible: float
    seconds: float
    attention: list[str]
    sound: bool = True
    scores: dict[str, float] = field(default_factory=dict)

    def write(self, notebook: NotebookNode) -> None:
        """Puts outputs, reports and scores into the notebook as it was submitted, in place.

        Raises:
            ValueError: it is not the notebook that was graded: its check cells would not have the scores that they were given.
        """
        for index, written in self.cells.items():
            cell = notebook.cells[int(index)]
            cell.outputs = with_submitted(
                [nbformat.from_dict(output) for output in written["outputs"]], cell.get("outputs", [])
            )
            cell.execution_count = written["execution_count"]
        if scores_of(notebook) != self.scores:
            raise ValueError(f"check cells have {scores_of(notebook)}, and the grader gave {self.scores}")


def written(notebook: NotebookNode, untouched: Iterable[int] = ()) -> dict[str, dict[str, Any]]:
    """Outputs of all code cells but the untouched ones, as :class:`CachedGrading` has them."""
    left = set(untouched)
    return {
        str(i): {"outputs": list(cell.outputs), "execution_count": cell.execution_count}
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and i not in left
    }


class GradingCache:
    """Gradings in a folder, one file each.

    Args:
        folder: made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> CachedGrading | None:
        """What is kept under a key; ``None`` where nothing is, or not what was put there: cut off, edited, or of another key."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_bytes())
            if stored["format"] != FORMAT or stored["digest"] != _digest(key, stored["graded"]):
                return None
            return CachedGrading(**stored["graded"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, graded: CachedGrading) -> None:
        """Keeps a grading; whoever reads at the same time sees all of it or nothing."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        content = asdict(graded)
        text = json.dumps({"format": FORMAT, "digest": _digest(key, content), "graded": content})
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".part", delete=False, encoding="utf-8") as file:
            file.write(text)
        os.replace(file.name, self.folder / f"{key}.json")


def _digest(key: str, graded: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([key, graded], sort_keys=True).encode()).hexdigest()


def key_of(notebook: NotebookNode, lab: Lab, **more: Any) -> str:
    """What a grading depends on, in one word.

    Args:
        notebook: before it is run: the kinds of all cells count, in order, the sources of code cells, and what nbgrader
            has to say of them.
        lab: with the limits that hold.
        **more: plain data: the seed, notes of the repair, what the course adds.
    """
    cells = [
        [cell.cell_type, cell.metadata.get("nbgrader"), cell.metadata.get("tags")]
        + ([cell.source] if cell.cell_type == "code" else [])
        for cell in notebook.cells
    ]
    parts = [FORMAT, lab.assignment, lab.limits, cells, more, engine()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def engine() -> str:
    """Changes with every file of the two packages, and with the libraries that compute."""
    digest = hashlib.sha256()
    for package in (Path(amllab.__file__).parent, Path(__file__).parent.parent):
        for file in sorted(file for pattern in _CODE for file in package.rglob(pattern)):
            digest.update(f"{file.relative_to(package)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    digest.update(json.dumps(versions).encode())
    return digest.hexdigest()
