"""Why a notebook does not define a name: the cell that should have, and what became of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FILE = re.compile(r" \((?:<[^()]*>|[^()]*\.py), line \d+\)$")  # that IPython gives a cell: nobody knows it
_PLACE = re.compile(r"Cell In ?\[[^\]]*\], line (\d+)")
_MOST_MESSAGE, _MOST_LINE = 300, 120


def error_in_words(ename: str, evalue: str, traceback: str, source: str) -> str:
    """An error on one line, with the line of the cell where it happened.

    >>> error_in_words("NameError", "name 'x' is not defined", "Cell In[1], line 2", "import math\\nx")
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
    """Why a name is not defined, in words that follow "is not defined"; empty where the cells do not tell.

    Args:
        name: of a function or another variable.
        cells: sources of the cells that are run.
        broken: number of a cell -> what became of it, where it did not come to its end.
        place: number of cells above the check cell.
        not_run: sources of experiments.
    """
    defining = [number for number in broken if name in defined_in(cells[number])]
    # of several the one nearest above the check cell, where that stands
    defining.sort(key=lambda number: (number >= place, abs(place - number)))
    if defining:
        return f"because its cell {broken[defining[0]]}"
    if any(name in defined_in(source) for source in cells):
        return ""
    if any(name in defined_in(source) for source in not_run):
        return "because its cell has the tag `experiment`, and experiments are not run"
    return ""


def defined_in(source: str) -> set[str]:
    """Names that a cell defines for the whole notebook, as far as its text tells."""
    try:
        tree = ast.parse(without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # most of all where the error is the cell's own: it may be cut off in the middle of a function
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
    """The Python in a cell: lines for IPython alone are left empty, so that the others keep their numbers."""
    if source.lstrip().startswith("%%") and not source.lstrip().startswith(("%%time", "%%capture", "%%prun")):
        return ""
    return "\n".join("" if line.lstrip()[:1] in ("%", "!", "?") else line for line in source.splitlines())
