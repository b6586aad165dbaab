"""A search for secrets in what students get: solutions, hidden checks, marking schemes, the grader.

The secrets of all labs of the course are read from the course itself: what one lab hands out could reveal another one,
which comes later. The search covers every member of an archive, archives within it, all texts
of notebooks, and the bytes of binary files. It ignores whitespace, so that neither indentation nor another line width
hides anything. It does not find text that was rewritten or encoded.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tarfile
import zipfile
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import nbformat

from amllab.lab import CHECKS, HIDDEN, PACKAGE, Lab, course_labs, public_checks
from autograder.course import Course
from autograder.labs.locations import HIDDEN_CHECKS, hidden_checks

# characters of a text that does not occur by chance; a shorter line of a solution counts together with the next one
DISTINCTIVE = 42
DISTINCTIVE_DOCSTRING = 24

_MARKERS = ("BEGIN SOLUTION", "BEGIN MARK SCHEME", "BEGIN HIDDEN TESTS")
_MARK_SCHEME = re.compile(r"BEGIN MARK SCHEME[^\n]*\n(.*?)\n[^\n]*END MARK SCHEME", re.S)
_SOLUTION = re.compile(r"BEGIN SOLUTION[^\n]*\n(.*?)(?:\n[^\n]*END SOLUTION|\Z)", re.S)
_IMPORT = re.compile(r"^\s*(?:from|import)\s+autograder\b", re.M)
# a run of UTF-8 characters, as in bytecode and in files of weights
_TEXT_IN_BYTES = re.compile(rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){10,}")
_BYTECODE = (".pyc", ".pyo")
_CLOSED = (".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclass(frozen=True)
class Leak:
    """Something that must not be in what students get.

    Attributes:
        where: File or archive member, with ``!`` between an archive and its member, and the line if there are lines.
        what: Description of what was found there.
    """

    where: str
    what: str

    def __str__(self) -> str:
        """Return location and description on one line."""
        return f"{self.where}: {self.what}"


def find_leaks(archive_or_folder: Path, lab: Lab, course: Course) -> list[Leak]:
    """Search what students get for secrets.

    Args:
        archive_or_folder: Zip or tar archive (a wheel is a zip), single file, or folder that contains any of them.
        lab: Lab that is handed out.
        course: Course with the lab's master text, release and solution.

    Returns:
        All leaks, by file and line; an empty list if nothing secret was found.

    Raises:
        FileNotFoundError: There is nothing to search, or a file of the course that defines what is secret is missing.
    """
    secrets = read_secrets(lab, course)
    if archive_or_folder.is_dir():
        files = sorted(path for path in archive_or_folder.rglob("*") if path.is_file())
        members = [(path.relative_to(archive_or_folder).as_posix(), path.read_bytes()) for path in files]
    elif archive_or_folder.is_file():
        members = [(archive_or_folder.name, archive_or_folder.read_bytes())]
    else:
        raise FileNotFoundError(f"{archive_or_folder} does not exist: there is nothing to search for leaks")
    return [leak for name, content in members for leak in _in_member(name, content, secrets)]


def read_secrets(lab: Lab, course: Course) -> dict[str, str]:
    """Return the texts that students of a lab must not have, of this lab and of all others, with a description of each.

    Any whitespace in the texts is reduced to single spaces.

    Raises:
        FileNotFoundError: Master text, release or solution of the lab is missing; the message says how to restore it.
    """
    master = course.directories["source_directory"] / lab.assignment / f"{lab.notebook}.py"
    for path in (master, course.release(lab), course.solution(lab)):
        if not path.is_file():
            name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
            built = f"run 'autograder build {lab.assignment}'"
            remedy = f"restore it with 'git checkout -- {name}'" if path == master else built
            raise FileNotFoundError(f"{name} is missing, but it defines what must not leak: {remedy}")
    public = _words("\n".join(cell.source for cell in nbformat.read(course.release(lab), as_version=4).cells))
    secrets = _secrets_of_others(lab, course)
    secrets |= {marker: f"the marker {marker}" for marker in _MARKERS}
    secrets |= _solutions(course.solution(lab), public)
    secrets |= _mark_schemes(master)
    for file in sorted(hidden_checks(lab.name).glob("*.py")):
        secrets |= _hidden(file, lab.name)
    return secrets


def _secrets_of_others(lab: Lab, course: Course) -> dict[str, str]:
    """Return the secrets of all other labs, whatever exists of them; a half-written file counts line by line.

    Names of checks that the library or this lab's own public checks use are no secrets.
    """
    folders = [course.directories[f"{role}_directory"] for role in ("source", "solution")]
    hidden = [HIDDEN_CHECKS, *([labs / HIDDEN] if (labs := course_labs()) is not None else [])]
    found = {path.name for folder in [*folders, *hidden] for path in folder.glob("[!._]*/")}
    secrets: dict[str, str] = {}
    for other in sorted({name.replace("_", "-") for name in found} - {lab.assignment}):
        released = (course.directories["release_directory"] / other).glob("*.ipynb")
        public = _words("\n".join(text for path in released for _, text in _texts(path.name, path.read_bytes())))
        own: dict[str, str] = {}
        masters = sorted((folders[0] / other).glob("*.py"))
        public += _words("\n".join(map(_outside_solutions, masters)))  # there may be no release yet
        for path in masters:
            own |= _solution_regions(path, public) | _mark_schemes(path)
        for path in sorted((folders[1] / other).glob("*.ipynb")):
            with suppress(Exception):  # no notebook; its master text has the same lines
                own |= _solutions(path, public)
        name = other.replace("-", "_")
        for path in sorted(hidden_checks(name).glob("*.py")):
            own |= _hidden(path, name)
        secrets |= {text: f"{other}: {what}" for text, what in own.items()}
    files = [*(file for file in PACKAGE.rglob("*.py") if not _is_of_a_lab(file)), *lab.folder.rglob("*.py")]
    shown = set(re.findall(r"\w+", "\n".join(_read(file) for file in files)))
    return {text: what for text, what in secrets.items() if text not in shown}


def _is_of_a_lab(file: Path) -> bool:
    return file.is_relative_to(CHECKS) and file.parent != CHECKS


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _words(text: str) -> str:
    return " ".join(text.split())


def _solution_regions(master: Path, public: str) -> dict[str, str]:
    """Return the lines of a master text between the markers of a solution, and pairs of them, that are not released."""
    found = {}
    for region in _SOLUTION.findall(_read(master)):
        lines = [_words(line.strip().removeprefix("# ")) for line in region.splitlines()]
        lines = [line for line in lines if line and line not in public]
        for text in [*lines, *map(" ".join, pairwise(lines))]:
            if len(text) >= DISTINCTIVE:
                found[text] = f"solution in {master.name}: {text[:60]}"
    return found


def _outside_solutions(master: Path) -> str:
    """Return the code of a master text that students get with the release."""
    return _SOLUTION.sub("", _MARK_SCHEME.sub("", _read(master)))


def _solutions(path: Path, public: str) -> dict[str, str]:
    """Return lines of the solution cells, and pairs of consecutive lines, that the release does not contain."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        nbgrader = cell.metadata.get("nbgrader") or {}
        if not nbgrader.get("solution"):
            continue
        lines = [line for line in map(_words, cell.source.splitlines()) if line and line not in public]
        for text in [*lines, *map(" ".join, pairwise(lines))]:
            if len(text) >= DISTINCTIVE and "SOLUTION" not in text:
                found[text] = f"solution of {nbgrader['grade_id']}: {text[:60]}"
    return found


def _mark_schemes(master: Path) -> dict[str, str]:
    """Return the lines between the markers in the master text, where prose is written as ``#`` comments."""
    schemes = _MARK_SCHEME.findall(_read(master))
    lines = [_words(line.strip().removeprefix("#")) for scheme in schemes for line in scheme.splitlines()]
    return {line: f"marking scheme: {line[:60]}" for line in lines if len(line) >= DISTINCTIVE}


def _hidden(file: Path, lab: str) -> dict[str, str]:
    """Return the texts of a hidden module of a lab that students must not have.

    These are its docstrings and, for hidden checks, also their names and the messages that no public check contains.
    """
    public = _words("\n".join(map(_read, sorted(public_checks(lab).glob("*.py")))))
    try:
        tree = ast.parse(_read(file))
    except (SyntaxError, ValueError):
        lines = [line for line in map(_words, _read(file).splitlines()) if line not in public]
        return {line: f"hidden check {file.name}: {line[:60]}" for line in lines if len(line) >= DISTINCTIVE}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            found.add(_words(ast.get_docstring(node) or ""))
    messages = set()
    if file.name.startswith("test_"):
        found |= {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"
        }
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        messages = {_words(text) for text in texts if isinstance(text, str)}
    chosen = {text for text in found if text.isidentifier() or len(text) >= DISTINCTIVE_DOCSTRING}
    chosen |= {text for text in messages if len(text) >= DISTINCTIVE and text not in public}
    return {text: f"hidden check {file.name}: {text[:60]}" for text in chosen}


def _in_member(name: str, content: bytes, secrets: dict[str, str]) -> Iterator[Leak]:
    path = re.split(r"[/!]", name)
    if "autograder" in path or path[-1].startswith("autograder."):
        yield Leak(name, "a part of the autograder package")
    if path[-1].endswith(_BYTECODE):
        yield Leak(name, "bytecode, which may contain code that cannot be searched")
    members = _members(content)
    if members is not None:
        for member, inner in members:
            yield from _in_member(f"{name}!{member}", inner, secrets)
        return
    if path[-1].endswith(_CLOSED):
        yield Leak(name, "compressed in a format that cannot be searched")
    for place, text in _texts(name, content):
        yield from _in_text(place, text, secrets)


def _members(content: bytes) -> list[tuple[str, bytes]] | None:
    """Return names and contents of an archive's members, or ``None`` if the content is not an archive."""
    if content.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist() if not name.endswith("/")]
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            opened = ((member.name, tar.extractfile(member)) for member in tar.getmembers())
            return [(name, file.read()) for name, file in opened if file is not None]
    except tarfile.TarError:
        return None


def _texts(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file and their locations; for a notebook, one text per cell, with outputs and metadata."""
    if b"\0" in content:
        for found in _TEXT_IN_BYTES.finditer(content):
            yield f"{name}, byte {found.start()}", found.group().decode("utf-8", errors="replace")
        return
    text = content.decode("utf-8", errors="replace")
    if name.endswith(".ipynb"):
        try:
            notebook = json.loads(text)
            cells = notebook.pop("cells")
            yield name, "\n".join(_strings(notebook))
            for i, cell in enumerate(cells, start=1):
                source = cell.pop("source", "")
                first = source if isinstance(source, str) else "".join(source)
                yield f"{name}, cell {i}", "\n".join([first, *_strings(cell)])
        except (ValueError, KeyError, AttributeError, TypeError):
            yield name, text  # not a notebook, despite its name
    else:
        yield name, text


def _strings(value: Any) -> Iterator[str]:
    """Yield all strings in plain data; a list of lines, as in notebooks, is joined to one string."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield "".join(value)
    elif isinstance(value, (list, dict)):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _strings(item)


def _in_text(place: str, text: str, secrets: dict[str, str]) -> Iterator[Leak]:
    lines = [_words(line) for line in text.splitlines()]
    numbers = [number for number, line in enumerate(lines, start=1) if line]
    joined = [line for line in lines if line]
    begins = list(accumulate((len(line) + 1 for line in joined), initial=0))
    whole = " ".join(joined)
    finds = [
        (numbers[bisect_right(begins, position) - 1], what)
        for secret, what in secrets.items()
        for position in _positions(whole, secret)
    ]
    for match in _IMPORT.finditer(text):
        start = match.end() - len(match.group().lstrip())
        finds.append((text.count("\n", 0, start) + 1, "an import of the autograder package"))
    for number, what in sorted(set(finds)):
        yield Leak(f"{place}, line {number}", what)


def _positions(text: str, secret: str) -> Iterator[int]:
    """Yield the positions of a secret in a text; an identifier matches only as a whole name."""
    start = text.find(secret)
    while start >= 0:
        end = start + len(secret)
        if not secret.isidentifier() or not _is_part_of_a_name(text, start, end):
            yield start
        start = text.find(secret, end)


def _is_part_of_a_name(text: str, start: int, end: int) -> bool:
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return any(character.isidentifier() or character.isdigit() for character in around)
