"""Conflicts that an upgrade of a course left in its texts, for a person to resolve."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amllab.lab import PUBLIC, course_lab, name_in_course
from autograder.errors import SettingsError
from autograder.labs.locations import hidden_checks

MARKS = "choose between both versions, and remove the lines with <<<<<<<, |||||||, ======= and >>>>>>>"
_CONFLICT = b"<<<<<<< "


def conflict_lines(content: bytes) -> list[int]:
    """Return the numbers of the lines where conflicts begin that nobody has resolved yet."""
    return [i for i, line in enumerate(content.splitlines(), start=1) if line.startswith(_CONFLICT)]


def refuse_conflicts(files: Iterable[Path], parts: int = 4) -> None:
    """Reject files with conflicts.

    Args:
        files: The files.
        parts: How many parts of their paths the message shows.

    Raises:
        SettingsError: The message names all lines, and says what to do.
    """
    lines = [
        f"{name_in_course(file, parts)}, line {line}" for file in files for line in conflict_lines(file.read_bytes())
    ]
    if lines:
        raise SettingsError(f"an upgrade of the course left conflicts in {', '.join(lines)}: {MARKS}")


def files_of_course_lab(lab: str) -> list[Path]:
    """Return the settings and checks of a lab in the course's folder; none of a shipped lab."""
    public = course_lab(lab, PUBLIC)
    folders = [public, hidden_checks(lab)] if public is not None else []
    return [file for folder in folders for pattern in ("*.py", "*.toml") for file in sorted(folder.glob(pattern))]
