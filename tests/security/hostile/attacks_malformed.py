"""Files that are broken, damaged or of another type; what can be repaired costs the student nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
from nbformat import NotebookNode

from tests.security.hostile.attack_base import MALFORMED, Attack, Edit, cell_of, check_cells


def _json(notebook: NotebookNode) -> dict:
    return json.loads(nbformat.writes(notebook))


def _version_3(notebook: NotebookNode) -> bytes:
    return nbformat.writes(notebook, version=3).encode()


def _truncated(notebook: NotebookNode) -> bytes:
    text = nbformat.writes(notebook).encode()
    return text[: len(text) // 2]


def _large_cell(notebook: NotebookNode) -> NotebookNode:
    notebook.cells.append(nbformat.v4.new_code_cell("# " + "x" * 30_000_000))
    return notebook


def _experiment(notebook: NotebookNode) -> NotebookNode:
    """Return the first experiment; a course for stock nbgrader has none, and any cell will do."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return next((cell for cell in code if "experiment" in cell.metadata.get("tags", [])), code[0])


def _large_output(notebook: NotebookNode) -> NotebookNode:
    cell = _experiment(notebook)
    cell.outputs = [nbformat.v4.new_output("stream", text="x" * 30_000_000)]
    return notebook


def _lost_metadata(notebook: NotebookNode) -> bytes:
    raw = _json(notebook)
    for cell in raw["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    raw["metadata"] = {}
    raw["nbformat_minor"] = 2
    return json.dumps(raw).encode()


def _without_checks(notebook: NotebookNode) -> NotebookNode:
    checks = check_cells(notebook)
    notebook.cells = [cell for cell in notebook.cells if cell not in checks]
    return notebook


def _copied(notebook: NotebookNode) -> NotebookNode:
    """Duplicate check and solution cells, as after careless copying and pasting in the notebook."""
    first = next(cell for cell in notebook.cells if (cell.metadata.get("nbgrader") or {}).get("solution"))
    for cell in (first, *check_cells(notebook)):
        notebook.cells.insert(notebook.cells.index(cell) + 1, copy.deepcopy(cell))
    return notebook


def _same_ids(notebook: NotebookNode) -> bytes:
    raw = _json(notebook)
    for cell in raw["cells"]:
        cell["id"] = "same"
    return json.dumps(raw).encode()


def _other_kernel(notebook: NotebookNode) -> NotebookNode:
    notebook.metadata.kernelspec = {"name": "no-such-kernel", "display_name": "R", "language": "R"}
    notebook.metadata.language_info = {"name": "R"}
    return notebook


def _old_schema(notebook: NotebookNode) -> bytes:
    raw = _json(notebook)
    for cell in raw["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["schema_version"] = 1
            cell["metadata"]["nbgrader"].pop("task", None)
    return json.dumps(raw).encode()


def _new_schema(notebook: NotebookNode) -> bytes:
    raw = _json(notebook)
    raw["nbformat"], raw["nbformat_minor"] = 4, 99
    for cell in raw["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["schema_version"] = 99
    return json.dumps(raw).encode()


def _strange_types(notebook: NotebookNode) -> bytes:
    """Put numbers, null and lists in place of texts and objects, in cells that are not graded."""
    raw = _json(notebook)
    strange = [None, 7, "cell", [], {}, {"cell_type": "code"}, {"cell_type": "heading", "source": 3, "level": []}]
    strange.append({"cell_type": "code", "source": {"a": 1}, "outputs": "none", "metadata": 5})
    strange.append(
        {"cell_type": "code", "source": [1, None], "outputs": [{"output_type": "stream"}, 3], "metadata": None}
    )
    raw["cells"] += strange
    return json.dumps(raw).encode()


def _active_content(notebook: NotebookNode) -> NotebookNode:
    """Put scripts into outputs, text, attachments, error messages and links."""
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></svg>"
    cell = _experiment(notebook)
    cell.outputs = [
        nbformat.v4.new_output("display_data", data={"text/html": bad, "image/svg+xml": bad, "text/plain": "shown"}),
        nbformat.v4.new_output("display_data", data={"application/javascript": "alert(4)"}),
        nbformat.v4.new_output("error", ename="<script>alert(5)</script>", evalue=bad, traceback=[bad]),
        nbformat.v4.new_output("display_data", data={"image/png": '"><script>alert(6)</script>'}),
    ]
    cell_of(notebook, "reflection").source = bad + "\n[link](javascript:alert(7)) <iframe src='https://example.org'>"
    notebook.cells.append(nbformat.v4.new_markdown_cell(bad))
    return notebook


def damaged(name: str, what: str, edit: Edit, **more: Any) -> Attack:
    """Return an attack whose file has one honest function, which keeps its points."""
    return Attack(name, MALFORMED, what, honest=True, edit=edit, **more)


def unreadable(name: str, what: str, content: bytes | None, says: str) -> Attack:
    return Attack(name, MALFORMED, what, edit=lambda notebook: content, says=says)


ATTACKS = [
    damaged("nbformat_3", "a notebook in format 3", _version_3),
    unreadable("not_json", "a letter to the TA", b"Dear TA, my computer broke.", "not valid JSON"),
    unreadable("empty_file", "an empty file", b"", "it is empty"),
    unreadable("no_file", "an empty folder", None, "has no notebook"),
    unreadable("binary", "bytes that are no text", bytes(range(256)) * 40, "not text"),
    unreadable("deep_json", "JSON nested a hundred thousand deep", b"[" * 100_000, "is not a notebook"),
    unreadable("other_json", "JSON that is not a notebook", b'{"cells": 7, "nbformat": "four"}', "is not a notebook"),
    Attack("truncated", MALFORMED, "half a file", edit=_truncated, says="not valid JSON"),
    damaged("large_cell", "a cell of 30 MB", _large_cell, keeps=False, says="at most"),
    damaged("large_output", "a stored output of 30 MB", _large_output),
    damaged("lost_metadata", "metadata and ids of all cells lost", _lost_metadata),
    damaged("without_checks", "check cells deleted", _without_checks),
    damaged("copied_cells", "solution and check cells twice", _copied),
    damaged("same_ids", "all cells with one id", _same_ids),
    damaged("other_kernel", "a kernelspec that nobody has", _other_kernel),
    damaged("old_schema", "nbgrader metadata of schema 1", _old_schema),
    damaged("new_schema", "minor format 99, nbgrader metadata of schema 99", _new_schema),
    damaged("strange_types", "cells that are numbers, null and lists", _strange_types),
    damaged(
        "active_content",
        "scripts and event handlers in outputs, text and attachments",
        _active_content,
        inert="<script>alert(",
    ),
]
