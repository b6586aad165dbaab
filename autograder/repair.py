"""Repair: brings whatever was handed in into the shape of the released notebook, before anything of it runs.

The release decides what the graded cells are: their ids, points, locks and the text of locked cells. The submission
contributes the sources of its own cells, and the outputs of experiments. What cannot be read becomes the untouched
release with a note on top, so that it scores zero and everybody sees why.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

EXPERIMENT = "experiment"
NOTE = "grading-note"
MAX_BYTES = 50_000_000
# what is kept of an output: pictures and text; HTML, SVG and scripts could act when a grader opens the notebook
KEPT_TYPES = ("image/png", "image/jpeg", "text/plain")


@dataclass
class Repaired:
    """A notebook in the release's shape.

    Attributes:
        notebook: valid nbformat 4.
        notes: what was mended, or why nothing could be read, in the student's terms.
    """

    notebook: NotebookNode
    notes: list[str] = field(default_factory=list)


class Unreadable(ValueError):  # noqa: N818
    """The file is no notebook; the message says what it is instead."""


def read_release(path: Path) -> NotebookNode:
    """The released notebook.

    Raises:
        FileNotFoundError: it was not built; the message gives the command.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"The release {path.parent.name}/{path.name} does not exist: run 'nbgrader generate_assignment {path.parent.name}'"
        )
    return nbformat.read(path, as_version=4)


def repair(path: Path, release: NotebookNode) -> Repaired:
    """Reads a submission and brings it into shape; see the module.

    Args:
        path: the file that was expected. Where it does not exist and there is exactly one other notebook in its folder, that is taken.
        release: the released notebook.
    """
    notes: list[str] = []
    try:
        chosen = _find(path, notes)
        submitted = _read(chosen)
    except Unreadable as error:
        notes = [f"{error} Nothing could be graded: all automatic points are 0. Please hand in {path.name} again."]
        submitted = copy.deepcopy(release)
    notebook = _in_shape(submitted, release, notes)
    if notes:
        notebook.cells.insert(0, _note_cell(notes))
    _unique_ids(notebook)
    nbformat.validate(notebook)
    return Repaired(notebook, notes)


def clean_outputs(outputs: list[Any], limit: int) -> list[NotebookNode]:
    """Keeps text and pictures of a cell's outputs, up to ``limit`` bytes in all."""
    kept: list[NotebookNode] = []
    left = limit
    for output in outputs:
        try:
            clean = _clean_output(output)
        except (AttributeError, KeyError, TypeError):
            continue
        size = len(json.dumps(clean))
        if size > left:
            kept.append(nbformat.v4.new_output("stream", name="stdout", text="... further output left out ...\n"))
            break
        left -= size
        kept.append(clean)
    return kept


def _clean_output(output: Any) -> NotebookNode:
    kind = output["output_type"]
    if kind == "stream":
        return nbformat.v4.new_output(kind, name=str(output["name"]), text=_text(output["text"]))
    if kind == "error":
        lines = [str(line) for line in output["traceback"]]
        return nbformat.v4.new_output(kind, ename=str(output["ename"]), evalue=str(output["evalue"]), traceback=lines)
    data = {mime: _text(value) for mime, value in output["data"].items() if mime in KEPT_TYPES}
    if not data:
        raise KeyError("nothing to keep")
    return nbformat.v4.new_output("display_data", data=data)


def _text(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _find(path: Path, notes: list[str]) -> Path:
    if path.is_file():
        return path
    others = sorted(path.parent.glob("*.ipynb")) if path.parent.is_dir() else []
    if len(others) == 1:
        notes.append(f"The notebook is named {others[0].name}; it was graded as {path.name}.")
        return others[0]
    names = ", ".join(p.name for p in sorted(path.parent.iterdir())) if path.parent.is_dir() else ""
    found = f"; the folder holds: {names}" if names else "; the folder is empty"
    raise Unreadable(f"The submission has no notebook {path.name}{found}.")


def _read(path: Path) -> NotebookNode:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise Unreadable(f"{path.name} has {size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB can be read.")
    try:
        raw = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is no notebook: it is not text.") from None
    except ValueError as error:
        what = "it is empty" if size == 0 else f"it is not valid JSON ({error})"
        raise Unreadable(f"{path.name} is no notebook: {what}.") from None
    except RecursionError:
        raise Unreadable(f"{path.name} is no notebook: it is nested too deeply.") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("nbformat"), int):
        raise Unreadable(f"{path.name} is no notebook: it is JSON, but not of a notebook.")
    try:
        if raw["nbformat"] < 4:
            raw = nbformat.convert(nbformat.from_dict(raw), 4)
        cells = [_cell(cell) for cell in raw["cells"]]
    except Exception as error:  # nbformat's converters fail in many ways on damaged files, all of them mean this
        raise Unreadable(f"{path.name} is a damaged notebook ({type(error).__name__}: {error}).") from None
    return nbformat.v4.new_notebook(cells=cells)


def _cell(raw: Any) -> NotebookNode:
    """A clean cell from a raw one: type, source, outputs, grade id, and whether it is an experiment."""
    source, metadata = _text(raw.get("source", "")), raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader = metadata.get("nbgrader")
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    tags = metadata.get("tags")
    kept: dict[str, Any] = {"nbgrader": {"grade_id": grade_id}} if isinstance(grade_id, str) else {}
    for tag in (EXPERIMENT, NOTE):
        if isinstance(tags, list) and tag in tags:
            kept["tags"] = [tag]
    if raw.get("cell_type") == "code":
        outputs = raw.get("outputs")
        cell = nbformat.v4.new_code_cell(source, metadata=kept)
        cell.outputs = outputs if isinstance(outputs, list) else []
        return cell
    attachments = raw.get("attachments")
    cell = nbformat.v4.new_markdown_cell(source, metadata=kept)
    if isinstance(attachments, dict) and attachments:
        pictures = {
            str(name): {mime: str(data) for mime, data in bundle.items() if mime in KEPT_TYPES}
            for name, bundle in attachments.items()
            if isinstance(bundle, dict)
        }
        cell.attachments = pictures
    return cell


def _in_shape(submitted: NotebookNode, release: NotebookNode, notes: list[str]) -> NotebookNode:
    wanted = {_grade_id(cell): cell for cell in release.cells if _grade_id(cell)}
    cells = [cell for cell in submitted.cells if NOTE not in cell.metadata.get("tags", [])]
    last = {_grade_id(cell): i for i, cell in enumerate(cells) if _grade_id(cell) in wanted}
    shaped: list[NotebookNode] = []
    for i, cell in enumerate(cells):
        grade_id = _grade_id(cell)
        if grade_id in wanted and last[grade_id] == i:
            shaped.append(_as_released(cell, wanted[grade_id]))
        elif grade_id in wanted and wanted[grade_id].metadata.nbgrader.locked:
            notes.append(f"There were several cells `{grade_id}`; the last was kept.")
        else:
            cell.metadata.pop("nbgrader", None)
            shaped.append(cell)
    for cell in shaped:
        if cell.cell_type == "code":
            is_experiment = EXPERIMENT in cell.metadata.get("tags", [])
            cell.outputs = clean_outputs(cell.outputs, MAX_BYTES // 10) if is_experiment else []
            cell.execution_count = None
    _put_back_missing(shaped, release, notes)
    return nbformat.v4.new_notebook(cells=shaped, metadata=copy.deepcopy(release.metadata))


def _as_released(cell: NotebookNode, released: NotebookNode) -> NotebookNode:
    """The cell with the release's metadata; locked cells with its text too."""
    nbgrader = released.metadata.nbgrader
    locked = nbgrader.locked or (nbgrader.grade and not nbgrader.solution)
    result = copy.deepcopy(released)
    if not locked:
        result.source = cell.source
        if result.cell_type == "markdown" and "attachments" in cell:
            result.attachments = cell.attachments
    return result


def _put_back_missing(cells: list[NotebookNode], release: NotebookNode, notes: list[str]) -> None:
    """Inserts every graded cell that is missing behind the one that it follows in the release."""
    place = 0
    for released in release.cells:
        grade_id = _grade_id(released)
        if not grade_id:
            continue
        position = next((i for i, cell in enumerate(cells) if _grade_id(cell) == grade_id), None)
        if position is not None:
            place = position + 1
            continue
        missing = copy.deepcopy(released)
        if missing.metadata.nbgrader.solution and missing.cell_type == "code":
            # the function may well be defined in another cell: an inserted stub must not replace it
            missing.source = "# This cell was missing from the submission."
        if not released.metadata.nbgrader.locked:
            notes.append(f"The cell `{grade_id}` was missing; it was put back empty.")
        cells.insert(place, missing)
        place += 1


def _grade_id(cell: NotebookNode) -> str | None:
    nbgrader = cell.metadata.get("nbgrader")
    return nbgrader.get("grade_id") if nbgrader else None


def _note_cell(notes: list[str]) -> NotebookNode:
    text = "**From the grading**\n\n" + "\n".join(f"- {note}" for note in notes)
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": [NOTE], "deletable": False, "editable": False})


def _unique_ids(notebook: NotebookNode) -> None:
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
