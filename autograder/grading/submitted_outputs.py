"""Show submitted outputs where running the cell again cannot reproduce them.

Grading does not run experiments again, so a cell that plots their results ends in an error. A person who reads the
reflection needs the plot that it discusses, so the submitted one is shown and labelled as such. It is for people only
and does not affect points.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import nbformat
from nbformat import NotebookNode

_PICTURES = ("image/png", "image/jpeg", "text/html")
_MOST_REASON = 200  # characters


def with_submitted(made: Sequence[NotebookNode], submitted: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs of a cell for a person to read.

    Args:
        made: Outputs from running the cell again.
        submitted: Outputs of the submitted notebook, already cleaned.

    Returns:
        The new outputs. If they contain an error, a note and the submitted ones replace them; if they show less, a note
        and the submitted ones follow them.
    """
    shown = [output for output in submitted if output.output_type != "error"]
    errors = [output for output in made if output.output_type == "error"]
    if errors and shown:
        reason = " ".join(f"{errors[0].ename}: {errors[0].evalue}".split()).removeprefix("Grading: ")[:_MOST_REASON]
        return [_note(f"The grader ran this cell again, without the experiments: {reason}."), *shown]
    if shown and (not made or _pictures(made) < _pictures(shown)):
        return [*made, _note("The grader ran this cell again, without the experiments, and it shows less."), *shown]
    return list(made)


def _pictures(outputs: Sequence[NotebookNode]) -> int:
    return sum(any(kind in output.get("data", {}) for kind in _PICTURES) for output in outputs)


def _note(reason: str) -> NotebookNode:
    text = f"{reason} The outputs below are those that were submitted; they earn no points."
    page = f'<div style="border-left:4px solid #777777;padding:.2em .8em"><i>{escape(text)}</i></div>'
    data: dict[str, Any] = {"text/plain": text, "text/html": page}
    note: NotebookNode = nbformat.v4.new_output("display_data", data=data)
    return note
