"""Find the notebooks in an upload: a file, an archive, a nested archive, or a script submitted as a notebook."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import nbformat
from nbformat import NotebookNode

from amllab.matching import MAX_BYTES
from autograder.collect.archives import MAX_DEPTH, MAX_UNPACKED, Budget, Entry, entries, kind_of
from autograder.errors import ArchiveError, ArchiveTooLargeError

_HEAD = 512  # bytes
_MAX_SCRIPT = 1_000_000  # bytes
_MAX_READ = 50  # files read per archive
_MAX_REASONS = 5  # reasons reported per upload
_ARCHIVE, _OTHER, _SCRIPT = 1, 2, 3  # order of reading an archive's files, after those named like notebooks
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
    """An uploaded notebook.

    Attributes:
        path: Path within the upload, starting with the upload's own name.
        data: Content of the file.
        rank: 2 for a notebook, 1 for a script converted to one, 0 for a file that is a notebook by name only.
    """

    path: str
    data: bytes
    rank: int = 2

    @property
    def stem(self) -> str:
        """Name of the notebook without folders and suffixes."""
        name = self.path.replace("\\", "/").rpartition("/")[2]
        return re.sub(r"\.(?:py|txt|json|html?|zip|gz|7z|rar)$", "", _NOTEBOOK.sub("", name), flags=re.I)


@dataclass
class Read:
    """The notebooks in an upload, and the reasons why other files in it were not read."""

    contents: list[Content]
    reasons: list[str]


def read_upload(name: str, stream: BinaryIO) -> Read:
    """Read an upload; invalid content is reported in the result and never raises an error.

    Args:
        name: The student's name for the file.
        stream: The content as a seekable stream.
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
    """Shorten a name for a log or note, on one line and without control characters."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 80 else f"{plain[:50]} ... {plain[-25:]}"


def _look(path: str, stream: BinaryIO, budget: Budget, depth: int, found: Read) -> None:
    """Find the notebooks in a file; if an archive contains any, ignore nested archives and scripts next to them."""
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    kind = kind_of(head, path)
    if not kind or _is_json(head):
        found.contents.append(_content(path, stream))
        return
    if depth >= MAX_DEPTH:
        raise ArchiveError(f"it is in archives nested more than {MAX_DEPTH} deep")
    before = len(found.contents), len(found.reasons)
    inside = [(p, entry) for entry in entries(kind, stream, budget) if (p := _priority(entry.path)) is not None]
    inside.sort(key=lambda item: item[0])
    if len(inside) > _MAX_READ:
        found.reasons.append(
            f"{short(path)}: of {len(inside)} files that may be notebooks, only the first {_MAX_READ} are read"
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
        raise ArchiveError("it has no notebook")


def _begins_as_json(entry: Entry) -> bool:
    with entry.open() as opened:
        return _is_json(Budget().read_some(opened, _HEAD))


def _priority(path: str) -> int | None:
    """Return the position of a file in the order of reading; ``None`` if its name rules out a notebook."""
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
        return Content(path, data, RANK_NAME)  # grading reports what is wrong with it
    suffix = re.search(r"\.\w+$", lower)
    what = _WHAT.get(suffix[0], "not a notebook") if suffix else "not a notebook"
    raise ArchiveError(f"it is {what}{', not the notebook' if what != 'not a notebook' else ''}: ask for the .ipynb")


def _is_notebook(data: bytes) -> bool:
    """Return whether data looks like the JSON of a notebook, in any encoding; grading reports any errors in it."""
    if b"\0" in data[:_HEAD]:  # UTF-16 or 32
        data = data.replace(b"\0", b"")
    return _is_json(data[:_HEAD]) and any(mark in data for mark in (b'"cells"', b'"worksheets"'))


def _is_json(head: bytes) -> bool:
    return head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{")


def _from_script(data: bytes) -> bytes:
    """Convert a Python script to a notebook: jupytext's percent format, nbconvert's output, or plain functions."""
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
    except Exception:  # jupytext and its YAML reader may raise anything on an untrusted file
        raise ArchiveError("it is a script that cannot be read as a notebook: ask for the .ipynb") from None
    new: dict[str, Callable[..., NotebookNode]] = {
        "code": nbformat.v4.new_code_cell,
        "markdown": nbformat.v4.new_markdown_cell,
    }
    # ids are random by default, but the same upload must always yield the same notebook
    made = [new[kind](source, id=f"cell-{i}") for i, (kind, source) in enumerate(cells) if kind in new]
    written: str = nbformat.writes(nbformat.v4.new_notebook(cells=made))
    return written.encode()
