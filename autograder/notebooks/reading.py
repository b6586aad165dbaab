"""Reading of submitted files of any kind: the cells of a notebook, or what is left of them."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amllab.matching import MAX_BYTES, MAX_CELLS, MAX_SOURCE_BYTES, Cell, as_dict, joined
from autograder.errors import NotebookError
from autograder.notebooks.metadata import COLLECTION_NOTE
from autograder.notebooks.pictures import picture


@dataclass(eq=False)
class SubmittedCell(Cell):
    """The parts of a submitted cell that grading uses."""

    outputs: list[Any]
    attachments: dict[str, dict[str, str]]


def quoted(text: object) -> str:
    """Quote text from a submission in a note, as code, in which neither markdown nor HTML has a meaning."""
    plain = "".join(c if c.isprintable() and c not in "`$\\" else "?" for c in str(text)[:200])
    return f"`{plain}`"


def named(path: Path) -> str:
    """Return a file's name for a note or message, with unusual characters replaced."""
    return re.sub(r"[^\w.() -]", "?", path.name)


def find_notebook(path: Path, notes: list[str]) -> Path:
    """Find the submitted notebook: the expected file, or the only other notebook in its folder.

    Args:
        path: the expected file.
        notes: extended by notes for the student.

    Raises:
        NotebookError: if there is no such notebook; the message says what was found instead.
    """
    folder = path.parent
    if folder.is_symlink():
        raise NotebookError("The submission is a link to another folder.")
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise NotebookError(f"The submission's folder cannot be opened ({error.strerror}).") from None
    others = [n for n in names if ".ipynb" in n.lower() and n[0] != "." and n != path.name and is_own_file(folder / n)]
    if path.name in names and is_own_file(path):
        if others:  # such as a copy in which the student went on working
            listed = ", ".join(map(quoted, others[:10]))
            notes.append(f"The submission also has {listed}; only {named(path)} is graded.")
        return path
    if len(others) == 1:
        notes.append(f"The notebook is named {quoted(others[0])}; it was graded as {named(path)}.")
        return folder / others[0]
    if path.name in names:
        raise NotebookError(f"{named(path)} is not a file: it is a folder, a link to somewhere else, or a device.")
    names = [name for name in names if name != COLLECTION_NOTE]
    listed = ", ".join(map(quoted, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    found = f"the folder holds: {listed}" if names else "the folder is empty"
    raise NotebookError(f"The submission has no notebook {named(path)}; {found}.")


def is_own_file(path: Path) -> bool:
    """Return whether a path is a regular file in the submission's folder, or a link to one."""
    try:
        real = path.resolve(strict=True)
        return stat.S_ISREG(real.lstat().st_mode) and real.is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError):
        return False


def read_cells(path: Path, notes: list[str]) -> list[SubmittedCell]:
    """Read the cells of a submitted notebook.

    Args:
        path: the file.
        notes: extended by notes for the student on damage to the file.

    Raises:
        NotebookError: if the file is not a notebook, cannot be opened or exceeds a limit.
    """
    raw = _parsed(_content(path), named(path), notes)
    if not isinstance(raw, dict) or not {"nbformat", "cells", "worksheets"} & raw.keys():
        raise NotebookError(f"{named(path)} is not a notebook: it is JSON, but has no cells.")
    listed = _listed_cells(raw)
    if listed is None:
        raise NotebookError(f"{named(path)} is not a notebook, or is damaged: it has no list of cells.")
    if len(listed) > MAX_CELLS:
        raise NotebookError(f"{named(path)} has {len(listed)} cells; at most {MAX_CELLS} can be graded.")
    cells = [new_cell(cell) for cell in listed if isinstance(cell, dict)]
    if listed and not cells:
        raise NotebookError(f"{named(path)} is not a notebook, or is damaged: nothing in it is a cell.")
    if len(cells) < len(listed):
        notes.append(f"The file is damaged: {len(listed) - len(cells)} entries that are not cells were left out.")
    version = raw.get("nbformat")
    if type(version) is not int or version not in (2, 3, 4):
        notes.append(f"The file gives its format as {quoted(version)}, which does not exist; it was read as usual.")
    size = sum(len(cell.source.encode()) for cell in cells if cell.kind == "code")
    if size > MAX_SOURCE_BYTES:
        raise NotebookError(
            f"{named(path)} has {size / 1000:,.0f} kB of code; at most {MAX_SOURCE_BYTES / 1000:.0f} kB can be graded. "
            "Data and results do not belong in code cells."
        )
    return cells


def _content(path: Path) -> bytes:
    """Read the bytes of a file without ever waiting for it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path.resolve(), flags), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                limit = f"{MAX_BYTES / 1e6:.0f} MB"
                raise NotebookError(f"{named(path)} has {size / 1e6:.0f} MB; at most {limit} can be read.")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise NotebookError(f"{named(path)} cannot be opened ({error.strerror}).") from None


def _parsed(content: bytes, name: str, notes: list[str]) -> Any:
    """Parse the JSON in a file, in any encoding that editors write."""
    if not content.strip(b"\0 \t\r\n"):
        raise NotebookError(f"{name} is not a notebook: it is empty.")
    try:
        return _json(content.decode(json.detect_encoding(content)))
    except UnicodeDecodeError:
        pass
    except RecursionError:
        raise NotebookError(f"{name} is not a notebook: it is nested too deeply.") from None
    except ValueError as error:
        raise NotebookError(f"{name} is not a notebook: it is not valid JSON ({quoted(error)}).") from None
    try:
        raw = _json(content.removeprefix(codecs.BOM_UTF8).decode("latin-1"))
    except (ValueError, RecursionError):
        raise NotebookError(f"{name} is not a notebook: it is not text.") from None
    notes.append("The file is not in UTF-8; it was read as Latin-1, which may have changed some letters.")
    return raw


def _json(text: str) -> Any:
    return json.loads(text.strip("\0 \t\r\n\ufeff"), strict=False, parse_int=_whole, parse_constant=lambda _: None)


def _whole(digits: str) -> int | None:
    # Python refuses to convert very long integers back to text
    return int(digits) if len(digits) < 1000 else None


def _listed_cells(raw: dict[str, Any]) -> list[Any] | None:
    """Return the cells of a notebook, or ``None`` if it has no list of cells.

    Format 4 has one list, formats 2 and 3 have one in each worksheet. The version number may be wrong.
    """
    cells, sheets = raw.get("cells"), raw.get("worksheets")
    if isinstance(cells, list):
        return cells
    if not isinstance(sheets, list):
        return None
    lists = [sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
    return [cell for cells in lists for cell in cells] if lists else None


def new_cell(raw: dict[str, Any]) -> SubmittedCell:
    """Convert a raw cell; a field of the wrong type counts as missing."""
    outputs = raw.get("outputs")
    return SubmittedCell.read(
        raw,
        outputs=[_new_output(output) for output in outputs] if isinstance(outputs, list) else [],
        attachments=_attachments(raw.get("attachments")),
    )


def _new_output(output: Any) -> Any:
    """Convert an output of format 3 to format 4; return others unchanged."""
    if not isinstance(output, dict):
        return output
    kind = output.get("output_type")
    if kind == "stream" and "stream" in output:
        return {**output, "name": output["stream"]}
    if kind == "pyerr":
        return {**output, "output_type": "error"}
    if kind not in ("pyout", "display_data") or "data" in output:
        return output
    names = {"text": "text/plain", "html": "text/html", "png": "image/png", "jpeg": "image/jpeg"}
    return {"output_type": "display_data", "data": {names[key]: output[key] for key in names if key in output}}


def _attachments(raw: Any) -> dict[str, dict[str, str]]:
    kept: dict[str, dict[str, str]] = {}
    for name, bundle in as_dict(raw).items():
        for mime, data in as_dict(bundle).items():
            try:
                kept.setdefault(joined(name), {})[mime] = picture(mime, data)
            except ValueError:
                continue
    return {name: bundle for name, bundle in kept.items() if bundle}
