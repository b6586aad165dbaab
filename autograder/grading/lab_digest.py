"""A digest of what grading depends on in one lab: its files and settings, its packages, and its own data.

Nothing of another lab counts, and neither does the deadline: it is applied when scores are written to the gradebook.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from amllab.lab import Lab
from autograder.labs.locations import hidden_checks

_OUTSIDE = ("deadline",)  # tables of lab.toml that grading does not read
_NOT_GRADED = ("corpus", "evidence")  # folders of solutions for tests and studies, and of what these measured
_RECENT_SECONDS = 2.0  # a file system may give two changes within this time the same time stamp
_Status = tuple[int, int, int, int, int]
_hashed: dict[str, tuple[_Status, str]] = {}  # path -> status of a file and digest of its content


def lab_digest(lab: Lab) -> str:
    """Return a digest of the lab's settings, its public and hidden files, and the versions of its packages."""
    settings = {name: value for name, value in lab.settings.items() if name not in _OUTSIDE}
    parts = [settings, {text: _version(text) for text in lab.packages}, files_digest(lab.folder)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@cache  # the code of these files stays loaded, too
def files_digest(folder: Path) -> str:
    """Return a digest of the public files in a lab's folder and of its hidden files, without the settings."""
    parts = []
    for place in (folder, hidden_checks(folder.name)):
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            name = file.relative_to(place)
            hidden = any(part[0] == "." for part in name.parts)
            if not hidden and name.name != "lab.toml" and file.suffix != ".pyc" and name.parts[0] not in _NOT_GRADED:
                parts.append([place == folder, name.as_posix(), _content(file)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def data_digest(lab: Lab) -> dict[str, str]:
    """Return the digest of each folder or file that the lab's settings name as data.

    These are the values of ``data`` in any table, and of environment variables, if they are paths. Contents are read,
    not only sizes and times; a file that this process has read before is read again if its status has changed.
    """
    # neither nothing nor the whole file system
    named = {value for value in (*_data(lab.settings), *lab.environment.values()) if value.strip(" ./")}
    return {name: found for name in sorted(named) if (found := _path_digest(name))}


def _version(text: str) -> str:
    try:
        return version(Requirement(text).name)
    except (PackageNotFoundError, InvalidRequirement):
        return "not installed"


def _data(table: Any) -> Iterator[str]:
    """Yield the values of ``data`` in a table and the tables within it."""
    if isinstance(table, list):
        for item in table:
            yield from _data(item)
    if isinstance(table, dict):
        for name, value in table.items():
            if name == "data" and isinstance(value, str):
                yield value
            yield from _data(value)


def _path_digest(name: str) -> str:
    """Return the digest of a folder or file; empty if there is nothing of this name."""
    try:
        path = Path(name).expanduser()
        if not path.is_dir():
            return _content(path) if path.is_file() else ""
    except (OSError, ValueError, RuntimeError):  # no path, or no home folder
        return ""
    digest = hashlib.sha256()
    for file in _files(path, ()):
        digest.update(os.fsencode(file.relative_to(path)) + b"\0" + _content(file).encode() + b"\n")
    return digest.hexdigest()


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Yield everything but folders below a folder, in order; links to folders are followed, but not in circles."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path, (*above, here))
        else:
            yield path


def _content(file: Path) -> str:
    """Return the digest of a file's content, or what it is in place of a file that can be read."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return "no file"
        seen = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        known = _hashed.get(str(file))
        if known is not None and known[0] == seen:
            return known[1]
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if time.time() - status.st_ctime > _RECENT_SECONDS:
        _hashed[str(file)] = seen, found
    return found
