"""Explanations of why a notebook does not define a name: the cell that should have, and what happened to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# IPython's file name for a cell, which means nothing to students
_FILE = re.compile(r" \((?:<[^()]*>|[^()]*\.py), line \d+\)$")
_PLACE = re.compile(r"Cell In ?\[[^\]]*\], line (\d+)")
_MOST_MESSAGE, _MOST_LINE = 300, 120


def error_in_words(ename: str, evalue: str, traceback: str, source: str) -> str:
    r"""Format an error on one line, with the line of the cell that raised it.

    >>> error_in_words("NameError", "name 'x' is not defined", "Cell In[1], line 2", "import math\nx")
    "NameError: name 'x' is not defined (line 2: x)"
    """
    message = _FILE.sub("", " ".join(f"{ename}: {evalue}".split())[:_MOST_MESSAGE])
    found = _PLACE.search(_ANSI.sub("", traceback))
    lines = source.splitlines()
    number = int(found[1][:6]) if found else 0
    if not 0 < number <= len(lines):
        return message
    return f"{message} (line {number}: {lines[number - 1].strip()[:_MOST_LINE]})"


def cause_of(name: str, cells: Sequence[str], broken: Mapping[int, str], place: int, not_run: Sequence[str]) -> str:
    """Return why a name is not defined, phrased to follow "is not defined"; empty if the cells do not tell.

    Args:
        name: Name of a function or another variable.
        cells: Sources of the cells that are run.
        broken: Number of a cell -> what happened to it, for each cell that did not run to its end.
        place: Number of cells above the check cell.
        not_run: Sources of the experiments, which are not run.
    """
    defining = [number for number in broken if name in defined_in(cells[number])]
    # prefer cells above the check cell, and of these the nearest
    defining.sort(key=lambda number: (number >= place, abs(place - number)))
    if defining:
        return f"because its cell {broken[defining[0]]}"
    if any(name in defined_in(source) for source in cells):
        return ""
    if any(name in defined_in(source) for source in not_run):
        return "because its cell has the tag `experiment`, and experiments are not run"
    return ""


def defined_in(source: str) -> set[str]:
    """Return the names that a cell defines for the whole notebook, as far as its source shows."""
    try:
        tree = ast.parse(without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # often because of the cell's own syntax error: it may break off in the middle of a function
        return _loosely(source)
    names: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            pending += ast.iter_child_nodes(node)
    return names


def _loosely(source: str) -> set[str]:
    found = re.findall(r"^\s*(?:async\s+)?(?:def|class)\s+(\w+)|^(\w+)\s*=[^=]", source, re.M)
    return {name for pair in found for name in pair if name}


def without_magics(source: str) -> str:
    """Return the Python code of a cell, with IPython-only lines blanked so that line numbers stay the same."""
    if source.lstrip().startswith("%%") and not source.lstrip().startswith(("%%time", "%%capture", "%%prun")):
        return ""
    return "\n".join("" if line.lstrip()[:1] in ("%", "!", "?") else line for line in source.splitlines())
