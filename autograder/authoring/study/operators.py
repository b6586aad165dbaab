"""Mutants of a function by the operators of Cosmic Ray, and by two custom ones: omitted statements, omitted arguments.

The operators are those of https://cosmic-ray.readthedocs.io, used as a library on parso trees.
"""

from __future__ import annotations

import difflib
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

# operators that need arguments
_LEFT_OUT = {"VariableReplacer", "VariableInserter"}
# the binary operators that are used: nobody shifts a number or changes its bits by mistake
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
_DOCSTRING = re.compile(r"[rRuUbB]*(\"\"\"|'''|\"|')")


@dataclass(frozen=True)
class Mutant:
    """One change of a function.

    Attributes:
        operator: name of the operator that made it.
        old, new: the lines that differ, each side joined by line breaks and without indentation.
        source: the whole cell, changed.
    """

    operator: str
    old: str
    new: str
    source: str


class DeleteStatement(Operator):  # type: ignore[misc]
    """Replace a statement by ``pass``, except for definitions, imports and docstrings."""

    _COMPOUND = ("for_stmt", "while_stmt", "if_stmt", "with_stmt", "try_stmt")

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield where in a node the operator applies."""
        if node.type in self._COMPOUND or (node.type == "simple_stmt" and self._is_work(node.children[0])):
            yield node.start_pos, node.end_pos

    @staticmethod
    def _is_work(statement: Any) -> bool:
        if statement.type == "string":
            return not _DOCSTRING.match(statement.value)
        return statement.type not in ("import_name", "import_from", "keyword") or statement.get_code().strip() != "pass"

    def mutate(self, node: Any, index: int) -> Any:
        """Return the changed node."""
        statement = parso.parse("pass\n").children[0]  # type: ignore[no-untyped-call]
        statement.get_first_leaf().prefix = node.get_first_leaf().prefix
        return statement

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return no examples: Cosmic Ray uses them in its documentation alone."""
        return ()


class DeleteArgument(Operator):  # type: ignore[misc]
    """Omit one argument of a call."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield where in a node the operator applies."""
        for argument in self._arguments(node):
            yield argument.start_pos, argument.end_pos

    @staticmethod
    def _arguments(node: Any) -> list[Any]:
        if node.type != "trailer" or node.children[0].get_code().strip() != "(" or len(node.children) < 3:
            return []
        inner = node.children[1]
        return [c for c in inner.children if c.type != "operator"] if inner.type == "arglist" else [inner]

    def mutate(self, node: Any, index: int) -> Any:
        """Return the changed node."""
        kept = [a.get_code().strip() for i, a in enumerate(self._arguments(node)) if i != index]
        code = f"f({', '.join(kept)})"
        call = parso.parse(code).children[0]  # type: ignore[no-untyped-call]
        return next(c for c in call.children if c.type == "trailer")

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return no examples: Cosmic Ray uses them in its documentation alone."""
        return ()


@cache
def operators() -> dict[str, Operator]:
    """Return the operators by name; one family of Cosmic Ray has an operator for every pair of symbols."""
    found: dict[str, Operator] = {}
    for path in operator_names():
        name = path.rpartition("/")[2]
        _, *pair = name.split("_")
        if name in _LEFT_OUT or (name.startswith("ReplaceBinaryOperator") and not _ARITHMETIC.issuperset(pair)):
            continue
        found[name] = get_operator(path)()
    return {**found, "DeleteStatement": DeleteStatement(), "DeleteArgument": DeleteArgument()}


def family(operator: str) -> str:
    """Return the operator's name without the symbols that it exchanges."""
    return operator.partition("_")[0]


def mutants(source: str) -> Iterator[Mutant]:
    """Return all mutants of a cell that compile, each source once."""
    seen = {source}
    tree = get_ast(source)
    nodes, stored = list(ast_nodes(tree)), pickle.dumps(tree)  # a copy takes a fraction of the time of parsing
    for name, operator in operators().items():
        for occurrence in range(sum(1 for node in nodes for _ in operator.mutation_positions(node))):
            code = MutationVisitor(occurrence, operator).walk(pickle.loads(stored)).get_code()
            if code in seen or not _compiles(code):
                continue
            seen.add(code)
            yield Mutant(name, *_difference(source, code), code)


def _compiles(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "is" with a number
        try:
            compile(code, "<mutant>", "exec")
        except (SyntaxError, ValueError):
            return False
    return True


def _difference(old: str, new: str) -> tuple[str, str]:
    """Return the lines that differ: those removed, those added."""
    lines = list(difflib.ndiff(old.splitlines(), new.splitlines()))
    return tuple("\n".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in ("- ", "+ "))  # type: ignore[return-value]
