"""What an attack is: a submission as data, what it earns, and where the text of its cells comes from."""

from __future__ import annotations

import base64
import copy
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.helpers.variants import CELLS

FREEZE, BUILD, TRAIN, ACCURACY = (
    "check_freeze_layers",
    "check_build_transfer_model",
    "check_train_with_early_stopping",
    "check_accuracy",
)
FULL: dict[str, float] = {FREEZE: 20, BUILD: 20, TRAIN: 30, ACCURACY: 20}
ZERO: dict[str, float] = dict.fromkeys(FULL, 0)
# one honest function among stubs: what surrounds it costs it nothing, and no training makes the class slow
FREEZE_ONLY: dict[str, float] = {**ZERO, FREEZE: 20}
HONEST_FREEZE = {"freeze_layers": CELLS["freeze_layers"]}

FORGING, STEALING, SUBVERTING, CHEATING, RESOURCES, MALFORMED = GROUPS = (
    "forging a score",
    "stealing answers",
    "subverting pytest or torch",
    "deep-learning cheats",
    "resources",
    "malformed files",
)

NAMESPACES = ("pid", "mnt")

# An attack that would hurt the machine it runs on acts only inside namespaces of its own, and says so where it does not.
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
    """What an attacker is taken to know, and what the attacks aim at.

    Attributes:
        course: the course's folder.
        home: the grader's home, with a secret in it.
        tcp, udp: ports of 127.0.0.1 on which the test listens.
        marker: a text that every file, process and abstract socket of the attacks carries; at most 15 characters, as
            the kernel keeps no more of a process's name.
    """

    course: Path
    home: Path
    tcp: int
    udp: int
    marker: str

    def fill(self, text: str) -> str:
        """Puts these into the placeholders of a cell."""
        values = {
            "COURSE": str(self.course),
            "HOME": str(self.home),
            "TCP": str(self.tcp),
            "UDP": str(self.udp),
            "MARKER": self.marker,
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


Edit = Callable[[NotebookNode], NotebookNode | bytes | None]


@dataclass(frozen=True)
class Attack:
    """A submission that attacks, or is broken.

    Attributes:
        name: also the student's id.
        group: one of ``GROUPS``.
        what: a sentence for the table.
        earns: the automatic score of each check cell.
        cell: source of a cell behind the imports. Placeholders: see ``Surroundings.fill``.
        sources: of solution cells; all others keep the released stub.
        edit: changes the notebook at the end, or makes bytes of it, or nothing at all.
        says: a text that stands in a note, an output or a report of the graded notebook.
        never: a text that no cell prints or returns.
        inert: a text that does not stand in the page of feedback as it is, that is, unescaped.
        guarded: the cell acts only where it is shut off from the machine. Whatever looks or reaches beyond ``course`` and
            ``home`` has to be: other courses may be graded on the same machine.
        needs: a key that the lab's limits must have for the attack to end in time.
        stock: the cell for a course that has its checks inside the notebook, where that differs.
        stock_sources: solution cells for such a course.
        only: ``"here"`` or ``"stock"``, where an attack has no meaning in the other.
    """

    name: str
    group: str
    what: str
    earns: dict[str, float] = field(default_factory=lambda: ZERO)
    cell: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    edit: Edit | None = None
    says: str = ""
    never: str = ""
    inert: str = ""
    guarded: bool = False
    needs: str = ""
    stock: str | None = None
    stock_sources: dict[str, str] | None = None
    only: str = ""

    def submit(
        self, release: NotebookNode, surroundings: Surroundings, *, stock: bool = False
    ) -> NotebookNode | bytes | None:
        """What is handed in: the released notebook with the attack in it."""
        notebook = copy.deepcopy(release)
        cell, sources = self.cell, self.sources
        if stock:
            cell = cell if self.stock is None else self.stock
            sources = sources if self.stock_sources is None else self.stock_sources
        for released in notebook.cells:
            grade_id = (released.metadata.get("nbgrader") or {}).get("grade_id")
            if grade_id in sources:
                released.source = surroundings.fill(sources[grade_id]).strip()
        if cell:
            # a cell made for stock nbgrader, which isolates nothing, keeps to the course and the home by itself
            source = guard(cell) if self.guarded and not (stock and self.stock is not None) else cell
            after = 1 + next(i for i, c in enumerate(notebook.cells) if c.cell_type == "code")
            notebook.cells.insert(after, nbformat.v4.new_code_cell(surroundings.fill(source).strip()))
        return notebook if self.edit is None else self.edit(notebook)


def guard(source: str) -> str:
    """The source, to be run only in other namespaces than those of the process that asks now."""
    host = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES if os.path.exists("/proc/self/ns")]
    body = textwrap.indent(source.strip(), "    ")
    return _GUARDED.replace("@HOST@", repr(host)).replace("@NAMES@", repr(NAMESPACES)).replace("@BODY@", body)


def fetched(name: str) -> str:
    """A file beside this one as base64, for a notebook to carry."""
    return base64.b64encode((Path(__file__).parent / name).read_bytes()).decode()


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(c for c in notebook.cells if (c.metadata.get("nbgrader") or {}).get("grade_id") == grade_id)


def check_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that checks give points for."""
    return [cell_of(notebook, grade_id) for grade_id in FULL]
