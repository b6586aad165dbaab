"""The class view for an instructor: ``autograder report LAB`` writes one HTML page, and its numbers as CSV.

Gradebook and autograded notebooks (``collect``, ``stored``) become statistics (``analysis``, ``measures``), and these
tables, plots and a page (``tables``, ``plots``, ``page``). Nothing here knows a lab: cells and checks are what the
gradebook and the notebooks name.
"""

from __future__ import annotations

from pathlib import Path

from autograder.course import Course

__all__ = ["write_report"]


def write_report(course: Course, assignment: str, folder: Path | None = None, *, anonymous: bool = False) -> list[Path]:
    """Writes the page and the tables of an assignment.

    Args:
        course: whose gradebook is read.
        assignment: such as ``"transfer-learning"``.
        folder: where to; the course's ``reports/`` by default.
        anonymous: without student ids, and without texts that come from submissions.

    Returns:
        The files: page, table of checks, table of students.

    Raises:
        FileNotFoundError, LookupError, ValueError: there is nothing to report on; see :func:`autograder.results.class_results.collect`.
    """
    # matplotlib and the gradebook are loaded for this command only
    from autograder.report.analysis import analyse
    from autograder.report.csv_tables import checks_table, students_table
    from autograder.report.html_page import page
    from autograder.results.class_results import collect

    analysis = analyse(collect(course, assignment))
    folder = folder or course.root / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{assignment}-anonymous" if anonymous else assignment
    files = [folder / f"{name}.html", folder / f"{name}-checks.csv", folder / f"{name}-students.csv"]
    texts = [page(analysis, files, anonymous), checks_table(analysis), students_table(analysis, anonymous)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8", newline="")
    return files
