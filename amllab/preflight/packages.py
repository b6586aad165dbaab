"""Packages that a notebook imports but grading does not have.

Grading has the packages that the course library installs and those that the settings of the lab add (``packages`` in
``lab.toml``). A student's own environment may have more.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from amllab.lab import Lab
from amllab.worker.causes import without_magics

_LIBRARY = "amllab"
_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_WRITTEN = re.compile(r"([A-Za-z_]\w*)(?:\.py\b|/__init__\.py\b)")


def lacking_modules(lab: Lab, sources: Sequence[str]) -> set[str]:
    """Return the top-level modules that cells import and grading does not have.

    Imports whose failure the cells handle do not count, nor do modules whose files the cells mention, since they may
    write them.

    Args:
        lab: lab whose packages grading has.
        sources: sources of the cells that grading runs.
    """
    wanted = {name for source in sources for name in _imported(source)}
    written = {name for source in sources for name in _WRITTEN.findall(source)}
    installed = _installed(lab)
    there = {
        module
        for module, distributions in packages_distributions().items()
        if installed.intersection(map(canonicalize_name, distributions))
    }
    added = {canonicalize_name(Requirement(text).name).replace("-", "_") for text in lab.packages}
    return wanted - written - there - added - {*sys.stdlib_module_names, _LIBRARY, "__future__"}


def refuse(names: Iterable[str]) -> None:
    """Make imports of these modules fail in this process, as if the modules were not installed."""
    sys.meta_path.insert(0, _Refusing(frozenset(names)))


class _Refusing(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _imported(source: str) -> set[str]:
    """Return the modules that a cell imports, except those whose absence it handles."""
    try:
        tree = ast.parse(without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Try) and any(map(_catches, node.handlers)):
            pending += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        pending += ast.iter_child_nodes(node)
    return names


def _catches(handler: ast.ExceptHandler) -> bool:
    """Return whether an exception handler catches failed imports."""
    return handler.type is None or any(
        isinstance(node, ast.Name) and node.id in _CAUGHT for node in ast.walk(handler.type)
    )


def _installed(lab: Lab) -> set[str]:
    """Return the names of the library, the lab's packages and all their dependencies, direct and indirect."""
    found: set[str] = set()
    pending = [_LIBRARY, *(Requirement(text).name for text in lab.packages)]
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = map(Requirement, requires(name) or [])
        except PackageNotFoundError:
            continue
        pending += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
