"""Find the functions of a submission that a check calls.

If none of them differs from a correct submission's, the result of the check does not differ either: a check is a
function of its seed and of the answers that it receives, and an answer depends on the functions that are called for it.
"""

from __future__ import annotations

import ast
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from amllab.protocol.submission import InProcessSubmission


class Recorder:
    """Record which exercises' functions are called for the questions of each check.

    Args:
        submission: A submission that defines the functions.
        functions: Solution cell -> the function that it is about.

    Attributes:
        called: check -> names of solution cells.
    """

    def __init__(self, submission: InProcessSubmission, functions: Mapping[str, str]) -> None:
        self.called: dict[str, set[str]] = defaultdict(set)
        self._by_question: dict[str, set[str]] = defaultdict(set)
        self._question = ""
        self._submission = submission
        self._own = {name: submission.namespace[name] for name in functions.values()}
        submission.namespace.update({name: self._noting(cell, self._own[name]) for cell, name in functions.items()})
        self._ask = submission.ask
        submission.ask = self._asked  # type: ignore[method-assign]

    def stop(self) -> None:
        """Put the submission's own functions back."""
        self._submission.namespace.update(self._own)
        del self._submission.ask

    def _noting(self, cell: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self._by_question[self._question].add(cell)
            return function(*arguments, **named)

        return call

    def _asked(self, probe: str, /, **arguments: Any) -> Any:
        # the same question is asked once, and counts for every check that asks it
        self._question = f"{probe} {arguments!r}"
        try:
            return self._ask(probe, **arguments)
        finally:
            check = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
            self.called[check] |= self._by_question[self._question]


def prerequisites(files: Iterable[Path]) -> dict[str, set[str]]:
    """Return check -> checks that it needs, from their markers."""
    found: dict[str, set[str]] = {}
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                calls = [
                    d for d in node.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func).endswith("needs")
                ]
                found[node.name] = {ast.literal_eval(name) for call in calls for name in call.args}
    return found


def with_prerequisites(check: str, called: Mapping[str, set[str]], needs: Mapping[str, set[str]]) -> set[str]:
    """Return the names of the functions that are called for a check, and for those that it needs."""
    seen, waiting = set(), {check}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= needs.get(name, set()) - seen
    return {function for name in seen for function in called.get(name, ())}


def keeps_to_itself(namespace: Mapping[str, Any], base: Mapping[str, Any], changed: set[str]) -> bool:
    """Return whether the changed cells leave alone everything that the functions of the others see."""
    if any(not _same(namespace.get(name), value) for name, value in base.items() if name not in changed):
        return False
    used = {name for own, value in base.items() if own not in changed for name in _names(value)}
    return not used & (namespace.keys() - base.keys())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return one is other or one.__code__ == other.__code__
    return one is other


def _names(value: Any) -> set[str]:
    """Return the names that a function of a cell looks up among the notebook's variables."""
    found: set[str] = set()
    codes = [value.__code__] if isinstance(value, FunctionType) and value.__code__.co_filename.startswith("<") else []
    while codes:
        code: CodeType = codes.pop()
        found.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found
