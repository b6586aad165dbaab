"""The class report for instructors: ``autograder report LAB`` writes one HTML page, and its numbers as CSV.

The gradebook and the autograded notebooks, as :mod:`autograder.results` reads them, become statistics (``analysis``,
``item_statistics``), and the statistics become tables, plots and a page (``csv_tables``, ``plots``, ``html_page``).
Nothing here depends on a particular lab: the gradebook and the notebooks name the cells and checks.
"""

from __future__ import annotations

from pathlib import Path

from autograder.course import Course

__all__ = ["write_report"]


def write_report(course: Course, assignment: str, folder: Path | None = None, *, anonymous: bool = False) -> list[Path]:
    """Write the page and the tables of an assignment.

    Args:
        course: the course with the gradebook.
        assignment: such as ``"transfer-learning"``.
        folder: the output folder; the course's ``reports/`` by default.
        anonymous: whether to leave out student ids and texts that come from submissions.

    Returns:
        The files: page, table of checks, table of students.

    Raises:
        FileNotFoundError: if there is no gradebook.
        LookupError: if the gradebook does not have the assignment, or nothing of it is graded.
        ValueError: if the gradebook cannot be read.
    """
    # load matplotlib and the gradebook for this command only
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
