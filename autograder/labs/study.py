"""The results of a mutation study of a lab's checks, and whether the checks have changed since."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amllab.checks.lab import Lab
from autograder.course import Course
from autograder.labs.catalog import HIDDEN_CHECKS, Check

NAME = "fairness"  # bench/results/fairness-<lab>.json, or fairness.json


@dataclass(frozen=True)
class Study:
    """The results of a mutation study of a lab's checks.

    Attributes:
        killed: Names of the checks that failed for at least one mistake.
        source: Size and file of the study; empty if there is none.
        stale: Whether the study was made with other checks than the present ones.
    """

    killed: frozenset[str] = frozenset()
    source: str = ""
    stale: bool = False


def read_study(course: Course, lab: Lab, checks: Sequence[Check]) -> Study:
    """Return the study of a lab, as written by ``bench/mutation_study.py``.

    A file counts only if at least one of the lab's checks failed in it, since labs may share a common file.
    """
    for name in (f"{NAME}-{lab.assignment}.json", f"{NAME}.json"):
        file = course.root / "bench" / "results" / name
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            killed = frozenset(check for subject in found["subjects"] for check in subject["failed"])
            if killed & {check.name for check in checks}:
                where = file.relative_to(course.root)
                source = f"{len(found['subjects'])} submissions of {where}"
                return Study(killed, source, stale=found["checks"] != checks_digest(lab))
    return Study()


def checks_digest(lab: Lab, *, accuracy: bool = False) -> str:
    """Return a digest of what the checks, their probes and their helpers do.

    Results found under another digest say nothing about these checks. Points, docstrings and comments do not count,
    because they change no verdict.

    Args:
        lab: Lab whose checks to digest.
        accuracy: Whether to include the files that belong to the accuracy check alone.
    """
    folders = (lab.folder, HIDDEN_CHECKS / lab.name)
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    own = ("accuracy", "calibration")
    texts = [
        code(file.read_text(encoding="utf-8")) for file in files if accuracy or not any(n in file.stem for n in own)
    ]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def code(source: str) -> str:
    """Return Python source without docstrings, comments, empty lines and points."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in _silent(ast.parse(source)):
        if lines[node.lineno - 1][: node.col_offset].strip() not in ("", "@"):
            continue  # shares a line with code that counts
        for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _silent(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """Yield docstrings, and decorators that give points."""
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            yield node.body[0]
        if isinstance(node, ast.FunctionDef):
            yield from (d for d in node.decorator_list if ast.unparse(d).startswith("pytest.mark.points("))
