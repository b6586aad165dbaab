"""Steps of ``nbgrader autograde`` for assignments that are no labs."""

from __future__ import annotations

from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution

from autograder.gradebook.regrading import check_cells
from autograder.notebooks.rendering import limited
from autograder.notebooks.sanitize import machine_paths
from autograder.stock.marks import note_stopped
from autograder.stock.notebook_run import Code
from autograder.stock.outputs import clean
from autograder.text import safe_line

_TRAITS = ("interrupt_on_timeout", "error_on_timeout", "iopub_timeout", "raise_on_iopub_timeout")
UNREADABLE = "nothing was run: there is no notebook that can be read, see the note at the top"


class RunNotebook(Execute):  # type: ignore[misc]
    """nbgrader's ``Execute``, with its settings, that lets notebooks run isolated where the exporter says so."""

    def preprocess(self, nb: NotebookNode, resources: Any = None, km: Any = None) -> tuple[NotebookNode, Any]:
        """Run a notebook, and write the outputs of its cells into it."""
        exporter, names = self.parent, resources["nbgrader"]
        student, name = names["student"], names["notebook"]
        if (student, name) in exporter.unreadable:
            return nb, resources
        ran = exporter.isolated_run(student, name, nb, self)
        if ran is None:
            done: tuple[NotebookNode, Any] = super().preprocess(nb, resources, km)
            return done
        for index, (outputs, count) in ran.cells.items():
            nb.cells[index].outputs = outputs
            nb.cells[index].execution_count = count if type(count) is int else None
        clean_cells(nb, exporter)  # before nbconvert validates them
        names["clean"] = True
        note_stopped(nb, ran.stopped)
        nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"}
        return nb, resources

    def cells_to_run(self, nb: NotebookNode) -> list[Code]:
        """Return the cells that nbclient runs, with its limits for each."""
        limits = {name: getattr(self, name) for name in _TRAITS}
        return [
            Code(index, cell.source, {"timeout": self._get_timeout(cell), **limits})
            for index, cell in enumerate(nb.cells)
            if cell.cell_type == "code"
            and cell.source.strip()
            and self.skip_cells_with_tag not in cell.metadata.get("tags", [])
        ]


class CleanOutputs(NbGraderPreprocessor):  # type: ignore[misc]
    """A preprocessor that cleans outputs, and gives a submission that cannot be read no points."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Clean the outputs of all cells."""
        exporter, names = self.parent, resources["nbgrader"]
        if not names.pop("clean", False):
            clean_cells(nb, exporter)
        if (names["student"], names["notebook"]) in exporter.unreadable:
            for cell in nb.cells:
                if cell.cell_type == "code" and is_grade(cell) and not is_solution(cell):
                    cell.outputs = [
                        nbformat.v4.new_output("error", ename="Grading", evalue=UNREADABLE, traceback=[UNREADABLE])
                    ]
        return nb, resources


class ScoreMissingCells(NbGraderPreprocessor):  # type: ignore[misc]
    """A preprocessor that gives 0 points for test cells that are not in the notebook.

    nbgrader counts them like that, but records no score, as if the submission was not graded.
    """

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Record the scores, and add a line for a person."""
        exporter, names = self.parent, resources["nbgrader"]
        there = {cell.metadata.nbgrader.grade_id for cell in nb.cells if is_grade(cell)}
        with Gradebook(names["db_url"]) as gradebook:
            found = gradebook.find_submission_notebook(names["notebook"], names["assignment"], names["student"])
            tests = check_cells(found.notebook)
            missing = [grade for grade in found.grades if grade.name in tests and grade.name not in there]
            for grade in missing:
                if grade.auto_score is None:
                    grade.auto_score = 0
            gradebook.db.commit()
            cells = ", ".join(sorted(grade.name for grade in missing))
        if missing:
            line = f"{names['notebook']}: no points for cells that are missing in the notebook: {safe_line(cells)}"
            exporter.run.attention.setdefault(names["student"], []).append(line)
        return nb, resources


def clean_cells(nb: NotebookNode, exporter: Any) -> None:
    """Clean the outputs of all cells."""
    hide = machine_paths(exporter.run.root)
    with limited():
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = clean(cell.outputs, exporter.limits["output_bytes"], hide)
