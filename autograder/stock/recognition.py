"""Tell ordinary nbgrader assignments from labs, and from labs whose name is misspelled.

The checks of a lab are not in its notebook: its locked cells call ``check("name")`` of the library. Graded like an
ordinary assignment, such a cell would give all its points for public checks only. So an assignment without a lab is an
ordinary one only if none of its locked cells calls the library's ``check``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.utils import is_locked

from amllab.lab import find_lab
from amllab.worker.causes import without_magics

_LIBRARY = "amllab"
_CHECKS = ("check", "check_all")
_CALL = re.compile(r"^\s*(?:%+\w+\s+)?(?:amllab\.)?check(?:_all)?\s*\(", re.M)


def is_ordinary(assignment: str, notebooks: Iterable[NotebookNode]) -> bool:
    """Return whether an assignment is an ordinary one of nbgrader, and no lab.

    Args:
        assignment: Its name.
        notebooks: Its notebooks, as far as they are known: master, release, or cells in the gradebook.

    Raises:
        LookupError: There is no such lab, but the notebooks are those of a lab, or there are none. The message lists
            the labs.
        ValueError: The settings of the lab cannot be read.
    """
    try:
        find_lab(assignment)
    except LookupError as unknown:
        found = list(notebooks)
        if not found:
            raise
        if any(map(calls_check, found)):
            raise LookupError(
                f"{unknown}. Its locked cells call check() of {_LIBRARY}, so it is no ordinary nbgrader assignment either"
            ) from None
        return True
    return False


def notebooks_in(folders: Sequence[Path], gradebook: Gradebook, assignment: str) -> Iterator[NotebookNode]:
    """Yield the notebooks of an assignment: all that can be read in its folders, and its cells in the gradebook.

    Args:
        folders: Folders of the assignment with notebooks of the instructor, such as its release.
        gradebook: The open gradebook.
        assignment: Name of the assignment.
    """
    for path in [path for folder in folders for path in sorted(folder.glob("*.ipynb"))]:
        try:
            yield nbformat.read(path, as_version=4)
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            continue  # nbgrader reports it
    try:
        recorded = gradebook.find_assignment(assignment).notebooks
    except MissingEntry:
        return
    for notebook in recorded:
        if not any(cell.source for cell in notebook.source_cells):
            continue
        yield nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_code_cell(cell.source or "", metadata={"nbgrader": {"locked": bool(cell.locked)}})
                for cell in notebook.source_cells
                if cell.cell_type == "code"
            ]
        )


def calls_check(notebook: NotebookNode) -> bool:
    """Return whether a locked cell of a notebook calls ``check`` of the library."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    trees = [_parsed(cell.source) for cell in cells]
    nodes = [node for tree in trees if tree is not None for node in ast.walk(tree)]
    modules, functions, others = _names(nodes)
    for cell, tree in zip(cells, trees, strict=True):
        if not is_locked(cell):
            continue
        # what is not parsed: all of a cell with an error, or its lines with magics, such as %time
        unread = [line for line in cell.source.splitlines() if tree is None or line.lstrip().startswith("%")]
        if not others and any(map(_CALL.match, unread)):
            return True
        if tree is None:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_check(node, modules, functions, others):
                return True
    return False


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names(nodes: Sequence[ast.AST]) -> tuple[set[str], set[str], bool]:
    """Return the names of the library, those of its checks, and whether the notebook has its own function ``check``."""
    modules, functions, others = {_LIBRARY}, set(), False
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.split(".")[0] == _LIBRARY}
        elif isinstance(node, ast.ImportFrom):
            ours = (node.module or "").split(".")[0] == _LIBRARY
            functions |= {alias.asname or alias.name for alias in node.names if ours and alias.name in _CHECKS}
            others |= not ours and any((alias.asname or alias.name) in _CHECKS for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            others |= node.name in _CHECKS
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            others |= node.id in _CHECKS
    return modules, functions, others


def _is_check(call: ast.Call, modules: set[str], functions: set[str], others: bool) -> bool:
    called = call.func
    if isinstance(called, ast.Attribute):
        return called.attr in _CHECKS and isinstance(called.value, ast.Name) and called.value.id in modules
    if not isinstance(called, ast.Name):
        return False
    if called.id in functions:
        return True
    # the import may be in a cell that the gradebook does not have: the name of a cell tells
    named = not call.args or (isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str))
    return called.id in _CHECKS and not others and named
