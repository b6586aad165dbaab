"""The form of an attack: a submission as data, the points that it earns, and the source of its cells."""

from __future__ import annotations

import base64
import copy
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.notebooks.metadata import is_autograded
from tests.helpers import mini_lab

FREEZE, BUILD, TRAIN, ACCURACY = (
    "check_freeze_layers",
    "check_build_transfer_model",
    "check_train_with_early_stopping",
    "check_accuracy",
)
FULL: dict[str, float] = {FREEZE: 20, BUILD: 20, TRAIN: 30, ACCURACY: 20}
ZERO: dict[str, float] = dict.fromkeys(FULL, 0)
# the exercises of whatever lab is attacked, as names of solution cells and in sources
FIRST, SECOND, LAST = "@FIRST@", "@SECOND@", "@LAST@"


@dataclass(frozen=True, eq=False)
class Target:
    """A lab that is attacked.

    Attributes:
        assignment: its name.
        full: the points of its check cells.
        exercises: its first, second and last exercise; a lab of two has no second one.
        honest: a correct source of the first exercise, which is all that its check cell needs.
    """

    assignment: str
    full: dict[str, float]
    exercises: tuple[str, str, str]
    honest: str

    @property
    def first_only(self) -> dict[str, float]:
        """The points of a submission whose only function is a correct first exercise."""
        return {cell: points * (cell == f"check_{self.exercises[0]}") for cell, points in self.full.items()}


LAB_1 = Target(
    "transfer-learning",
    FULL,
    ("freeze_layers", "build_transfer_model", "train_with_early_stopping"),
    PLAIN["freeze_layers"],
)
MINI = Target(mini_lab.ASSIGNMENT, mini_lab.FULL, ("standardise", "", "rescale"), mini_lab.PLAIN["standardise"])

FORGING, STEALING, SUBVERTING, CHEATING, RESOURCES, MALFORMED = GROUPS = (
    "forging a score",
    "stealing answers",
    "subverting pytest or torch",
    "deep-learning cheats",
    "resources",
    "malformed files",
)

NAMESPACES = ("pid", "mnt")

# An attack that would harm its machine acts only inside separate namespaces; elsewhere it only says that it did not.
_GUARDED = """
import os

def shut_off():
    try:
        return all(os.readlink(f"/proc/self/ns/{name}") not in @HOST@ for name in @NAMES@)
    except OSError:
        return False

if shut_off():
@BODY@
else:
    print("REFUSED: this process is not shut off from the machine")
"""


@dataclass(frozen=True)
class Surroundings:
    """What an attacker is assumed to know, and the targets of the attacks.

    Attributes:
        course: the course's folder.
        home: the grader's home, with a secret in it.
        tcp, udp: ports of 127.0.0.1 on which the test listens.
        marker: a text that every file, process and abstract socket of the attacks carries; at most 15 characters, as
            the kernel keeps no more of a process's name.
        target: the lab.
    """

    course: Path
    home: Path
    tcp: int
    udp: int
    marker: str
    target: Target = LAB_1

    def fill(self, text: str) -> str:
        """Fill the placeholders of a cell with these values."""
        values = {
            "COURSE": str(self.course),
            "HOME": str(self.home),
            "TCP": str(self.tcp),
            "UDP": str(self.udp),
            "MARKER": self.marker,
            **dict(zip(("FIRST", "SECOND", "LAST"), self.target.exercises, strict=True)),
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


Edit = Callable[[NotebookNode], NotebookNode | bytes | None]


@dataclass(frozen=True)
class Attack:
    """A submission that attacks, or is broken.

    Attributes:
        name: name of the attack, also the student's id.
        group: one of ``GROUPS``.
        what: a sentence for the table.
        lab: the assignment that it is about; by default, it attacks any lab.
        honest: whether its first exercise is correct; no training slows down the class.
        keeps: whether the honest exercise keeps its points.
        earns: the automatic score of each check cell of lab 1, where that is more than the honest exercise is worth.
        cell: source of a cell after the imports. Placeholders: see ``Surroundings.fill``.
        sources: sources of solution cells, such as ``FIRST``; all others keep the released stub.
        edit: changes the notebook at the end, or returns bytes or nothing in its place.
        says: a text in a note, an output or a report of the graded notebook.
        never: a text that no cell prints or returns.
        inert: a text that the feedback page must not contain unescaped.
        guarded: whether the cell acts only where it is isolated from the machine. This is required of every attack that
            looks or reaches beyond ``course`` and ``home``: other courses may be graded on the same machine.
        stock: the cell for a course that has its checks inside the notebook, if it differs.
        stock_sources: solution cells for such a course.
        only: ``"here"`` or ``"stock"``, if an attack has no meaning in the other.
    """

    name: str
    group: str
    what: str
    lab: str = ""
    honest: bool = False
    keeps: bool = True
    earns: dict[str, float] = field(default_factory=dict)
    cell: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    edit: Edit | None = None
    says: str = ""
    never: str = ""
    inert: str = ""
    guarded: bool = False
    stock: str | None = None
    stock_sources: dict[str, str] | None = None
    only: str = ""

    def points(self, target: Target = LAB_1) -> dict[str, float]:
        """Return the automatic score of each check cell."""
        own = self.earns if target is LAB_1 else {}
        return dict.fromkeys(target.full, 0.0) | (target.first_only if self.honest and self.keeps else {}) | own

    def submit(
        self, release: NotebookNode, surroundings: Surroundings, *, stock: bool = False
    ) -> NotebookNode | bytes | None:
        """Return the submission: the released notebook with the attack in it."""
        notebook = copy.deepcopy(release)
        cell, sources = self.cell, self.sources
        if stock:
            cell = cell if self.stock is None else self.stock
            sources = sources if self.stock_sources is None else self.stock_sources
        if self.honest:
            sources = {FIRST: surroundings.target.honest, **sources}
        sources = {surroundings.fill(name): surroundings.fill(source).strip() for name, source in sources.items()}
        for released in notebook.cells:
            grade_id = (released.metadata.get("nbgrader") or {}).get("grade_id")
            if grade_id in sources:
                released.source = sources[grade_id]
        if cell:
            # a cell for stock nbgrader, which isolates nothing, touches only the course and the home anyway
            source = guard(cell) if self.guarded and not (stock and self.stock is not None) else cell
            after = 1 + next(i for i, c in enumerate(notebook.cells) if c.cell_type == "code")
            notebook.cells.insert(after, nbformat.v4.new_code_cell(surroundings.fill(source).strip()))
        return notebook if self.edit is None else self.edit(notebook)


def guard(source: str) -> str:
    """Wrap a source so that it runs only in other namespaces than those of the calling process."""
    host = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES if os.path.exists("/proc/self/ns")]
    body = textwrap.indent(source.strip(), "    ")
    return _GUARDED.replace("@HOST@", repr(host)).replace("@NAMES@", repr(NAMESPACES)).replace("@BODY@", body)


def fetched(name: str) -> str:
    """Return a file next to this one as base64, to be embedded in a notebook."""
    return base64.b64encode((Path(__file__).parent / name).read_bytes()).decode()


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == grade_id)


def check_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the check cells with points."""
    return [cell for cell in notebook.cells if is_autograded(cell)]


def about_lab_1(*arguments: Any, **more: Any) -> Attack:
    """Return an attack on what only lab 1 has: its probes, models, data or trainings."""
    return Attack(*arguments, lab=LAB_1.assignment, **more)
