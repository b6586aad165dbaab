"""Merging of stream output: a cell that prints hundreds of thousands of pieces would have as many outputs."""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode


class Pieces:
    """A collector for the pieces of the stream written to last; an output gets its text once that is complete."""

    def __init__(self) -> None:
        self._output: NotebookNode | None = None
        self._pieces: list[str] = []

    def take(self, content: dict[str, Any], outputs: list[NotebookNode]) -> bool:
        """Add a piece to the last of the outputs if it continues it; return whether it does."""
        last = outputs[-1] if outputs else None
        if last is None or last.output_type != "stream" or last.name != content["name"]:
            return False
        if last is not self._output:
            self.finish()
            self._output, self._pieces = last, [last.text]
        self._pieces.append(content["text"])
        return True

    def finish(self) -> None:
        """Set the text of the output."""
        if self._output is not None:
            self._output.text = "".join(self._pieces)
        self._output, self._pieces = None, []
