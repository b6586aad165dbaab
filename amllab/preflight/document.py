"""A student's notebook compared with the release: which cell is which, and which cells grading would run."""

from __future__ import annotations

import ast
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amllab.lab import Lab, all_labs, find_lab, released_notebooks

EXPERIMENT = "experiment"

_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)
_FUNCTION = re.compile(r"^(?:async )?def +(\w+)", re.M)


class UnusableNotebookError(ValueError):
    """Raised when there is no notebook of a lab to check; the message says what was found instead and what to do."""


@dataclass
class Cell:
    """A cell of a notebook.

    Attributes:
        kind: ``"code"``, ``"markdown"`` or ``"raw"``.
        source: text of the cell.
        cell_id: id of the cell in the file.
        nbgrader: nbgrader's metadata, or empty.
        is_experiment: whether it has the tag ``experiment``.
        was_run: whether it has outputs or an execution count.
        output_bytes: size of its outputs as JSON, in bytes.
        heading: the last heading above it.
    """

    kind: str
    source: str
    cell_id: str
    nbgrader: dict[str, Any]
    is_experiment: bool
    was_run: bool
    output_bytes: int
    heading: str

    @property
    def grade_id(self) -> str:
        """The id in nbgrader's metadata, or empty."""
        found = self.nbgrader.get("grade_id")
        return found if isinstance(found, str) else ""

    @property
    def is_graded(self) -> bool:
        """Whether the cell is graded, by checks or by a person."""
        return bool(self.grade_id and self.nbgrader.get("grade"))

    @property
    def is_solution(self) -> bool:
        """Whether the student writes the cell."""
        return bool(self.nbgrader.get("solution"))

    @property
    def is_locked(self) -> bool:
        """Whether the student must not change the cell."""
        return bool(self.nbgrader.get("locked")) or (self.is_graded and not self.is_solution)

    @property
    def is_check(self) -> bool:
        """Whether it is a locked code cell whose points depend on the checks."""
        return self.kind == "code" and self.is_locked and self.is_graded

    @property
    def points(self) -> float:
        """The largest number of points for the cell."""
        return float(self.nbgrader.get("points", 0))

    @property
    def functions(self) -> list[str]:
        """Names of the functions that the cell defines."""
        return _FUNCTION.findall(self.source)

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
        matched: grade id -> the student's cells that correspond to this released cell, in order.
    """

    path: Path
    lab: Lab
    cells: list[Cell]
    release: list[Cell]
    size: int
    matched: dict[str, list[Cell]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for released in self.release:
            if released.grade_id:
                self.matched[released.grade_id] = self._matching(released)
        self._by_source = {cell.source.strip(): cell for cell in self.release if cell.kind == "code"}
        self._by_id = {cell.cell_id: cell for cell in self.release if cell.kind == "code"}

    def _matching(self, released: Cell) -> list[Cell]:
        """Find the student's cells that correspond to a released cell.

        Cells are matched by grade id. Those that lost their metadata are matched by cell id, by the functions that they
        define, or by their text.
        """
        same = [cell for cell in self.cells if cell.grade_id == released.grade_id]
        free = [cell for cell in self.cells if not cell.grade_id and cell.kind == released.kind]
        names = set(released.functions) if released.is_solution else set()
        return (
            same
            or [cell for cell in free if cell.cell_id == released.grade_id]
            or [cell for cell in free if names & set(cell.functions)]
            or [cell for cell in free if cell.source.strip() == released.source.strip()]
            or [cell for cell in free if released.is_solution and _has_most_lines_of(released, cell)]
        )

    def functions(self) -> dict[str, str]:
        """Map each function that the lab asks for to the grade id of its cell."""
        cells = (cell for cell in self.release if cell.kind == "code" and cell.is_solution)
        return {name: cell.grade_id for cell in cells for name in cell.functions}

    def released_experiment(self, cell: Cell) -> Cell | None:
        """Return the released experiment that a cell corresponds to, changed or not; ``None`` if there is none."""
        released = self._by_source.get(cell.source.strip()) or self._by_id.get(cell.cell_id)
        return released if released is not None and released.is_experiment else None

    def _is_left_out(self, cell: Cell) -> bool:
        """Return whether grading skips a cell: an experiment of the release, or one that the student added."""
        released = self._by_source.get(cell.source.strip()) or self._by_id.get(cell.cell_id)
        if released is None:
            return cell.is_experiment
        untouched = cell.source.strip() in self._by_source
        tags_lost = not any(cell.is_experiment for cell in self.cells)
        return released.is_experiment and (cell.is_experiment or untouched or tags_lost)

    def to_run(self) -> list[Cell]:
        """Return the cells that grading runs, in order: no experiments, no checks, and locked cells as released."""
        return [cell for cell in self._in_order() if not cell.is_check]

    def checks(self) -> dict[str, int]:
        """Map the grade id of each check cell to the number of cells above it that grading runs, in notebook order."""
        above: dict[str, int] = {}
        run = 0
        for cell in self._in_order():
            if cell.is_check:
                above[cell.grade_id] = run
            else:
                run += 1
        return above

    def experiments(self) -> list[Cell]:
        """Return the code cells that grading does not run."""
        return [cell for cell in self.cells if cell.kind == "code" and self._is_left_out(cell)]

    def _in_order(self) -> list[Cell]:
        """Return the code cells that grading runs or checks: locked cells as released, missing ones put back."""
        released = {cell.grade_id: cell for cell in self.release if cell.grade_id}
        by_cell = {id(cell): grade_id for grade_id, cells in self.matched.items() for cell in cells}
        cells: list[Cell] = []
        for cell in self.cells:
            grade_id = by_cell.get(id(cell), "")
            if grade_id and released[grade_id].is_locked:
                # Of several copies of a check cell, the last counts, as in nbgrader. Of other cells, the first copy
                # runs: the cells below may need its definitions.
                if cell is self.matched[grade_id][-1 if released[grade_id].is_check else 0]:
                    cells.append(released[grade_id])
            elif grade_id or not self._is_left_out(cell):
                cells.append(cell)
        place = 0
        for cell in (cell for cell in self.release if cell.grade_id):
            found = next(
                (i for i, own in enumerate(cells) if by_cell.get(id(own), own.grade_id) == cell.grade_id), None
            )
            if found is None and cell.is_locked:
                cells.insert(place, cell)
                found = place
            place = place if found is None else found + 1
        return [cell for cell in cells if cell.kind == "code" and cell.source.strip()]


def _has_most_lines_of(released: Cell, cell: Cell) -> bool:
    """Return whether a Markdown cell contains most questions of a released answer cell.

    Questions are the lines that occur only once in the released cell.
    """
    lines = [line.strip() for line in released.source.splitlines() if line.strip()]
    questions = {line for line in lines if lines.count(line) == 1}
    found = questions & {line.strip() for line in cell.source.splitlines()}
    return cell.kind == "markdown" and len(found) > len(questions) / 2


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
        UnusableNotebookError: the file cannot be read, is not a notebook, or does not belong to a lab.
    """
    cells = _read_cells(path)
    ids = {cell.grade_id or cell.cell_id for cell in cells}
    functions = {name for cell in cells if cell.kind == "code" for name in cell.functions}
    shared: dict[str, int] = {}
    for name in all_labs():
        release = _release(find_lab(name))
        wanted = {cell.grade_id for cell in release if cell.grade_id}
        solutions = {name for cell in release if cell.is_solution for name in cell.functions}
        shared[name] = len(wanted & ids) + len(solutions & functions)
    best = max(shared, key=lambda name: shared[name], default="")
    if not best or not shared[best]:
        titles = ", ".join(f"{find_lab(name).title} ({find_lab(name).notebook}.ipynb)" for name in all_labs())
        raise UnusableNotebookError(
            f"{path.name} is not a notebook of a lab: it has none of their graded cells. Labs: {titles}."
        )
    lab = find_lab(best)
    return Document(path, lab, cells, _release(lab), path.stat().st_size)


def _release(lab: Lab) -> list[Cell]:
    path = released_notebooks().get(f"{lab.assignment}/{lab.notebook}.ipynb")
    return _read_cells(path) if path else []  # a lab that is not released yet has no notebook to compare with


def _read_cells(path: Path) -> list[Cell]:
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
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    nbgrader = metadata.get("nbgrader")
    source, outputs, tags = raw.get("source", ""), raw.get("outputs") or [], metadata.get("tags")
    return Cell(
        kind=str(raw.get("cell_type")),
        source=source if isinstance(source, str) else "".join(map(str, source)),
        cell_id=str(raw.get("id", "")),
        nbgrader=nbgrader if isinstance(nbgrader, dict) else {},
        is_experiment=isinstance(tags, list) and EXPERIMENT in tags,
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
