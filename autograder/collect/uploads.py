"""The notebooks in what a student uploaded: a file, an archive, an archive in it, or a script that stands for a notebook."""

from __future__ import annotations

import ast
import io
import re
from dataclasses import dataclass
from typing import BinaryIO

import nbformat

from autograder.collect.archives import MAX_DEPTH, MAX_UNPACKED, Budget, Entry, entries, kind_of
from autograder.errors import ArchiveError, ArchiveTooLargeError
from autograder.notebooks.reading import MAX_BYTES

_HEAD = 512  # bytes
_MAX_SCRIPT = 1_000_000  # bytes
_MAX_READ = 50  # files of one archive
_MAX_REASONS = 5  # why parts of an upload cannot be read
_ARCHIVE, _OTHER, _SCRIPT = 1, 2, 3  # in this order, behind what is called a notebook, files of an archive are read
RANK_NOTEBOOK, RANK_SCRIPT, RANK_NAME = 2, 1, 0
_NOTEBOOK = re.compile(r"\.ipynb(?:[ ._-]?\(\d+\)|\.(?:txt|json|ipynb|html?))*$", re.I)
_TEXT = re.compile(r"\.(?:txt|json|html?)$", re.I)
_PERCENT = re.compile(r"^# ?%%", re.M)
_SCRIPT_CELL = re.compile(r"^# In ?\[[ \d*]*\]:[ \t]*$", re.M)

_WHAT = {
    ".pdf": "a PDF", ".doc": "a Word document", ".docx": "a Word document", ".html": "a web page", ".htm": "a web page",
    ".txt": "a text", ".md": "a text", ".rtf": "a text", ".odt": "a text", ".pages": "a text", ".png": "a picture",
    ".jpg": "a picture", ".jpeg": "a picture", ".heic": "a picture", ".pt": "weights of a network",
    ".pth": "weights of a network", ".url": "a link", ".webloc": "a link", ".gdoc": "a link", ".gdrive": "a link",
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """A notebook that was uploaded.

    Attributes:
        path: within the upload; the upload's own name where it is no archive.
        data: of the file.
        rank: 2 for a notebook, 1 for a script that was turned into one, 0 for a file with a notebook's name only.
    """

    path: str
    data: bytes
    rank: int = 2

    @property
    def stem(self) -> str:
        """Its name without folders and suffixes."""
        name = self.path.replace("\\", "/").rpartition("/")[2]
        return re.sub(r"\.(?:py|txt|json|html?|zip|gz|7z|rar)$", "", _NOTEBOOK.sub("", name), flags=re.I)


@dataclass
class Read:
    """What an upload holds: notebooks, and why other things in it were not read."""

    contents: list[Content]
    reasons: list[str]


def read_upload(name: str, stream: BinaryIO) -> Read:
    """Reads an upload; never raises for what is in it.

    Args:
        name: that the student gave it.
        stream: seekable.
    """
    found, budget = Read([], []), Budget()
    try:
        _look(name, stream, budget, 0, found)
    except ArchiveError as error:
        found.reasons.append(f"{short(name)}: {error}")
    except RecursionError:
        found.reasons.append(f"{short(name)}: it is nested too deeply")
    if more := found.reasons[_MAX_REASONS:]:
        found.reasons[_MAX_REASONS:] = [f"{short(name)}: {len(more)} more files in it cannot be read"]
    return found


def short(name: str) -> str:
    """A name for a log or a note: on one line, without control characters, not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 80 else f"{plain[:50]} ... {plain[-25:]}"


def _look(path: str, stream: BinaryIO, budget: Budget, depth: int, found: Read) -> None:
    """Finds the notebooks in a file; where there are some, archives and scripts beside them are left alone."""
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    kind = kind_of(head, path)
    if not kind or _is_json(head):
        found.contents.append(_content(path, stream))
        return
    if depth >= MAX_DEPTH:
        raise ArchiveError(f"it is in archives in archives, more than {MAX_DEPTH} deep")
    before = len(found.contents), len(found.reasons)
    inside = [(p, entry) for entry in entries(kind, stream, budget) if (p := _priority(entry.path)) is not None]
    inside.sort(key=lambda item: item[0])
    if len(inside) > _MAX_READ:
        found.reasons.append(
            f"{short(path)}: of {len(inside)} files that may be notebooks the first {_MAX_READ} are read"
        )
    for priority, entry in inside[:_MAX_READ]:
        if priority and any(content.rank == RANK_NOTEBOOK for content in found.contents):
            break
        inner = f"{path}/{entry.path}" if entry.path else re.sub(r"\.\w+$", "", path)
        try:
            if priority == _OTHER and not _begins_as_json(entry):
                continue
            with entry.open() as opened:
                content = budget.read(opened, MAX_UNPACKED if priority == _ARCHIVE else MAX_BYTES)
            _look(inner, io.BytesIO(content), budget, depth + 1, found)
        except ArchiveTooLargeError:
            raise
        except ArchiveError as error:
            found.reasons.append(f"{short(inner)}: {error}")
    if (len(found.contents), len(found.reasons)) == before:
        raise ArchiveError("no notebook is in it")


def _begins_as_json(entry: Entry) -> bool:
    with entry.open() as opened:
        return _is_json(Budget().read_some(opened, _HEAD))


def _priority(path: str) -> int | None:
    """In which order files of an archive are read; ``None`` for what is no notebook, by its name."""
    if not path or ".ipynb" in path.rpartition("/")[2].lower():
        return 0
    if kind_of(b"", path):
        return _ARCHIVE
    if path.lower().endswith(".py"):
        return _SCRIPT
    return _OTHER if re.search(r"\.(?:json|txt)$|/[^./]+$|^[^./]+$", path, re.I) else None


def _content(path: str, stream: BinaryIO) -> Content:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ArchiveError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
    lower = path.lower()
    if _is_notebook(data):
        return Content(path, data)
    if lower.endswith(".py"):
        return Content(path, _from_script(data), RANK_SCRIPT)
    if _NOTEBOOK.search(path) and not _TEXT.search(path):
        return Content(path, data, RANK_NAME)  # grading says what is wrong with it
    suffix = re.search(r"\.\w+$", lower)
    what = _WHAT.get(suffix[0], "no notebook") if suffix else "no notebook"
    raise ArchiveError(f"it is {what}{', not the notebook' if what != 'no notebook' else ''}: ask for the .ipynb")


def _is_notebook(data: bytes) -> bool:
    """Whether it looks like the JSON of a notebook, in any encoding; what is wrong with it is left to grading."""
    if b"\0" in data[:_HEAD]:  # UTF-16 or 32
        data = data.replace(b"\0", b"")
    return _is_json(data[:_HEAD]) and any(mark in data for mark in (b'"cells"', b'"worksheets"'))


def _is_json(head: bytes) -> bool:
    return head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{")


def _from_script(data: bytes) -> bytes:
    """A notebook of a Python script: one in jupytext's percent format, one that nbconvert made, or plain functions."""
    try:
        text = data[: _MAX_SCRIPT + 1].decode("utf-8-sig")
        if len(data) > _MAX_SCRIPT:
            raise ValueError("too long")
        if _PERCENT.search(text):
            import jupytext

            notebook = jupytext.reads(text, fmt="py:percent")
            cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
        else:
            tree = ast.parse(text)
            if not any(isinstance(node, ast.FunctionDef) for node in tree.body):
                raise ArchiveError("it is a script without functions: ask for the .ipynb")
            cells = [("code", part.strip("\n")) for part in _SCRIPT_CELL.split(text) if part.strip()]
    except ArchiveError:
        raise
    except Exception:  # whatever jupytext and its YAML reader make of a file that anybody may have written
        raise ArchiveError("it is a script that cannot be read as a notebook: ask for the .ipynb") from None
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    # ids are random by default, and the same upload must make the same notebook
    made = [new[kind](source, id=f"cell-{i}") for i, (kind, source) in enumerate(cells) if kind in new]
    return nbformat.writes(nbformat.v4.new_notebook(cells=made)).encode()
