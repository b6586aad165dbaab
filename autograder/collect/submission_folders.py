"""Find submission folders that nbgrader must not process.

nbgrader copies the whole folder of a submission, follows links, and shows names unescaped. For each refused folder, the
reason says what a person has to do. Only this student has to wait; everyone else is graded.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from autograder.collect.names import student_name
from autograder.collect.uploads import short

MAX_DEPTH = 40  # levels of nested folders
MAX_FILES = 10_000  # files and folders in total; nbgrader compares each file with all others in its folder
MAX_ENTRIES = 3_000  # files and folders in one folder
MAX_ID = 128  # characters of an id that the gradebook accepts
_HTML, _PATTERN = set("<>\"'&"), set("*?[]")


def refusal(folder: Path, student: str) -> str:
    """Return why nbgrader must not process a submission, and how to fix it; empty if nothing is wrong.

    Args:
        folder: Folder of the submission, such as ``submitted/ada/transfer-learning``.
        student: Id of the student.
    """
    if why := _name(student):
        return f"the name of its folder {why}: rename it with '{rename(folder.parent)}' and grade again"
    for path in (folder.parent, folder):
        if path.is_symlink():
            return _no_own_file(path)
    if not folder.is_dir():
        return f"{_shown(folder.name)} is not a folder; put the notebook into a folder of this name and grade again"
    return inside(folder)


def in_the_way(folder: Path, files: Iterable[str]) -> str:
    """Return which file or folder of a submission has the place of a folder or file of the course; empty if none has.

    Args:
        folder: Folder of the submission, which has no links.
        files: Files of the course, as paths in that folder.
    """
    for name in files:
        if (folder / name).is_dir():
            return (
                f"its folder {_shown(name)} has the name of a file of the course; rename or remove it and grade again"
            )
        for above in Path(name).parents[:-1]:
            if (folder / above).is_file():
                return f"its file {_shown(above.name)} has the name of a folder of the course; rename or remove it and grade again"
    return ""


def closed(submitted: Path) -> dict[str, str]:
    """Return the students whose folders nbgrader does not see because they cannot be opened, with the reasons."""
    try:
        folders = [path for path in submitted.iterdir() if path.is_dir() and not os.access(path, os.R_OK | os.X_OK)]
    except OSError:
        return {}
    return {path.name: "its folder cannot be opened; correct its permissions and grade again" for path in folders}


def rename(folder: Path) -> str:
    """Return a shell command that renames a student's folder to a valid id."""
    plain = student_name(folder.name) or "student"
    names = (plain if i == 1 else f"{plain}-{i}" for i in range(1, 1000))
    free = next(name for name in names if not os.path.lexists(folder.with_name(name)))
    return f"mv {_quoted(f'{folder.parent.name}/{folder.name}')} {_quoted(f'{folder.parent.name}/{free}')}"


def _name(student: str) -> str:
    if student != student.strip():
        return "begins or ends with a space"
    if not student.isprintable():
        return "has characters that cannot be displayed"
    if set(student) & _HTML:
        return "has characters with a meaning in HTML"
    if set(student) & _PATTERN:
        return "has characters that nbgrader treats as a pattern"
    if student.startswith("."):
        return "begins with a dot, which hides it"
    if len(student) > MAX_ID:
        return f"is longer than the {MAX_ID} characters that the gradebook accepts"
    return ""


def inside(folder: Path) -> str:
    """Return why the contents of a folder must not be copied; empty if they may.

    Folders are traversed level by level, not recursively, so that no depth can exhaust the stack.
    """
    count, level = 0, [str(folder)]
    for _ in range(MAX_DEPTH):
        below = []
        for path in level:
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as error:
                return f"its folder {_shown(path)} cannot be opened ({error.strerror}); correct its permissions and grade again"
            count += len(entries)
            if count > MAX_FILES or len(entries) > MAX_ENTRIES:
                return f"it has more than {MAX_ENTRIES if len(entries) > MAX_ENTRIES else MAX_FILES:,} files; leave only the notebook in it and grade again"
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if not entry.name.isprintable():
                    return (
                        f"the name {_shown(entry.name)} in it cannot be displayed; rename or remove it and grade again"
                    )
                if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                    return _no_own_file(Path(entry.path))
                if stat.S_ISDIR(mode):
                    below.append(entry.path)
                elif not os.access(entry.path, os.R_OK):
                    return f"its file {_shown(entry.name)} cannot be read; correct its permissions and grade again"
        if not below:
            return ""
        level = below
    return f"it has folders nested more than {MAX_DEPTH} deep; leave only the notebook in it and grade again"


def _no_own_file(path: Path) -> str:
    return f"it contains a link or a device instead of a regular file: {_shown(path.name)}; remove it and grade again"


def _shown(name: str) -> str:
    return short(os.path.basename(name))


def _quoted(name: str) -> str:
    """Quote a name for a shell, even if it has unprintable characters."""
    if name.isprintable():
        return shlex.quote(name)
    return (
        "$'" + "".join(chr(b) if 32 < b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(name)) + "'"
    )
