"""The grading package: everything that ``nbgrader autograde`` uses and students never get.

``configure(c)`` in ``nbgrader_config.py`` adds it to nbgrader's pipeline. The command ``autograder`` grades single
notebooks and shows the results of the class. Programs grade notebooks
with :class:`autograder.grading.session.GradingSession`.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["configure"]

# jsonschema uses this package, if installed, to validate internationalised addresses (IRIs). Notebooks contain none,
# and loading it takes a second in every grading process. If something else has loaded it already, it stays.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def configure(c: Any) -> None:
    """Add the grading pipeline to an nbgrader configuration.

    Classes are given by name, so that commands that do not grade need not load PyTorch.

    Args:
        c: The configuration object of ``nbgrader_config.py``.

    Raises:
        SystemExit: nbgrader cannot work in the course's folder.
    """
    import nbgrader
    from traitlets.config import Application

    from amllab.lab import course_labs, use_course
    from autograder.course import path_problem
    from autograder.course_version import version_note
    from autograder.logs import make_safe

    make_safe()
    root = Path(c.CourseDirectory.get("root") or Path.cwd())
    if problem := path_problem(root):
        raise SystemExit(f"nbgrader: {problem}")  # after any other error, nbgrader continues without the configuration
    use_course(root)
    # the command "autograder" says it itself
    if Application.initialized() and (note := version_note(course_labs())):
        logging.getLogger(__name__).warning(note)
    # nbgrader starts alembic by name; it is next to the interpreter, even if no environment is active
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # nbgrader builds its rows in an order that newer versions of SQLAlchemy warn about, many times per submission
    warnings.filterwarnings("ignore", message="Object of type <Submitted", category=Warning)
    # formgrader and feedback render text by students: sanitize its HTML, in limited time
    c.HTMLExporter.sanitize_html = True
    c.HTMLExporter.filters = {
        "markdown2html": "autograder.notebooks.rendering.markdown2html",
        "clean_html": "autograder.notebooks.rendering.clean_html_of_page",
        "highlight_code": "autograder.notebooks.rendering.highlight_code",
        "ansi2html": "autograder.notebooks.rendering.ansi2html",
        "tex_to_mathml": "autograder.notebooks.rendering.tex_to_mathml",
        "code_spans": "amllab.templates.code",
        "demoted": "autograder.pages.summary.demoted",
        "feedback_summary": "autograder.pages.summary.summarise",
        "has_report": "autograder.pages.summary.has_report",
        "points": "autograder.pages.summary.points",
    }
    # the pages of this package, which extend or replace nbgrader's own templates of the same names
    own = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"
    c.HTMLExporter.extra_template_basedirs = [str(Path(__file__).parent / "pages" / "templates"), str(own)]
    c.HTMLExporter.extra_template_paths = [str(own)]
    c.HTMLExporter.preprocessors = [
        "autograder.pages.grader_notes.GraderNotes",
        "autograder.nbgrader_plugins.end_round.EndRound",
    ]
    # downloads from learning platforms, and the exchange: one student's files must not block the other students
    c.ZipCollectApp.extractor_plugin = "autograder.collect.plugins.SubmissionExtractor"
    c.ZipCollectApp.collector_plugin = "autograder.collect.plugins.SubmissionCollector"
    for command, plugin in (("collect", "Collect"), ("release_feedback", "ReleaseFeedback")):
        if command not in c.ExchangeFactory:  # a course may have configured another exchange
            c.ExchangeFactory[command] = f"autograder.nbgrader_plugins.exchange.{plugin}"
    # if these commands fail, restore what they were about to replace
    c.GenerateAssignment.exporter_class = "autograder.nbgrader_plugins.release_exporters.ReleaseExporter"
    c.GenerateSolution.exporter_class = "autograder.nbgrader_plugins.release_exporters.KeepingExporter"
    if "plugin_class" in c.AssignLatePenalties:
        c.LatePenalty.otherwise = c.AssignLatePenalties.plugin_class
    c.AssignLatePenalties.plugin_class = "autograder.nbgrader_plugins.late_penalty.LatePenalty"
    c.Autograde.exporter_class = "autograder.nbgrader_plugins.assignment_exporter.AssignmentExporter"
    for steps in ("sanitize_preprocessors", "autograde_preprocessors"):
        if steps in c.Autograde:  # assignments that are no labs keep the steps that a course has configured
            c.StockExporter[steps] = c.Autograde[steps]
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
        "autograder.gradebook.attempts.KeepAttempt",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
