"""The probes of a lab, imported by the name of the lab; an error says which lab is at fault and what to do."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from types import ModuleType

from amllab.lab import PACKAGE, name_in_course, public_checks


class ProbesError(Exception):
    """The probes of a lab do not import; the message names lab, file and error, and says what to do."""


def probes_of(lab: str) -> ModuleType:
    """Return the module ``probes`` of a lab.

    Args:
        lab: Name of the lab's folder of checks.

    Raises:
        ProbesError: The module, or one that it imports, does not import, whatever it raised.
    """
    name = f"amllab.checks.{lab}.probes"
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:  # by a person
        raise
    except BaseException as error:  # SystemExit, too: a lab must not end the grading of another one
        raise ProbesError(_reason(lab, error)) from error


def _reason(lab: str, error: BaseException) -> str:
    file = name_in_course(public_checks(lab) / "probes.py")
    kind = type(error).__name__
    try:
        text = " ".join(str(error).split())[:500]
    except Exception:
        text = "(an error without a readable message)"
    missing = (getattr(error, "name", None) or "") if isinstance(error, ModuleNotFoundError) else ""
    if missing in (f"{PACKAGE.name}.checks.{lab}", f"{PACKAGE.name}.checks.{lab}.probes"):
        return f"the lab {lab} cannot be used: there is no {file}. Write it, see docs/new-lab.md"
    reason = f"the lab {lab} cannot be used: {file} does not import: {kind}: {text}{_place(lab, error)}."
    package = missing.partition(".")[0]
    if package and package != PACKAGE.name:
        return (
            f"{reason} Install the package that has the module {package}, and add it to packages in {lab}/lab.toml; or "
            "remove the import"
        )
    return f"{reason} Correct the file; 'python -c \"import amllab.checks.{lab}.probes\"' shows the whole error"


def _place(lab: str, error: BaseException) -> str:
    """Return file and line of the error, the innermost of the course if there is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    places = (PACKAGE, public_checks(lab))
    own = [f for f in frames if any(map(Path(f.filename).is_relative_to, places)) and __file__ != f.filename]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
