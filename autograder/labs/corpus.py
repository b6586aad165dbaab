"""The corpus of a lab: correct and wrong solutions, which show what its checks are worth.

A lab keeps it next to its hidden checks, in ``autograder/checks/<lab>/corpus.py`` or in a package of this name, which
defines:

* ``WRONG``: solutions with one mistake each;
* ``CORRECT``: solutions in other styles than the reference's, if there are any;
* ``PLAIN``: solution cell -> source of plain correct functions, from which wrong solutions were made; if it is missing,
  those of the reference;
* ``DEMO``: names of the solutions that ``make demo`` submits; if it is missing, some of both kinds.

Mutants that no check can tell from a correct solution are listed with a reason in ``corpus/equivalent.toml`` or, next
to a ``corpus.py``, in ``equivalent.toml``. The lab's tests, ``autograder audit`` and ``autograder study`` read all of
this.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from pydantic import BaseModel, TypeAdapter, ValidationError

from amllab.checks.results import CheckResult
from amllab.lab import Lab
from autograder.labs.locations import hidden_checks


@dataclass(frozen=True)
class Solution:
    """A solution that a student could submit.

    Attributes:
        name: Short and unique in the corpus.
        sources: Solution cell -> source; all other cells have the plain correct functions.
        text: The mistake as a clause, such as ``"divides by zero"``; of a correct solution, why it is correct.
        cell: The solution cell with the mistake; empty for a correct solution.
        fails: Names of all checks that do not pass, including those skipped because they need a failed one; ``None``
            if they are not listed.
        loses: Check cells that lose points, where that has been specified.
        cost: The fewest and the most points that the mistake should cost, specified before it was measured.
        public: Whether it was written in the style of public code. Reports learn no mistakes from these.
        recorded: Names of the checks that do not pass, for the lab's tests alone. The audit grades solutions with
            ``fails`` in isolation, which would take hours for all of a large corpus.
    """

    name: str
    sources: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    cell: str = ""
    fails: frozenset[str] | None = None
    loses: frozenset[str] = frozenset()
    cost: tuple[float, float] | None = None
    public: bool = False
    recorded: frozenset[str] | None = None


@dataclass(frozen=True)
class Corpus:
    """The solutions of a lab; see the module.

    Attributes:
        plain: Solution cell -> source of plain correct functions; empty if they are those of the reference.
        correct: Correct solutions.
        wrong: Wrong solutions.
        equivalent: Reasons why mutants are equivalent, by name of the mistake, or by what was changed: name of the
            correct functions, cell, old line and new line.
        demo: Solutions that a demonstration shows.
    """

    plain: Mapping[str, str] = field(default_factory=dict)
    correct: Sequence[Solution] = ()
    wrong: Sequence[Solution] = ()
    equivalent: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    demo: Sequence[Solution] = ()

    def __bool__(self) -> bool:
        """Return whether there is any solution."""
        return bool(self.correct or self.wrong)

    def put_into(self, notebook: NotebookNode, solution: Solution) -> NotebookNode:
        """Return a copy of the notebook with the functions of a solution, and the plain ones in its other cells.

        Raises:
            LookupError: The notebook lacks a cell that the solution names.
        """
        notebook = copy.deepcopy(notebook)
        sources = {**self.plain, **solution.sources}
        cells = {(cell.metadata.get("nbgrader") or {}).get("grade_id"): cell for cell in notebook.cells}
        if lacking := [name for name in sources if name not in cells]:
            raise LookupError(f"{solution.name!r} is for the cell {lacking[0]!r}, which the notebook does not have")
        for name, source in sources.items():
            cells[name].source = source.strip("\n")
        return notebook


class _Mistake(BaseModel, extra="forbid"):
    """A wrong solution of the corpus that is no mistake after all."""

    mistake: str
    reason: str


class _Mutant(BaseModel, extra="forbid"):
    """Changes of one line that an operator makes, in these functions."""

    of: list[str]
    cell: str
    old: str
    new: list[str]
    reason: str


_ENTRIES: TypeAdapter[list[_Mistake | _Mutant]] = TypeAdapter(list[_Mistake | _Mutant])


def replaced(source: str, *texts: str) -> str:
    """Return a source with texts replaced: old, new, old, new, ...

    Raises:
        ValueError: An old text is not in the source.
    """
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        if old not in source:
            raise ValueError(f"{old!r} is not in the source")
        source = source.replace(old, new)
    return source


def not_passed(results: Iterable[CheckResult]) -> frozenset[str]:
    """Return the names of the checks that did not pass."""
    return frozenset(result.name for result in results if result.outcome != "passed")


def corpus_of(lab: Lab) -> Corpus:
    """Return the corpus of a lab; an empty one if it has none.

    Raises:
        ValueError: Two solutions have the same name, or the list of equivalent mutants is damaged.
    """
    name = f"autograder.checks.{lab.name}.corpus"
    if importlib.util.find_spec(name) is None:
        return Corpus()
    module = importlib.import_module(name)
    correct, wrong = list(getattr(module, "CORRECT", [])), list(getattr(module, "WRONG", []))
    names = [solution.name for solution in (*correct, *wrong)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{lab.name}: several solutions of the corpus are called {', '.join(twice)}")
    equivalent = _equivalent(hidden_checks(lab.name))
    by_name = {solution.name: solution for solution in (*correct, *wrong)}
    shown = getattr(module, "DEMO", [s.name for s in (*correct[:2], *wrong[:4])])
    if unknown := [name for name in shown if name not in by_name]:
        raise ValueError(f"{lab.name}: DEMO names {unknown[0]!r}, which the corpus does not have")
    plain = dict(getattr(module, "PLAIN", {}))
    return Corpus(plain, correct, wrong, equivalent, [by_name[name] for name in shown])


def _equivalent(folder: Path) -> dict[tuple[str, ...], str]:
    """Return :attr:`Corpus.equivalent`."""
    file = next((f for f in (folder / "corpus" / "equivalent.toml", folder / "equivalent.toml") if f.is_file()), None)
    if file is None:
        return {}
    found: dict[tuple[str, ...], str] = {}
    try:
        listed = _ENTRIES.validate_python(tomllib.loads(file.read_text(encoding="utf-8")).get("equivalent", []))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ValueError(f"{file.relative_to(folder.parent)}: {error}") from None
    for entry in listed:
        if isinstance(entry, _Mistake):
            found[(entry.mistake,)] = entry.reason
            continue
        for of, new in itertools.product(entry.of, entry.new):
            found[of, entry.cell, entry.old, new] = entry.reason
    return found
