"""Normalization of submitted notebooks: bring any submitted file into the shape of the release before it runs.

The release determines the graded cells: their ids, points, locks and the text of locked cells. The submission
contributes the sources of its own cells, and the outputs of cells that grading does not or cannot run again. A
submission that cannot be read becomes the untouched release with a note on top, so that it scores zero and everybody
sees why.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder.errors import NotebookError
from autograder.notebooks.metadata import COLLECTION, COLLECTION_NOTE, EXPERIMENT, NOTE, is_autograded
from autograder.notebooks.reading import SubmittedCell, find_notebook, is_own_file, named, new_cell, quoted, read_cells
from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import clean_outputs, without_pictures

MAX_PROSE = 1_000_000  # characters in all markdown cells together
MAX_PICTURE_BYTES = 10_000_000  # of all pictures in these cells, encoded in base64
MAX_OUTPUT_BYTES = 10_000_000  # of all cells together; experiments come first

_HEADING = re.compile(r"^#{1,6} .*$", re.M)
_FUNCTION = re.compile(r"^(?:async )?def +(\w+)", re.M)


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
    return nbformat.read(path, as_version=4)


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
    wanted = {_grade_id(cell): cell for cell in release.cells if _grade_id(cell)}
    cells = [cell for cell in submitted if not (cell.note and cell.grade_id not in wanted)]
    _recognise(cells, release, notes)
    _mark_experiments(cells, release)
    cells = _one_of_each(cells, wanted, notes)
    _limit_prose(cells, notes)
    shaped = [_as_released(cell, wanted[cell.grade_id]) if cell.grade_id else _own(cell) for cell in cells]
    _clean_submitted(shaped)
    _put_back_missing(shaped, release, notes)
    metadata = copy.deepcopy(release.metadata)
    return NotebookNode(cells=shaped, metadata=metadata, nbformat=4, nbformat_minor=5)


def _recognise(cells: list[SubmittedCell], release: NotebookNode, notes: list[str]) -> None:
    """Restore the grade ids of graded cells that lost their metadata, where the match is clear."""
    wanted = {_grade_id(cell): cell for cell in release.cells if _grade_id(cell)}
    for cell in cells:
        cell.grade_id = cell.grade_id if cell.grade_id in wanted else None
    found = []
    for grade_id, released in wanted.items():
        if any(cell.grade_id == grade_id for cell in cells):
            continue
        free = [cell for cell in cells if cell.grade_id is None]
        for matching in (_with_id, _with_function, _with_text, _with_questions, _behind_heading):
            matches = matching(free, released, release)
            if matches:
                for cell in matches:
                    cell.grade_id = grade_id
                if not _is_locked(released):
                    found.append(f"`{grade_id}`")
                break
    if found:
        notes.append(
            f"Some graded cells had lost their metadata and were identified by their content: {', '.join(found)}."
        )


def _with_id(cells: list[SubmittedCell], released: NotebookNode, release: NotebookNode) -> list[SubmittedCell]:
    """Match by cell id: the graded cells of a release have their grade ids as cell ids."""
    return [cell for cell in cells if cell.cell_id == _grade_id(released)]


def _with_function(cells: list[SubmittedCell], released: NotebookNode, release: NotebookNode) -> list[SubmittedCell]:
    if _is_locked(released) or released.cell_type != "code":
        return []
    names = set(_FUNCTION.findall(released.source))
    return [cell for cell in cells if cell.kind == "code" and names & set(_FUNCTION.findall(cell.source))]


def _with_text(cells: list[SubmittedCell], released: NotebookNode, release: NotebookNode) -> list[SubmittedCell]:
    return [cell for cell in cells if cell.source.strip() == released.source.strip()]


def _with_questions(cells: list[SubmittedCell], released: NotebookNode, release: NotebookNode) -> list[SubmittedCell]:
    """Match the answers that contain more than half of the lines that occur once in the released text."""
    if released.cell_type != "markdown":
        return []
    lines = [line.strip() for line in released.source.splitlines() if line.strip()]
    questions = {line for line in lines if lines.count(line) == 1}

    def share(cell: SubmittedCell) -> float:
        return len(questions & {line.strip() for line in cell.source.splitlines()}) / max(len(questions), 1)

    return [cell for cell in cells if cell.kind == "markdown" and share(cell) > 0.5]


def _behind_heading(cells: list[SubmittedCell], released: NotebookNode, release: NotebookNode) -> list[SubmittedCell]:
    """Match the text that follows the heading under which the release has the cell."""
    before = release.cells[: release.cells.index(released)]
    headings = _HEADING.findall(before[-1].source) if before and before[-1].cell_type == "markdown" else []
    if released.cell_type != "markdown" or not headings:
        return []
    texts = {cell.source.strip() for cell in release.cells}
    for cell, following in itertools.pairwise(cells):
        is_answer = following.kind == "markdown" and following.source.strip() not in texts
        if cell.kind == "markdown" and headings[0] in cell.source.splitlines() and is_answer:
            return [following]
    return []


def _mark_experiments(cells: list[SubmittedCell], release: NotebookNode) -> None:
    """Decide which cells are experiments: the release decides for its own cells, the student for new ones."""
    own = [cell for cell in release.cells if cell.cell_type == "code" and not _grade_id(cell)]
    by_source = {cell.source.strip(): cell for cell in own}
    by_id = {cell.get("id"): cell for cell in own}
    tags_lost = not any(cell.experiment for cell in cells)
    for cell in cells:
        released = by_source.get(cell.source.strip()) or by_id.get(cell.cell_id)
        if cell.grade_id:
            cell.experiment = False
        elif released is not None:
            was = EXPERIMENT in released.metadata.get("tags", [])
            untouched = cell.source.strip() in by_source
            cell.experiment = was and (cell.experiment or untouched or tags_lost)


def _one_of_each(
    cells: list[SubmittedCell], wanted: dict[str | None, NotebookNode], notes: list[str]
) -> list[SubmittedCell]:
    """Keep one cell of each grade id: the last check cell, the first of other locked cells, the last changed solution.

    This way functions are checked where the student last checked them, and definitions in locked cells are available
    from their first occurrence on. The other changed solutions stay as the student's own cells, so that all of them run
    in the notebook's order. Unchanged copies are removed: a copy of the stub after the solution would otherwise
    replace it.
    """
    gone: list[int] = []
    for grade_id, released in wanted.items():
        copies = [cell for cell in cells if cell.grade_id == grade_id]
        if len(copies) < 2:
            continue
        changed = [cell for cell in copies if cell.source.strip() != released.source.strip()]
        locked = _is_locked(released)
        kept = copies[-1 if is_autograded(released) else 0] if locked else (changed or copies)[-1]
        for cell in copies:
            if cell is not kept:
                cell.grade_id = None
                if locked or cell not in changed:
                    gone.append(id(cell))
        if locked:
            notes.append(f"There were several cells `{grade_id}`: one was kept, and the others do not cost points.")
        elif len(changed) > 1:
            notes.append(
                f"There were several cells `{grade_id}`: the last one counts, the earlier ones were kept as your own cells."
            )
    return [cell for cell in cells if id(cell) not in gone]


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
            f"There was more text, or there were more or larger pictures, than the limits allow: {cut} cells were cut."
        )


def _own(cell: SubmittedCell) -> NotebookNode:
    """Return one of the student's own cells, with only its content and the tag of an experiment."""
    if cell.kind == "code":
        tags = {"tags": [EXPERIMENT]} if cell.experiment else {}
        return NotebookNode(
            cell_type="code",
            id="own",
            metadata=NotebookNode(tags),
            source=cell.source,
            outputs=cell.outputs,
            execution_count=None,
        )
    own = NotebookNode(cell_type="markdown", id="own", metadata=NotebookNode(), source=cell.source)
    if cell.attachments:
        own.attachments = nbformat.from_dict(cell.attachments)
    return own


def _as_released(cell: SubmittedCell, released: NotebookNode) -> NotebookNode:
    """Return the cell with the release's metadata and, if it is locked, with the release's text."""
    result = copy.deepcopy(released)
    if not _is_locked(released):
        result.source = cell.source
        if result.cell_type == "markdown" and cell.attachments:
            result.attachments = nbformat.from_dict(cell.attachments)
    if result.cell_type == "code":
        result.outputs, result.execution_count = [] if _is_locked(released) else cell.outputs, None
    return result


def _clean_submitted(cells: list[NotebookNode]) -> None:
    """Clean the outputs that a person may see: of experiments, and of cells that grading cannot run again."""
    left = MAX_OUTPUT_BYTES
    with limited():
        for cell in sorted(cells, key=lambda cell: EXPERIMENT not in cell.metadata.get("tags", [])):
            if cell.cell_type == "code" and cell.outputs:
                cell.outputs = clean_outputs(cell.outputs, min(left, MAX_OUTPUT_BYTES // 2))
                left -= len(json.dumps(cell.outputs))


def _put_back_missing(cells: list[NotebookNode], release: NotebookNode, notes: list[str]) -> None:
    """Insert each missing graded cell after the one that it follows in the release."""
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
            # another cell may define the function, and an inserted stub would replace it
            missing.source = "# This cell was missing from the submission."
        if not _is_locked(released):
            notes.append(f"The cell `{grade_id}` was missing: an empty one was added.")
        cells.insert(place, missing)
        place += 1


def _grade_id(cell: NotebookNode) -> str | None:
    nbgrader = cell.metadata.get("nbgrader")
    return nbgrader.get("grade_id") if nbgrader else None


def _is_locked(released: NotebookNode) -> bool:
    nbgrader = released.metadata.nbgrader
    return bool(nbgrader.locked or (nbgrader.grade and not nbgrader.solution))


def _note_cell(notes: list[str]) -> NotebookNode:
    text = "**From the grading**\n\n" + "\n".join(f"- {note}" for note in notes)
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": [NOTE], "deletable": False, "editable": False})
