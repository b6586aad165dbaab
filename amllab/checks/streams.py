"""What a cell prints piece by piece, put together: hundreds of thousands of pieces would be as many outputs."""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode


class Pieces:
    """Collects the pieces of the stream that was written to last; each output gets its text when that is complete."""

    def __init__(self) -> None:
        self._output: NotebookNode | None = None
        self._pieces: list[str] = []

    def take(self, content: dict[str, Any], outputs: list[NotebookNode]) -> bool:
        """Whether a piece goes on with the last of the outputs, and so is none of its own."""
        last = outputs[-1] if outputs else None
        if last is None or last.output_type != "stream" or last.name != content["name"]:
            return False
        if last is not self._output:
            self.finish()
            self._output, self._pieces = last, [last.text]
        self._pieces.append(content["text"])
        return True

    def finish(self) -> None:
        """Gives the output its text."""
        if self._output is not None:
            self._output.text = "".join(self._pieces)
        self._output, self._pieces = None, []
