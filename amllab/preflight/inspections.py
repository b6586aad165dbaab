"""Inspection of a notebook without trusting it: find what is missing, changed, too large or too slow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from amllab.matching import MAX_BYTES, MAX_CELLS, MAX_OUTPUT_BYTES, MAX_SOURCE_BYTES
from amllab.preflight.document import Cell, Document, is_stub
from amllab.preflight.kernel_submission import Run

PLACEHOLDER = "YOUR ANSWER HERE"
PREDICTION = "prediction"  # tag of a cell that asks for a prediction before an experiment
_SLOW = 0.25  # share of a limit above which the time of a cell is reported


@dataclass(frozen=True)
class Finding:
    """Something that a student should know before submitting.

    Attributes:
        level: ``"fix"`` if it costs points or may do so, ``"note"`` if it is only for information.
        text: the problem and what to do; code is in backticks.
    """

    level: Literal["fix", "note"]
    text: str


def inspect_cells(document: Document) -> list[Finding]:
    """Inspect a notebook without running anything."""
    return [
        *_sizes(document),
        *_name(document),
        *_locked(document),
        *_answers(document),
        *_experiments(document),
        *_predictions(document),
    ]


def _sizes(document: Document) -> list[Finding]:
    code = sum(len(cell.source.encode()) for cell in document.cells if cell.kind == "code")
    outputs = sum(cell.output_bytes for cell in document.cells)
    found = []
    if document.size > MAX_BYTES:
        text = f"The file is {_mb(document.size)} large; more than {_mb(MAX_BYTES)} cannot be graded. Remove large outputs and pictures."
        found.append(Finding("fix", text))
    elif outputs > MAX_OUTPUT_BYTES:
        text = f"The outputs are {_mb(outputs)} large; grading stores at most {_mb(MAX_OUTPUT_BYTES)} of them, those of experiments first."
        found.append(Finding("note", text))
    if code > MAX_SOURCE_BYTES:
        text = f"The code cells are {code / 1000:,.0f} kB large; more than {MAX_SOURCE_BYTES / 1000:.0f} kB cannot be graded. Do not put data into code cells."
        found.append(Finding("fix", text))
    if len(document.cells) > MAX_CELLS:
        text = f"There are {len(document.cells):,} cells; more than {MAX_CELLS:,} cannot be graded."
        found.append(Finding("fix", text))
    return found


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _name(document: Document) -> list[Finding]:
    wanted = f"{document.lab.notebook}.ipynb"
    if document.path.name == wanted:
        return []
    return [Finding("note", f"The file is named `{document.path.name}`: submit it as `{wanted}`.")]


def _locked(document: Document) -> list[Finding]:
    found = []
    for released in (cell for cell in document.release if cell.is_locked):
        cell = document.graded[released.grade_id].submitted
        if cell is None:
            text = f"The locked cell `{released.grade_id}` is missing. Grading restores it; copy it from the original notebook."
            found.append(Finding("fix", text))
        elif cell.text != released.text:
            text = f"The locked cell `{released.grade_id}` was changed. Grading runs the original: put your code into a new cell."
            found.append(Finding("fix", text))
    for grade_id, place in document.graded.items():
        if len(place.candidates) > 1:
            which = "first" if place.submitted is place.candidates[0] else "last"
            text = f"There are {len(place.candidates)} cells `{grade_id}`: the {which} one counts. Keep only one."
            found.append(Finding("note", text))
    return found


def _answers(document: Document) -> list[Finding]:
    """Report the cells that a person grades and that hold no answer, or none to some of their questions."""
    found = []
    for released in (cell for cell in document.release if cell.is_graded and cell.is_solution):
        cell = document.graded[released.grade_id].submitted
        worth = f"{released.points:g} points"
        if cell is None:
            text = f"The cell of the {released.grade_id} is missing ({worth}). Copy it from the original notebook."
            found.append(Finding("fix", text))
        elif empty := unanswered(cell.source, released.source):
            text = f"The {released.grade_id} has no answer yet to {', '.join(f'“{question}”' for question in empty)} ({worth} in all)."
            found.append(Finding("fix", text))
        elif not own_lines(cell.source, released.source):
            found.append(Finding("fix", f"The {released.grade_id} has no answer yet ({worth})."))
    return found


def own_lines(source: str, released: str) -> list[str]:
    """Return the lines of an answer that are neither in the release nor merely the placeholder."""
    given = {line.strip() for line in released.splitlines()}
    lines = (line.strip() for line in source.splitlines())
    return [line for line in lines if line not in given and line.replace(PLACEHOLDER, "").strip("*_#>` ")]


def unanswered(source: str, released: str) -> list[str]:
    """Return the questions of a released text that have nothing or only the placeholder below them.

    A question is the text above a placeholder, up to the placeholder before. There may be none.
    """
    parts = [[line.strip() for line in part.splitlines() if line.strip()] for part in released.split(PLACEHOLDER)]
    questions = {part[-1]: " ".join(part) for part in parts[:-1] if part}  # by the line above the answer
    answered, current = set(), ""
    for line in map(str.strip, source.splitlines()):
        if line in questions:
            current = line
        elif own_lines(line, released):
            answered.add(current)
    if "" in answered:  # the questions were overwritten: an answer in another form also counts
        return []
    return [text.strip("*# ").rstrip(".") for last, text in questions.items() if last not in answered]


def _experiments(document: Document) -> list[Finding]:
    found = []
    seen = {
        place.released.cell_id: place.submitted
        for place in document.places
        if place.submitted and place.released and place.released.is_experiment
    }
    wanted = [cell for cell in document.release if cell.kind == "code" and cell.is_experiment]
    for what, cells in (
        ("were not run, or their outputs were removed", [c for c in seen.values() if not c.was_run]),
        ("are missing", [cell for cell in wanted if cell.cell_id not in seen]),
    ):
        which = f"All {len(wanted)} experiments {what}" if len(cells) == len(wanted) else ""
        which = which or f"{len(cells)} of {len(wanted)} experiments {what}: {_some(cells)}"
        if cells:
            found.append(Finding("fix", f"{which}. A person needs their outputs to grade the reflection."))
    return found


def _predictions(document: Document) -> list[Finding]:
    """Report predictions that were not written down; they are not graded."""
    asked = [cell for cell in document.release if PREDICTION in cell.tags]
    empty = [
        cell
        for cell in asked
        # ids are lost in old formats
        if not any(
            own_lines(given.source, cell.source)
            for given in document.cells
            if given.cell_id == cell.cell_id or given.text.startswith(cell.text)
        )
    ]
    if not empty:
        return []
    if len(asked) == 1:
        which = "The prediction is not"
    elif len(empty) == len(asked):
        which = f"None of the {len(asked)} predictions is"
    else:
        which = f"{len(empty)} of {len(asked)} predictions {'is' if len(empty) == 1 else 'are'} not"
    headings = ", ".join(dict.fromkeys(f"“{cell.heading}”" for cell in empty))
    text = f"{which} written down: under {headings}. They are not graded; a prediction teaches most before the result is known."
    return [Finding("note", text)]


def _some(cells: Sequence[Cell]) -> str:
    return "; ".join(map(str, cells[:3])) + (f"; and {len(cells) - 3} more" if len(cells) > 3 else "")


def inspect_imports(lacking: Collection[str]) -> list[Finding]:
    """Report imports of packages that the grading machine does not have."""
    return [
        Finding(
            "fix",
            f"The notebook imports `{name}`, which is not installed for grading: the import fails there, and so does its cell. Do not use this package.",
        )
        for name in sorted(lacking)
    ]


def inspect_functions(
    document: Document, defined: Collection[str], causes: Mapping[str, str] | None = None
) -> list[Finding]:
    """Report functions that do not exist after all cells have run, or that are still stubs.

    Args:
        document: the notebook.
        defined: names of the functions that exist.
        causes: function name -> why it does not exist, as far as this is known.
    """
    found = []
    for name, grade_id in document.functions().items():
        place = document.graded[grade_id]
        others = [other for other in place.cell.functions if other not in document.functions()]
        if name not in defined:
            where = "" if place.submitted else ", and its cell is missing"
            because = (causes or {}).get(name, "")
            where += f", {because}" if because else ""
            hint = f" Its cell defines `{others[0]}`: the name must be `{name}`." if others else ""
            text = f"There is no function `{name}` after the notebook has run{where}.{hint}"
            found.append(Finding("fix", text))
        elif is_stub(place.cell.source, name):
            found.append(Finding("fix", f"`{name}` still raises NotImplementedError: it has not been written yet."))
    return found


def inspect_runs(document: Document, runs: Sequence[Run], limits: dict[str, Any]) -> list[Finding]:
    """Report cells that failed, hung or took long in the fresh process."""
    found = []
    for run in runs:
        if run.state == "timeout":
            text = f"The cell {run.cell} was stopped after {limits['cell_seconds']:g} s, as it would be in grading. Put long work into a cell with the tag `experiment`."
            found.append(Finding("fix", text))
        elif run.state == "died":
            found.append(Finding("fix", f"The cell {run.cell} ended the Python process: grading skips it."))
        elif run.state != "ok":
            found.append(
                Finding("fix", f"The cell {run.cell} was not run: too many cells hung or ended the Python process.")
            )
        elif run.error:
            text = f"The cell {run.cell} ended with an error in a fresh process: {run.error}"
            found.append(Finding("fix", text))
        elif run.seconds > _SLOW * limits["cell_seconds"]:
            text = f"The cell {run.cell} took {run.seconds:.0f} s; grading stops a cell after {limits['cell_seconds']:g} s."
            found.append(Finding("note", text))
    return found
