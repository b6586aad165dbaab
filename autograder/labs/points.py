"""The points of a lab's checks: they add up to those of the cells, and each is given in a file of its own audience."""

from __future__ import annotations

import difflib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nbformat import NotebookNode

from amllab.checks.plugin import POINTS
from amllab.lab import Lab
from autograder.errors import SettingsError
from autograder.labs.catalog import Check
from autograder.labs.locations import hidden_checks, hidden_name
from autograder.labs.settings import line_of


def point_problems(notebook: NotebookNode, checks: Iterable[Check]) -> list[str]:
    """Return one message for each cell whose points differ from those of its checks.

    Args:
        notebook: Notebook built from the master text.
        checks: All checks of the lab, public and hidden.
    """
    from autograder.notebooks.metadata import is_autograded

    cells = {
        c.metadata.nbgrader.grade_id: float(c.metadata.nbgrader.points) for c in notebook.cells if is_autograded(c)
    }
    worth: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        worth[check.cell].append(check)
    problems = []
    for cell in sorted(cells.keys() | worth.keys()):
        found = worth.get(cell, [])
        total, files = sum(c.points for c in found), sorted({c.file for c in found})
        if cell not in cells:
            problems.append(
                f"{cell}: checks worth {total:g} points in {', '.join(files)}, but there is no such cell in the master text"
            )
        elif not found:
            problems.append(f"{cell}: the cell is worth {cells[cell]:g} points in the master text, but has no check")
        elif total != cells[cell]:
            problems.append(
                f"{cell}: the cell is worth {cells[cell]:g} points in the master text, its checks {total:g}, in "
                f"{', '.join(files)}: make both the same"
            )
    return problems


def name_problems(lab: Lab, checks: Iterable[Check]) -> list[str]:
    """Return one message for each check that a file gives points to although it cannot, and each unknown check cell.

    ``[points]`` of ``lab.toml`` is for public checks, since students have the file; ``points.toml`` next to the hidden
    checks is for these. A message contains the line, and names the other file, or a check with a similar name.
    """
    public, hidden = ({check.function for check in checks if check.hidden is side} for side in (False, True))
    for_public, for_hidden = f"[points] of {lab.name}/lab.toml", hidden_name(lab.name, POINTS)
    secret = f"is a hidden check, and students get this file: give it points in {for_hidden}"
    own = f"is a public check: give it points in {for_public}"
    toml = (lab.folder / "lab.toml").read_text(encoding="utf-8")
    cells = {check.cell for check in checks}
    return [
        *_misplaced(f"{lab.name}/lab.toml", toml, ["limits", "answer_seconds_at"], cells, {}, "check cell"),
        *_misplaced(f"{lab.name}/lab.toml", toml, ["points"], public, dict.fromkeys(hidden, secret)),
        *_misplaced(for_hidden, hidden_points(lab), [], hidden, dict.fromkeys(public, own)),
    ]


def hidden_points(lab: Lab) -> str:
    """Return the text of the file that gives points to the hidden checks of a lab; empty if there is none."""
    file = hidden_checks(lab.name) / POINTS
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _misplaced(
    file: str, text: str, table: list[str], allowed: set[str], elsewhere: dict[str, str], kind: str = "check"
) -> Iterator[str]:
    """Yield one message for each name in a table of a file that is not that of an allowed check, or another kind."""
    named = tomllib.loads(text)
    for part in table:
        named = named.get(part, {})
    for name in sorted(named.keys() - allowed):
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        shown = ".".join([*table, name])
        yield f"{file}, line {line_of(text, (*table, name))}: {shown}: {elsewhere.get(name, f'there is no such {kind}{hint}')}"


def check_points(lab: Lab, path: Path, notebook: NotebookNode, checks: Sequence[Check]) -> None:
    """Reject a lab whose points do not add up, or that gives points to checks in the wrong file or to none.

    Args:
        lab: Lab whose points to check.
        path: Path of the master text or the release, for the message.
        notebook: Notebook built from the master text, or the release.
        checks: All checks of the lab, public and hidden.

    Raises:
        SettingsError: The points are wrong; the message names cell, sums and files, or line and check.
    """
    if problems := name_problems(lab, checks):
        raise SettingsError("\n".join(problems))
    if problems := point_problems(notebook, checks):
        raise SettingsError("\n".join(f"{path.parent.name}/{path.name}: {problem}" for problem in problems))
