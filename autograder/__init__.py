"""The grading package: everything behind ``nbgrader autograde`` that students never get.

``configure(c)`` in ``nbgrader_config.py`` puts it into nbgrader's pipeline. The command ``autograder`` grades single
notebooks and prints the class.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["configure"]

# jsonschema takes this package to check addresses in other alphabets (IRIs), where it is installed. Notebooks have none, and it
# takes a second to load: in every process that grades. Where it was loaded before, it stays.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def configure(c: Any) -> None:
    """Puts the grading pipeline into an nbgrader configuration.

    Classes are given by name, so that commands that do not grade need not load PyTorch.

    Args:
        c: the configuration object of ``nbgrader_config.py``.
    """
    from autograder.course import path_problem
    from autograder.logs import make_safe

    make_safe()
    if problem := path_problem(Path(c.CourseDirectory.get("root") or Path.cwd())):
        raise SystemExit(f"nbgrader: {problem}")  # nbgrader goes on without the configuration after any other error
    # nbgrader starts alembic by name: it lies beside the interpreter, also where no environment is active
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # nbgrader builds its rows in an order that newer versions of SQLAlchemy remark upon, many times a submission
    warnings.filterwarnings("ignore", message="Object of type <Submitted", category=Warning)
    # formgrader and feedback render what students wrote: HTML in it is cleaned on the way, in limited time
    c.HTMLExporter.sanitize_html = True
    c.HTMLExporter.filters = {
        "markdown2html": "autograder.notebooks.rendering.markdown2html",
        "clean_html": "autograder.notebooks.rendering.clean_html_of_page",
        "highlight_code": "autograder.notebooks.rendering.highlight_code",
        "ansi2html": "autograder.notebooks.rendering.ansi2html",
    }
    # downloads from learning platforms, and the exchange: what one student brings stops nobody else
    c.ZipCollectApp.extractor_plugin = "autograder.collect.plugins.SubmissionExtractor"
    c.ZipCollectApp.collector_plugin = "autograder.collect.plugins.SubmissionCollector"
    for command, plugin in (("collect", "Collect"), ("release_feedback", "ReleaseFeedback")):
        if command not in c.ExchangeFactory:  # a course may have another exchange
            c.ExchangeFactory[command] = f"autograder.nbgrader_plugins.exchange.{plugin}"
    # what these commands replace is not lost where they fail
    c.GenerateAssignment.exporter_class = "autograder.nbgrader_plugins.release_exporters.ReleaseExporter"
    c.GenerateSolution.exporter_class = "autograder.nbgrader_plugins.release_exporters.KeepingExporter"
    c.AssignLatePenalties.plugin_class = "autograder.nbgrader_plugins.late_penalty.LatePenalty"
    c.Autograde.exporter_class = "autograder.nbgrader_plugins.exporter.SubmissionExporter"
    c.Autograde.sanitize_preprocessors = [
        "nbgrader.preprocessors.DeduplicateIds",
        "nbgrader.preprocessors.OverwriteKernelspec",
        "nbgrader.preprocessors.OverwriteCells",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
    c.Autograde.autograde_preprocessors = [
        "autograder.nbgrader_plugins.preprocessors.GradeChecks",
        "nbgrader.preprocessors.LimitOutput",
        "autograder.nbgrader_plugins.preprocessors.SaveScores",
        "nbgrader.preprocessors.AssignLatePenalties",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
