"""Clean the outputs of notebooks that test themselves, without changing the points that nbgrader reads from them.

nbgrader gives a test cell no points if it has an error or wrote to stderr, the number that it returned if it returned
one, and all points otherwise. So none of these may get lost, however much a cell puts out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.matching import joined
from autograder.notebooks.sanitize import LEFT_OUT, MAX_OUTPUTS, MOST_LOOKED_AT, clean_outputs, scrub

_LEAST_BYTES = 20_000  # for an output that counts, even if there is no room
_MOST_RESULT = 100_000  # characters


def clean(outputs: Iterable[Any], limit: int, hide: Mapping[str, str]) -> list[NotebookNode]:
    """Return the outputs of a cell without active content.

    Args:
        outputs: As in a notebook; entries that are not outputs are left out.
        limit: Bytes to keep in total; only an error, a result and something from stderr are kept beyond it.
        hide: Paths to replace; see :func:`autograder.notebooks.sanitize.scrub`.
    """
    kept: list[NotebookNode] = []
    counted: set[str] = set()
    left, full, looked_at = limit, False, 0
    for output in _merged(outputs):
        kind = _counts_as(output)
        looked_at += 1
        full = full or left <= 0 or len(kept) >= MAX_OUTPUTS or looked_at > MOST_LOOKED_AT
        if full and (not kind or kind in counted):
            continue
        found = clean_outputs([output], max(left, _LEAST_BYTES) if kind else left, hide)
        if kind == "execute_result":
            found = [_result(output, found, hide)]
        elif kind == "error" and not any(out.output_type == "error" for out in found):
            found = [*found, nbformat.v4.new_output("error", ename="Error", evalue="", traceback=["Error"])]
        counted |= {kind} - {""}
        kept += found
        left -= sum(len(str(out)) for out in found)
    if full and not (kept and kept[-1].get("text", "").endswith(f"{LEFT_OUT}\n")):
        kept.append(nbformat.v4.new_output("stream", name="stdout", text=f"{LEFT_OUT}\n"))
    return kept


def _merged(outputs: Iterable[Any]) -> Iterable[Any]:
    """Yield the outputs, consecutive pieces of a stream as one."""
    last: dict[str, Any] | None = None
    pieces: list[str] = []
    for output in outputs:
        if isinstance(output, Mapping) and output.get("output_type") == "stream":
            try:
                text = joined(output.get("text"))
            except ValueError:
                text = ""
            name = "stderr" if output.get("name") == "stderr" else "stdout"
            if last is None or last["name"] != name:
                if last is not None:
                    yield {**last, "text": "".join(pieces)}
                last, pieces = {"output_type": "stream", "name": name}, []
            pieces.append(text)
            continue
        if last is not None:
            yield {**last, "text": "".join(pieces)}
            last = None
        yield output
    if last is not None:
        yield {**last, "text": "".join(pieces)}


def _counts_as(output: Any) -> str:
    """Return what nbgrader grades a cell by in an output; empty if nothing."""
    kind = output.get("output_type") if isinstance(output, Mapping) else None
    if kind == "stream":
        return "stderr" if output["name"] == "stderr" else ""
    return kind if kind in ("error", "execute_result") else ""


def _result(output: Mapping[str, Any], cleaned: list[NotebookNode], hide: Mapping[str, str]) -> NotebookNode:
    """Return a result as a result: cleaned outputs have other types."""
    shown = cleaned[0] if cleaned and cleaned[0].output_type == "display_data" else {}
    data, metadata = dict(shown.get("data", {})), dict(shown.get("metadata", {}))
    raw = output.get("data")
    if isinstance(raw, Mapping) and "text/plain" in raw and "text/plain" not in data:
        try:
            data["text/plain"] = scrub(joined(raw["text/plain"]), hide)[:_MOST_RESULT]
        except ValueError:
            data["text/plain"] = LEFT_OUT
    number = output.get("execution_count")
    made: NotebookNode = nbformat.v4.new_output(
        "execute_result", data=data, metadata=metadata, execution_count=number if type(number) is int else None
    )
    return made
