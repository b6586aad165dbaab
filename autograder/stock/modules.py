"""The modules that the notebooks of an assignment import, so that they are imported once for a whole class."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import nbformat

from amllab.worker.causes import without_magics

_MOST = 100


def imported_by(folder: Path) -> list[str]:
    """Return the installed modules that the released notebooks in a folder import.

    Only these: a test may ask which modules a submission has imported itself.
    """
    found: dict[str, None] = {}
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = nbformat.read(path, as_version=4).cells
            sources = [without_magics(cell.source) for cell in cells if cell.cell_type == "code"]
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            continue
        for source in sources:
            found |= dict.fromkeys(_imports(source))
    return [name for name in found if _is_installed(name)][:_MOST]


def _imports(source: str) -> list[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return names + [
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]


def _is_installed(name: str) -> bool:
    """Return whether a module is in the installation, not in a folder of the course."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is not None and "site-packages" in str(spec.origin or "")
