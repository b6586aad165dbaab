"""Matching of a student's notebook with the release: which cell is which, and which of several copies counts.

Grading and the preflight share this module, so that both decide alike which cells run. It needs only the JSON of the
cells.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

# limits of grading
MAX_BYTES = 50_000_000  # of the file
MAX_CELLS = 2000
# of all code together: about twenty times the lab's own notebook, enough for any work but not for a network's weights
MAX_SOURCE_BYTES = 200_000
MAX_OUTPUT_BYTES = 10_000_000  # of all cells together; experiments come first

EXPERIMENT = "experiment"  # tag of a cell that grading does not run
NOTE = "grading-note"  # tag of the cell that grading inserts at the top

_HEADING = re.compile(r"^#{1,6} .*$", re.M)
_FUNCTION = re.compile(r"^(?:async )?def +(\w+)", re.M)
# all except tab, line feed, carriage return, form feed, and escape, which begins the colours of a terminal
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(eq=False)
class Cell:
    """A cell of a submitted or released notebook; two cells are equal only if they are the same object.

    Attributes:
        kind: ``"code"``, or ``"markdown"`` for all others.
        source: text of the cell.
        cell_id: id of the cell in the file.
        nbgrader: nbgrader's metadata, or empty; to be trusted only in a release.
        tags: tags of the cell.
    """

    kind: str
    source: str
    cell_id: str | None
    nbgrader: Mapping[str, Any]
    tags: Collection[Any]

    @classmethod
    def read(cls, raw: Mapping[str, Any], **further: Any) -> Self:
        """Read a cell of any format of notebooks; a field of the wrong type counts as missing.

        Args:
            raw: the cell's JSON.
            further: the fields of a subclass.
        """
        metadata = as_dict(raw.get("metadata"))
        tags = metadata.get("tags")
        try:
            source = joined(raw.get("source", raw.get("input")))
        except ValueError:
            source = ""
        if raw.get("cell_type") == "heading":
            level = raw.get("level")
            source = "#" * (level if level in range(1, 7) else 1) + " " + source
        return cls(
            kind="code" if raw.get("cell_type") == "code" else "markdown",
            source=source,
            cell_id=raw["id"] if isinstance(raw.get("id"), str) else None,
            nbgrader=as_dict(metadata.get("nbgrader")),
            tags=tags if isinstance(tags, list) else [],
            **further,
        )

    @property
    def text(self) -> str:
        """The source without white space around it, by which cells are compared."""
        return self.source.strip()

    @property
    def functions(self) -> list[str]:
        """Names of the functions that the cell defines."""
        return _FUNCTION.findall(self.source)

    @property
    def grade_id(self) -> str:
        """The id in nbgrader's metadata, or empty."""
        found = self.nbgrader.get("grade_id")
        return found if isinstance(found, str) else ""

    @property
    def is_experiment(self) -> bool:
        """Whether it has the tag of an experiment."""
        return EXPERIMENT in self.tags

    @property
    def is_note(self) -> bool:
        """Whether it is the note of an earlier grading."""
        return NOTE in self.tags and self.kind == "markdown"

    @property
    def is_graded(self) -> bool:
        """Whether the cell is graded, by checks or by a person."""
        return bool(self.grade_id and self.nbgrader.get("grade"))

    @property
    def is_solution(self) -> bool:
        """Whether the student writes the cell."""
        return bool(self.nbgrader.get("solution"))

    @property
    def is_locked(self) -> bool:
        """Whether the student must not change the cell."""
        return bool(self.nbgrader.get("locked")) or (self.is_graded and not self.is_solution)

    @property
    def is_check(self) -> bool:
        """Whether the points of the cell depend on the checks."""
        return self.kind == "code" and self.is_graded and not self.is_solution


C = TypeVar("C", bound=Cell)


@dataclass(eq=False)
class Place(Generic[C]):
    """A place in a submission that has the shape of the release.

    Attributes:
        cell: the cell that grading uses: the release's if it is locked or missing, otherwise the student's.
        submitted: the student's cell; ``None`` if the graded cell is missing.
        released: the corresponding cell of the release; ``None`` for cells that the student added or copied.
        is_experiment: whether it is an experiment, which grading does not run.
        candidates: of a graded cell, the student's cells that may count, in order: all copies of a locked cell, and the
            changed ones of any other.
    """

    cell: C
    submitted: C | None
    released: C | None
    is_experiment: bool
    candidates: Sequence[C] = ()

    @property
    def grade_id(self) -> str:
        """The grade id in the release, or empty."""
        return self.released.grade_id if self.released else ""

    @property
    def kind(self) -> str:
        """The kind of the cell; a graded cell has the release's, whatever the student made of it."""
        return self.released.kind if self.released and self.grade_id else self.cell.kind

    @property
    def is_locked(self) -> bool:
        """Whether the release locks the cell."""
        return self.released is not None and self.released.is_locked

    @property
    def is_check(self) -> bool:
        """Whether it is a check cell of the release."""
        return self.released is not None and self.released.is_check

    @property
    def is_by_content(self) -> bool:
        """Whether a graded cell was found although it had lost its metadata."""
        return self.submitted is not None and self.submitted.grade_id != self.grade_id


def match(submitted: Sequence[C], release: Sequence[C]) -> list[Place[C]]:
    """Bring a submission into the shape of the release: each graded cell is in it once."""
    graded = {cell.grade_id: cell for cell in release if cell.grade_id}
    cells = [cell for cell in submitted if not cell.is_note or cell.grade_id in graded]
    found = _copies(cells, graded, release)
    kept = _others(cells, release)
    for grade_id, copies in found.items():
        for cell in copies:
            del kept[cell]
        kept |= _one_of(copies, graded[grade_id])
    places = [kept[cell] for cell in cells if cell in kept]
    _put_back_missing(places, graded)
    return places


def _copies(cells: Sequence[C], graded: Mapping[str, C], release: Sequence[C]) -> dict[str, list[C]]:
    """Map each grade id to the cells that have it, or if there are none, to cells without metadata that match."""
    found = {grade_id: [cell for cell in cells if cell.grade_id == grade_id] for grade_id in graded}
    free = [cell for cell in cells if cell.grade_id not in graded]
    for grade_id, released in graded.items():
        found[grade_id] = (
            found[grade_id]
            # the graded cells of a release have their grade ids as cell ids
            or [cell for cell in free if cell.cell_id == grade_id]
            or _with_function(free, released)
            or [cell for cell in free if cell.text == released.text]
            or _with_questions(free, released)
            or _behind_heading(free, released, release)
        )
        free = [cell for cell in free if cell not in found[grade_id]]
    return found


def _with_function(cells: Sequence[C], released: C) -> list[C]:
    if released.is_locked or released.kind != "code":
        return []
    return [cell for cell in cells if cell.kind == "code" and not set(released.functions).isdisjoint(cell.functions)]


def _with_questions(cells: Sequence[C], released: C) -> list[C]:
    """Match the answers that contain more than half of the lines that occur once in the released text."""
    lines = [line.strip() for line in released.text.splitlines()]
    questions = {line for line in lines if line and lines.count(line) == 1}

    def is_answer(cell: C) -> bool:
        found = questions & {line.strip() for line in cell.source.splitlines()}
        return cell.kind == "markdown" and len(found) > len(questions) / 2

    return [cell for cell in cells if is_answer(cell)] if released.kind == "markdown" else []


def _behind_heading(cells: Sequence[C], released: C, release: Sequence[C]) -> list[C]:
    """Match the text that follows the heading under which the release has the cell."""
    before = release[: release.index(released)]
    headings = _HEADING.findall(before[-1].source) if before and before[-1].kind == "markdown" else []
    if released.kind != "markdown" or not headings:
        return []
    texts = {cell.text for cell in release}
    for cell, following in itertools.pairwise(cells):
        is_answer = following.kind == "markdown" and following.text not in texts
        if cell.kind == "markdown" and headings[0] in cell.source.splitlines() and is_answer:
            return [following]
    return []


def _one_of(copies: Sequence[C], released: C) -> dict[C, Place[C]]:
    """Choose from the copies of a graded cell: the last check cell, the first of other locked cells, the last solution.

    This way functions are checked where the student last checked them, and definitions in locked cells are available
    from their first occurrence on. The other changed solutions stay as the student's own cells, so that all of them run
    in the notebook's order. Unchanged copies are removed: a copy of the stub after the solution would otherwise
    replace it.

    Returns:
        The places of the copies that are kept.
    """
    if not copies:
        return {}
    if released.is_locked:
        chosen = copies[-1 if released.is_check else 0]
        return {chosen: Place(released, chosen, released, released.is_experiment, copies)}
    changed = [cell for cell in copies if cell.text != released.text]
    chosen = (changed or copies)[-1]
    places = {cell: Place(cell, cell, None, False) for cell in changed}
    return {**places, chosen: Place(chosen, chosen, released, released.is_experiment, changed)}


def _others(cells: Sequence[C], release: Sequence[C]) -> dict[C, Place[C]]:
    """Decide which of the cells that are not graded are experiments.

    The release decides for its own cells, the student for new ones. A change to an experiment of the release needs the
    tag to remain one, unless the notebook has lost all tags.
    """
    own = [cell for cell in release if cell.kind == "code" and not cell.grade_id]
    by_text = {cell.text: cell for cell in own}
    by_id = {cell.cell_id: cell for cell in own}
    tags_lost = not any(cell.is_experiment for cell in cells)
    places = {}
    for cell in cells:
        is_experiment = cell.is_experiment
        released = by_text.get(cell.text) or by_id.get(cell.cell_id)
        if released is not None:
            may_be = is_experiment or tags_lost or cell.text == released.text
            is_experiment = released.is_experiment and may_be
        places[cell] = Place(cell, cell, released, is_experiment)
    return places


def _put_back_missing(places: list[Place[C]], graded: Mapping[str, C]) -> None:
    """Insert each missing graded cell after the one that it follows in the release."""
    after = 0
    for released in graded.values():
        if not any(place.released is released for place in places):
            used = released
            if released.is_solution and released.kind == "code":
                # another cell may define the function, and an inserted stub would replace it
                used = dataclasses.replace(released, source="# This cell was missing from the submission.")
            places.insert(after, Place(used, None, released, released.is_experiment))
        after = next(i for i, place in enumerate(places, start=1) if place.released is released)


def joined(value: Any) -> str:
    """Return the text of a notebook's field, which may be a list of lines, in a form that UTF-8 can encode.

    Raises:
        ValueError: if the field is neither text nor a list of lines.
    """
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise ValueError("no text")
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CONTROL.sub("", whole)


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dictionary as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}
