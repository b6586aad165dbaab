"""A student's notebook compared with the release: what it lacks, and which cells grading would run."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amllab import matching
from amllab.lab import Lab, all_labs, find_lab, released_notebooks

_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


class UnusableNotebookError(ValueError):
    """Raised when there is no notebook of a lab to check; the message says what was found instead and what to do."""


@dataclass(eq=False)
class Cell(matching.Cell):
    """A cell of a notebook.

    Attributes:
        was_run: whether it has outputs or an execution count.
        output_bytes: size of its outputs as JSON, in bytes.
        heading: the last heading above it.
    """

    was_run: bool
    output_bytes: int
    heading: str

    @property
    def points(self) -> float:
        """The largest number of points for the cell."""
        return float(self.nbgrader.get("points", 0))

    def __str__(self) -> str:
        first = next((line.strip() for line in self.source.splitlines() if line.strip()), "")
        shown = first.replace("`", "'") if len(first) <= 50 else first[:50].replace("`", "'") + " ..."
        return f"`{shown}`" + (f" (under {self.heading})" if self.heading else "")


@dataclass
class Document:
    """A student's notebook together with the released one.

    Attributes:
        path: path of the file.
        lab: lab that it belongs to.
        cells: the student's cells.
        release: the cells of the released notebook.
        size: size of the file, in bytes.
        places: the notebook in the shape of the release, as grading uses it.
        graded: grade id -> place of this cell.
    """

    path: Path
    lab: Lab
    cells: list[Cell]
    release: list[Cell]
    size: int
    places: list[matching.Place[Cell]] = field(init=False)
    graded: dict[str, matching.Place[Cell]] = field(init=False)

    def __post_init__(self) -> None:
        self.places = matching.match(self.cells, self.release)
        self.graded = {place.grade_id: place for place in self.places if place.grade_id}

    def functions(self) -> dict[str, str]:
        """Map each function that the lab asks for to the grade id of its cell."""
        cells = (cell for cell in self.release if cell.kind == "code" and cell.is_solution)
        return {name: cell.grade_id for cell in cells for name in cell.functions}

    def to_run(self) -> list[Cell]:
        """Return the cells that grading runs, in order: no experiments, no checks, and locked cells as released."""
        return [place.cell for place in self._code() if not (place.is_check or place.is_experiment)]

    def checks(self) -> dict[str, int]:
        """Map the grade id of each check cell to the number of cells above it that grading runs, in notebook order."""
        above: dict[str, int] = {}
        run = 0
        for place in self._code():
            if place.is_check:
                above[place.grade_id] = run
            elif not place.is_experiment:
                run += 1
        return above

    def experiments(self) -> list[Cell]:
        """Return the code cells that grading does not run."""
        return [place.cell for place in self._code() if place.is_experiment]

    def _code(self) -> list[matching.Place[Cell]]:
        return [place for place in self.places if place.kind == "code" and place.cell.text]


def find_notebook(named: Path | None, variables: dict[str, Any]) -> Path:
    """Find the notebook to check.

    Args:
        named: path that the caller gave, if any.
        variables: variables of the notebook that the preflight is called from; empty outside of notebooks.

    Raises:
        UnusableNotebookError: the file does not exist, or there is no notebook or more than one to choose from.
    """
    if named is not None:
        if not named.is_file():
            raise UnusableNotebookError(f"There is no file {named}. {_here()}")
        return named
    told = _open_notebooks(variables)
    if told:
        return told[0]
    found = []
    for path in _notebooks():
        try:
            read(path)
            found.append(path)
        except UnusableNotebookError:
            continue
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise UnusableNotebookError(
            f'The working directory has several notebooks of labs: {names}. Pass one: preflight("{found[0].name}")'
        )
    raise UnusableNotebookError(
        f'The working directory has no notebook of a lab. {_here()} Pass the path of yours: preflight("FILE.ipynb")'
    )


def is_open(path: Path, variables: dict[str, Any]) -> bool:
    """Return whether a file is the notebook that the preflight is called from."""
    return any(path.samefile(told) for told in _open_notebooks(variables))


def _open_notebooks(variables: dict[str, Any]) -> list[Path]:
    """Return the notebook that the preflight is called from, if VS Code or Jupyter report it.

    After a renaming they report the old name, so files that do not exist are left out.
    """
    told = (variables.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")) if variables else ()
    paths = [Path(name) for name in told if isinstance(name, str) and name.endswith(".ipynb")]
    return [path for path in paths if path.is_file()]


def _notebooks() -> list[Path]:
    return sorted(Path.cwd().glob("*.ipynb"))


def _here() -> str:
    names = [path.name for path in _notebooks()]
    return f"Notebooks in the working directory: {', '.join(names) or 'none'}."


def read(path: Path) -> Document:
    """Read a notebook and find the lab that it belongs to.

    Raises:
        UnusableNotebookError: the file cannot be read, is not a notebook, or does not belong to a lab whose settings
            can be read.
    """
    cells = read_cells(path)
    shared = shared_with_labs(cells)
    best = max(shared, key=lambda name: shared[name], default="")
    if not best or not shared[best]:
        titles, unusable = [], ""
        for name in all_labs():
            try:
                titles.append(f"{find_lab(name).title} ({find_lab(name).notebook}.ipynb)")
            except ValueError as error:
                unusable += f" The settings of the lab {name} cannot be read: {error}."
        raise UnusableNotebookError(
            f"{path.name} is not a notebook of a lab: it has none of their graded cells. Labs: {', '.join(titles)}.{unusable}"
        )
    try:
        lab = find_lab(best)
    except ValueError as error:
        raise UnusableNotebookError(
            f"{path.name} belongs to the lab {best}, whose settings cannot be read: {error}. Tell your instructor."
        ) from None
    return Document(path, lab, cells, _release(lab), path.stat().st_size)


def shared_with_labs(cells: Sequence[matching.Cell]) -> dict[str, int]:
    """Return, for each lab, how many graded cells and functions of its release a notebook has.

    Neither a lab whose settings cannot be read nor a release that cannot be read affects the other labs.
    """
    ids = {cell.grade_id or cell.cell_id for cell in cells}
    functions = {name for cell in cells if cell.kind == "code" for name in cell.functions}
    shared: dict[str, int] = {}
    for lab in all_labs():
        release = []
        for name, path in released_notebooks().items():
            if name.startswith(f"{lab.replace('_', '-')}/"):
                with suppress(UnusableNotebookError):
                    release += read_cells(path)
        wanted = {cell.grade_id for cell in release if cell.grade_id}
        solutions = {name for cell in release if cell.is_solution for name in cell.functions}
        shared[lab] = len(wanted & ids) + len(solutions & functions)
    return shared


def _release(lab: Lab) -> list[Cell]:
    path = released_notebooks().get(f"{lab.assignment}/{lab.notebook}.ipynb")
    return read_cells(path) if path else []  # a lab that is not released yet has no notebook to compare with


def read_cells(path: Path) -> list[Cell]:
    """Read the cells of a notebook.

    Raises:
        UnusableNotebookError: the file cannot be read, or is not a notebook.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UnusableNotebookError(f"{path.name} cannot be opened: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UnusableNotebookError(f"{path.name} is not a notebook: it is not text in UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise UnusableNotebookError(
            f"{path.name} is not a notebook, or it is damaged: it is not valid JSON ({error})."
        ) from None
    listed = raw.get("cells") if isinstance(raw, dict) else None
    if not isinstance(listed, list) or not all(isinstance(cell, dict) for cell in listed):
        raise UnusableNotebookError(
            f"{path.name} is not a notebook in format 4: it has no list of cells. Save it again in Jupyter."
        )
    cells: list[Cell] = []
    heading = ""
    for cell in listed:
        cells.append(_cell(cell, heading))
        headings = _HEADING.findall(cells[-1].source) if cells[-1].kind == "markdown" else []
        heading = headings[-1] if headings else heading
    return cells


def _cell(raw: dict[str, Any], heading: str) -> Cell:
    outputs = raw.get("outputs") or []
    return Cell.read(
        raw,
        was_run=bool(outputs) or raw.get("execution_count") is not None,
        output_bytes=len(json.dumps(outputs)) if outputs else 0,
        heading=heading,
    )


def is_stub(source: str, name: str) -> bool:
    """Return whether a function only raises ``NotImplementedError``; ``False`` if the text is not valid Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            body = [line for line in node.body if not isinstance(line, ast.Expr)]
            raised = ast.unparse(body[0]) if len(body) == 1 and isinstance(body[0], ast.Raise) else ""
            return raised.startswith("raise NotImplementedError")
    return False
