"""The layers of both packages: imports between their folders and modules are acyclic."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("amllab", "autograder")
LAYER = re.compile(r"^\| (\d+) \| `(\w+)/(\w+)(?:/|\.py)` \|", re.M)


def part_of(package: str, module: str) -> str:
    """Return the folder or top-level module that a module belongs to; ``__init__`` for the package itself."""
    name = [*module.split("."), ""][1]
    there = name and ((ROOT / package / name).is_dir() or (ROOT / package / f"{name}.py").is_file())
    return name if there else "__init__"


def imported(package: str, file: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports, also within functions, but not for type checkers only."""
    nodes: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(package: str) -> dict[str, dict[str, str]]:
    """Return, for each folder and top-level module, its imports, each with a file that has it."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        path = file.relative_to(ROOT)
        own = part_of(package, ".".join(path.with_suffix("").parts))
        others = found.setdefault(own, {})
        for module in imported(package, file):
            if (other := part_of(package, module)) != own:
                others.setdefault(other, str(path))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_acyclic(package: str) -> None:
    """Imports between folders and top-level modules form no cycle."""
    list(TopologicalSorter(imports_of(package)).static_order())  # the error names the cycle


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_layers(package: str) -> None:
    """Every import leads to a lower layer of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    layers = {part: int(layer) for layer, owner, part in LAYER.findall(page) if owner == package}
    imports = imports_of(package)
    assert set(imports) <= set(layers), "docs/architecture.md lists every folder and top-level module"
    upward = {
        f"{file}: {part} imports {other}"
        for part, others in imports.items()
        for other, file in others.items()
        if layers[other] >= layers[part]
    }
    assert not upward


def test_imports_of_library_exclude_grader() -> None:
    """The library does not import the grader."""
    for file in (ROOT / "amllab").rglob("*.py"):
        assert not list(imported("autograder", file)), file


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_exclude_labs(package: str) -> None:
    """No module imports from a lab, except for the public and hidden checks of this lab: any lab can be removed."""
    for file in sorted((ROOT / package).rglob("*.py")):
        own = file.relative_to(ROOT / package).parts
        for whole in PACKAGES:
            for module in imported(whole, file):
                part, name = [*module.split("."), "", ""][1:3]
                lab = part == "checks" and (ROOT / whole / "checks" / name).is_dir()
                assert not (name and lab) or (own[0] == "checks" and own[1] == name), f"{file} imports {module}"


def test_imports_cycle_is_detected() -> None:
    """A cycle of imports is detected."""
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter({"a": {"b": "a.py"}, "b": {"a": "b.py"}}).static_order())
