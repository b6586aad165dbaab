"""The results of a mutation study of a lab's checks, and whether the checks have changed since."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amllab.lab import Lab
from autograder.labs.locations import HIDDEN_KIT, KIT, hidden_checks


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


def command(lab: Lab) -> str:
    """Return the command that makes the study of a lab."""
    return f"autograder study {lab.assignment}"


def evidence_of(lab: Lab) -> Path:
    """Return the file with the summary of a lab's mutation study, next to its hidden checks."""
    return hidden_checks(lab.name) / "evidence" / "study.json"


def read_study(lab: Lab) -> Study:
    """Return the study of a lab, as written by ``autograder study``; an empty one if there is none.

    Raises:
        ValueError: The file is damaged; the message names it and the command that writes it again.
    """
    file = evidence_of(lab)
    if not file.is_file():
        return Study()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        number, failed, checks = int(found["submissions"]), frozenset(map(str, found["failed"])), found["checks"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{lab.name}/evidence/{file.name} is damaged ({type(error).__name__}: {error}): run '{command(lab)}' again"
        ) from None
    source = f"{number} submissions of {lab.name}/evidence/{file.name}"
    return Study(failed, source, stale=checks != checks_digest(lab))


def checks_digest(lab: Lab, *, accuracy: bool = False) -> str:
    """Return a digest of what the checks, their probes and their helpers do.

    Results found under another digest say nothing about these checks. What changes no verdict does not count: points,
    docstrings, comments, layout, imports, and in which file or order definitions are written.

    Args:
        lab: Lab whose checks to digest.
        accuracy: Whether to include the files that belong to the accuracy check, or to its calibration, alone.
    """
    own = [file for folder in (lab.folder, hidden_checks(lab.name)) for file in sorted(folder.glob("*.py"))]
    files = [file for file in own if file.stem != "corpus"]
    files += sorted(_kit_files(files))
    texts = [file.read_text(encoding="utf-8") for file in files if accuracy or not _only_for_accuracy(file)]
    parts = sorted(part for text in texts for part in definitions(text))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _only_for_accuracy(file: Path) -> bool:
    return file.stem == "calibration" or any(word in file.stem for word in ("accuracy", "budget", "task"))


def _kit_files(files: Iterable[Path]) -> set[Path]:
    """Return the files of both kits that some files import, and that these import."""
    kits = {"amllab": KIT, "autograder": HIDDEN_KIT}
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        for module in _imported(waiting.pop()):
            package, folder, name = [*module.split("."), "", "", ""][:3]
            if package in kits and folder == "kit" and name and (file := kits[package] / f"{name}.py") not in found:
                found.add(file)
                waiting.append(file)
    return found


def _imported(file: Path) -> Iterator[str]:
    """Yield the names of what a file imports, such as ``amllab.kit.task.Task``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def definitions(source: str) -> list[str]:
    """Return what each top-level statement of Python source does, as text that no version of Python changes."""
    return [_text(node) for node in _counting(ast.parse(source))]


def _counting(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a body that count: no imports, no docstring."""
    body: list[ast.stmt] = getattr(node, "body", [])
    described = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    begin = 1 if described and ast.get_docstring(node, clean=False) is not None else 0  # type: ignore[arg-type]
    return [statement for statement in body[begin:] if not isinstance(statement, (ast.Import, ast.ImportFrom))]


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = dict(ast.iter_fields(value))
    if isinstance(fields.get("body"), list):
        fields["body"] = _counting(value)
    if isinstance(value, (ast.FunctionDef, ast.AsyncFunctionDef)):
        fields["decorator_list"] = [
            d for d in value.decorator_list if not ast.unparse(d).startswith("pytest.mark.points(")
        ]
    # fields that only some versions of Python have, or that say nothing of what is done
    shown = [
        f"{name}={_text(field)}"
        for name, field in fields.items()
        if field not in (None, []) and name not in ("ctx", "kind", "type_comment")
    ]
    return f"{type(value).__name__}({', '.join(shown)})"
