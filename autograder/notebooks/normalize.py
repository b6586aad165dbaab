"""Normalization of submitted notebooks: bring any submitted file into the shape of the release before it runs.

The release determines the graded cells: their ids, points, locks and the text of locked cells. The submission
contributes the sources of its own cells, and the outputs of cells that grading does not or cannot run again. A
submission that cannot be read becomes the untouched release with a note on top, so that it scores zero and everybody
sees why.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from amllab.matching import EXPERIMENT, MAX_OUTPUT_BYTES, NOTE, Place, match
from autograder.errors import NotebookError
from autograder.notebooks.metadata import COLLECTION, COLLECTION_NOTE
from autograder.notebooks.pictures import without_pictures
from autograder.notebooks.reading import SubmittedCell, find_notebook, is_own_file, named, new_cell, quoted, read_cells
from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import clean_outputs
from autograder.text import counted

MAX_PROSE = 1_000_000  # characters in all markdown cells together
MAX_PICTURE_BYTES = 10_000_000  # of all pictures in these cells, encoded in base64


@dataclass
class NormalizedSubmission:
    """A submission in the shape of the release.

    Attributes:
        notebook: valid nbformat 4.
        notes: what was fixed, or why nothing could be read, in the student's terms. Text from the submission is quoted
            as code, so that the notes are safe as markdown.
        readable: False if the notebook contains nothing of the submission, so that there is nothing to run.
    """

    notebook: NotebookNode
    notes: list[str] = field(default_factory=list)
    readable: bool = True


def read_release(path: Path) -> NotebookNode:
    """Read the released notebook.

    Raises:
        FileNotFoundError: if the release has not been built; the message gives the command that builds it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"The release {path.parent.name}/{path.name} does not exist: run 'autograder build {path.parent.name}'"
        )
    release: NotebookNode = nbformat.read(path, as_version=4)
    return release


def normalize(path: Path, release: NotebookNode) -> NormalizedSubmission:
    """Read a submission and bring it into the shape of the release, as the module's docstring describes.

    Args:
        path: the expected file. If it does not exist and its folder has exactly one other notebook, that one is used.
        release: the released notebook.
    """
    notes: list[str] = []
    readable = True
    try:
        cells = read_cells(find_notebook(path, notes), notes)
    except NotebookError as error:
        readable = False
        notes = [f"{error} Nothing could be graded: all automatic points are 0. Please submit {named(path)} again."]
        cells = [new_cell(cell) for cell in release.cells]
    notebook = _in_shape(cells, release, notes)
    notes += [f"{COLLECTION} {quoted(line)}" for line in collection_notes(path.parent)]
    if notes:
        notebook.cells.insert(0, _note_cell(notes))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    nbformat.validate(notebook)
    return NormalizedSubmission(notebook, notes, readable)


def collection_notes(folder: Path) -> list[str]:
    """Return the first ten lines of the notes that ``nbgrader zip_collect`` left with a submission."""
    path = folder / COLLECTION_NOTE
    if not is_own_file(path):
        return []
    with path.open("rb") as file:
        return [line for line in file.read(10_000).decode(errors="replace").splitlines() if line.strip()][:10]


def _in_shape(submitted: list[SubmittedCell], release: NotebookNode, notes: list[str]) -> NotebookNode:
    released = [new_cell(cell) for cell in release.cells]
    places = match(submitted, released)
    by_id = {place.grade_id: place for place in places}
    graded = [by_id[cell.grade_id] for cell in released if cell.grade_id]
    notes += _notes_on_copies(graded)
    _limit_prose([place.submitted for place in places if place.submitted], notes)
    notes += [
        f"The cell `{place.grade_id}` was missing: an empty one was added."
        for place in graded
        if place.submitted is None and not place.is_locked
    ]
    notes += _notes_on_locked(place for place in graded if place.is_locked)
    nodes = {cell.grade_id: node for cell, node in zip(released, release.cells, strict=True)}
    shaped = [_as_released(place, nodes[place.grade_id]) if place.grade_id else _own(place) for place in places]
    _clean_submitted(shaped)
    return NotebookNode(cells=shaped, metadata=copy.deepcopy(release.metadata), nbformat=4, nbformat_minor=5)


def _notes_on_copies(graded: list[Place[SubmittedCell]]) -> list[str]:
    """Say which graded cells were identified by their content, and of which there were several."""
    notes = []
    found = [f"`{place.grade_id}`" for place in graded if place.is_by_content and not place.is_locked]
    if found:
        notes.append(
            f"Some graded cells had lost their metadata and were identified by their content: {', '.join(found)}."
        )
    for place in graded:
        several = f"There were several cells `{place.grade_id}`"
        if len(place.candidates) > 1 and place.is_locked:
            notes.append(f"{several}: one was kept, and the others do not cost points.")
        elif len(place.candidates) > 1:
            notes.append(f"{several}: the last one counts, the earlier ones were kept as your own cells.")
    return notes


def _notes_on_locked(places: Iterable[Place[SubmittedCell]]) -> list[str]:
    """Say which locked cells were missing or changed; grading uses those of the release in any case."""
    missing, changed = [], []
    for place in places:
        if place.submitted is None:
            missing.append(f"`{place.grade_id}`")
        elif _differ(place.submitted, place.cell):
            changed.append(f"`{place.grade_id}`")
    notes = [f"Locked cells were missing; they were added again: {', '.join(missing)}."] if missing else []
    if changed:
        notes.append(f"Locked cells had been changed; those of the release replaced them: {', '.join(changed)}.")
    return notes


def _differ(submitted: SubmittedCell, released: SubmittedCell) -> bool:
    """Return whether a person would see a difference between two cells."""
    lines = [[line.rstrip() for line in cell.text.splitlines()] for cell in (submitted, released)]
    return submitted.kind != released.kind or lines[0] != lines[1]


def _limit_prose(cells: list[SubmittedCell], notes: list[str]) -> None:
    """Cut the text and remove the pictures of cells that exceed the limits for all markdown cells together."""
    words_left, pictures_left, cut = MAX_PROSE, MAX_PICTURE_BYTES, 0
    for cell in cells:
        if cell.kind != "markdown":
            continue
        words = without_pictures(cell.source)
        pictures = len(cell.source) - len(words)
        pictures += sum(len(data) for bundle in cell.attachments.values() for data in bundle.values())
        if len(words) <= words_left and pictures <= pictures_left:
            pictures_left -= pictures
        else:
            words = words[:words_left]
            cell.source, cell.attachments, cut = words, {}, cut + 1
        words_left -= len(words)
    if cut:
        notes.append(
            f"There was too much text, or too many or too large pictures: {counted(cut, 'cell was', 'cells were')} shortened."
        )


def _own(place: Place[SubmittedCell]) -> NotebookNode:
    """Return one of the student's own cells, with only its content and the tag of an experiment."""
    cell = place.cell
    own = NotebookNode(cell_type=cell.kind, id="own", metadata=NotebookNode(), source=cell.source)
    if cell.kind == "code":
        own.update(outputs=cell.outputs, execution_count=None)
        if place.is_experiment:
            own.metadata.tags = [EXPERIMENT]
    elif cell.attachments:
        own.attachments = nbformat.from_dict(cell.attachments)
    return own


def _as_released(place: Place[SubmittedCell], released: NotebookNode) -> NotebookNode:
    """Return a graded cell with the release's metadata and, if it is locked, with the release's text."""
    result = copy.deepcopy(released)
    result.source = place.cell.source
    if result.cell_type == "code":
        result.outputs, result.execution_count = [] if place.is_locked else place.cell.outputs, None
    elif place.cell.attachments and not place.is_locked:
        result.attachments = nbformat.from_dict(place.cell.attachments)
    return result


def _clean_submitted(cells: list[NotebookNode]) -> None:
    """Clean the outputs that a person may see: of experiments, and of cells that grading cannot run again."""
    left = MAX_OUTPUT_BYTES
    with limited():
        for cell in sorted(cells, key=lambda cell: EXPERIMENT not in cell.metadata.get("tags", [])):
            if cell.cell_type == "code" and cell.outputs:
                cell.outputs = clean_outputs(cell.outputs, min(left, MAX_OUTPUT_BYTES // 2))
                left -= len(json.dumps(cell.outputs))


def add_notes(notebook: NotebookNode, notes: Sequence[str]) -> None:
    """Add notes to those at the top of a notebook."""
    if not notes:
        return
    cells = notebook.cells
    if cells and cells[0].cell_type == "markdown" and NOTE in cells[0].metadata.get("tags", []):
        cells[0].source += "".join(f"\n- {note}" for note in notes)
    else:
        cells.insert(0, _note_cell(notes))


def _note_cell(notes: Sequence[str]) -> NotebookNode:
    text = "**From the grading**\n\n" + "\n".join(f"- {note}" for note in notes)
    metadata = {"tags": [NOTE], "deletable": False, "editable": False}
    cell: NotebookNode = nbformat.v4.new_markdown_cell(text, metadata=metadata, id=NOTE)
    return cell
