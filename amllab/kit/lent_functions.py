"""Functions that a check lends to a submission, so that a mistake in one exercise costs nothing in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amllab.protocol.submission import Functions


@contextmanager
def lent_function(functions: Functions, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace a function of the notebook within the context, for a question about another one that calls it.

    The replacement works only until the question ends, so that a stored reference to it, in whatever form, is of no use
    in the exercise of that name. It should therefore be no solution of that exercise either, but another function of
    the same arguments, whose values the check recognises: students can read it.

    Args:
        functions: Functions of the notebook.
        name: Name of the function to replace; the notebook need not define it.
        replacement: What the notebook calls instead.
    """
    lent = [replacement]

    def call(*arguments: Any, **named: Any) -> Any:
        if not lent:
            raise RuntimeError(f"a check lent this {name} for one question, which is over")
        return lent[0](*arguments, **named)

    missing = object()
    own = functions.namespace.get(name, missing)
    functions.namespace[name] = call
    try:
        yield
    finally:
        lent.clear()
        if own is missing:
            functions.namespace.pop(name, None)
        else:
            functions.namespace[name] = own
