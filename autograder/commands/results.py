"""Commands that show and export the results of a class."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from autograder.commands.parameters import PATH, lab_argument, shown
from autograder.exports.formats import FORMATS
from autograder.sandbox.launcher import ISOLATIONS


@click.command()
@lab_argument
@click.option("--csv", type=PATH, metavar="FILE", help="Also write the table to FILE.")
def scores(lab: str, csv: Path | None) -> None:
    """Show students and scores from the gradebook."""
    from autograder.course import Course
    from autograder.results.scores import write_scores

    # what is piped is complete, for other programs
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text, fields = write_scores(Course.find(), lab, width)
    if csv is not None:
        csv.write_text(fields, encoding="utf-8", newline="")
    print(text)


@click.command()
@lab_argument
@click.argument("student")
def explain(lab: str, student: str) -> None:
    """Show everything about one graded submission."""
    from autograder.course import Course
    from autograder.results.explain import explain

    print(explain(Course.find(), lab, student))


@click.command()
@lab_argument
@click.argument("student", required=False, default="")
def attempts(lab: str, student: str) -> None:
    """List the submissions of each student that were graded.

    What a later one has replaced is in attempts/ of the course.
    """
    from autograder.course import Course
    from autograder.results.attempts import list_attempts

    print(list_attempts(Course.find(), lab, student))


@click.command()
@lab_argument
@click.option("--output", type=PATH, metavar="FOLDER", help="Output folder.  [default: reports/ of the course]")
@click.option("--anonymous", is_flag=True, help="Leave out student ids and texts from submissions.")
def report(lab: str, output: Path | None, anonymous: bool) -> None:
    """Write a class report.

    The report is an HTML page with statistics of the checks, and CSV tables.
    """
    from autograder.course import Course
    from autograder.report import write_report

    for file in write_report(Course.find(), lab, output, anonymous=anonymous):
        print(shown(file))


@click.command()
@lab_argument
@click.option("--output", type=PATH, metavar="FILE", help="Page to write.  [default: in reports/ of the course]")
@click.option(
    "--threshold", type=float, metavar="SHARE", help="List pairs that share at least this fraction of original code."
)
def similar(lab: str, output: Path | None, threshold: float | None) -> None:
    """List submissions with similar code, for review."""
    from autograder.course import Course
    from autograder.similarity.compare import THRESHOLD, similar

    text, path = similar(Course.find(), lab, output, THRESHOLD if threshold is None else threshold)
    print(f"{text}\n{shown(path)}")


@click.command()
@lab_argument
@click.option(
    "--format", "fmt", required=True, type=click.Choice(list(FORMATS)), help="Contents and platform of the export."
)
@click.option(
    "--output",
    type=PATH,
    metavar="FILE",
    help="File to write; a folder for pdf and gradescope-results.  [default: in reports/ or dist/ of the course]",
)
@click.option("--roster", type=PATH, metavar="CSV", help="File exported from Canvas or Moodle, to fill in.")
@click.option("--column", default="", show_default=False, help="Heading of the grade column, such as 'Lab 1 (4711)'.")
@click.option("--partial", is_flag=True, help="Also export submissions whose manual grading is not finished.")
@click.option(
    "--isolation",
    type=click.Choice(("where-possible", *ISOLATIONS)),
    default="where-possible",
    help="Isolation of the Gradescope autograder, as explained in its run_autograder.",
)
def export(
    lab: str, fmt: str, output: Path | None, roster: Path | None, column: str, partial: bool, isolation: str
) -> None:
    """Export to Canvas, Moodle, Gradescope, CSV or PDF.

    Exports grades, feedback pages or, for Gradescope, an autograder.
    """
    from autograder import exports
    from autograder.course import Course

    options = exports.Options(roster, column, partial, isolation)
    path, remarks = exports.export(Course.find(), lab, fmt, output, options)
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(shown(path))
