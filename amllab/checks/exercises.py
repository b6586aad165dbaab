"""The exercises of a lab that have public checks, as the released notebook describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amllab.checks.results import CheckResult, score
from amllab.lab import Lab, released_notebooks
from amllab.matching import Cell

_HEADING = re.compile(r"^##? +(.+?) *$", re.M)  # deeper ones are within an exercise
# a fold without another one in it, and not empty
_HINT = re.compile(
    r"^<details[^>]*>\s*<summary>((?:(?!</?summary|</?details).)+)</summary>\s*+((?:(?!</?details|<summary).)+)</details>",
    re.M | re.S | re.I,
)


@dataclass(frozen=True)
class Exercise:
    """An exercise: its functions, and the cell with its checks.

    Attributes:
        name: Its name for ``check``: the grade id without ``check_``.
        heading: The heading of the section with its functions; empty if the lab is not released.
        points: What its cell is worth, public and hidden checks together; ``None`` if the lab is not released.
        functions: Names of the functions that students write for it; empty if it uses those of other exercises.
        hints: Title and markdown of the hints that the notebook folds away between its heading and its checks.
    """

    name: str
    heading: str = ""
    points: float | None = None
    functions: Sequence[str] = ()
    hints: Sequence[tuple[str, str]] = ()

    def hidden_points(self, results: Sequence[CheckResult]) -> float | None:
        """Return the points of its hidden checks, given the results of its public ones; ``None`` if not known."""
        return None if self.points is None else max(self.points - score(results)[1], 0.0)


def exercises_of(lab: Lab) -> list[Exercise]:
    """Return the exercises of a lab that have public checks, in the order of the notebook.

    Those that are not in the released notebook come last.
    """
    names = {file.stem.removeprefix("test_") for file in lab.folder.glob("test_*.py")}
    released = [exercise for exercise in _released(lab) if exercise.name in names]
    others = sorted(names - {exercise.name for exercise in released})
    return released + [Exercise(name, functions=(name,)) for name in others]


def _released(lab: Lab) -> Iterator[Exercise]:
    """Yield the exercises of the released notebook; none if there is no notebook that can be read."""
    path = released_notebooks().get(f"{lab.assignment}/{lab.notebook}.ipynb")
    if path is None:
        return
    try:
        cells = [Cell.read(raw) for raw in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return
    heading = under = ""
    functions: list[str] = []
    hints: list[tuple[str, str]] = []
    for cell in cells:
        if cell.is_check:
            points = float(cell.nbgrader.get("points", 0))
            name = cell.grade_id.removeprefix("check_")
            yield Exercise(name, under or heading, points, tuple(functions), tuple(hints))
            under, functions, hints = "", [], []
        elif cell.kind == "code" and cell.is_solution:
            functions += cell.functions
            under = under or heading
        elif cell.kind == "markdown":
            found = _HEADING.findall(cell.source)
            heading = [heading, *found][-1]
            hints = ([] if found else hints) + [(title, text.strip()) for title, text in _HINT.findall(cell.source)]
