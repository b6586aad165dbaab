"""The command ``autograder``: build labs, grade notebooks without the gradebook, and show and export results."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autograder.command import INTERRUPTED, ended, require_files

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from autograder.grading.result import GradingResult

# PyTorch, nbgrader and SQLAlchemy are imported by the commands that need them: `--help` and completion start without
_ISOLATIONS = ("namespaces", "none")
_FORMATS = (
    "csv",
    "canvas",
    "moodle",
    "canvas-feedback",
    "moodle-feedback",
    "gradescope-results",
    "gradescope-autograder",
)
_PATH = click.Path(path_type=Path)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    The status is 0 on success, 1 if the machine does not isolate (doctor), a submission was not graded (regrade) or the
    lab must not be released (audit), 2 if arguments, files, course or machine are unusable, 130 if interrupted, and 141
    if nobody reads the output.
    """
    try:
        status: int = cli.main(argv, "autograder", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return status


class _Commands(click.Group):
    """A group whose commands end as :func:`autograder.command.ended` says."""

    def invoke(self, ctx: click.Context) -> int:
        run = super().invoke
        return ended(lambda: run(ctx) or 0, traceback=ctx.params["verbose"])


class _Lab(click.ParamType):
    """The assignment of a lab; completed from the labs of the course."""

    name = "lab"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from amllab.lab import all_labs

        names = [name.replace("_", "-") for name in all_labs()]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_lab = click.argument("lab", type=_Lab())


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}, no_args_is_help=True
)
@click.version_option(package_name="amllab", prog_name="autograder")
@click.option("-v", "--verbose", is_flag=True, help="Show log messages, and the traceback of an error.")
def cli(verbose: bool) -> None:
    """Build, check and grade the Advanced Machine Learning labs.

    LAB is the name of an assignment, such as transfer-learning. Commands that read the course run in its folder, or in
    a folder below it.
    """
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


@cli.command()
@_lab
@click.option("--execute", is_flag=True, help="Run the solution, including its experiments, and store the outputs.")
@click.option(
    "--change-cells",
    is_flag=True,
    help="Build even if graded cells were added, renamed or removed since the first submission; list what changes.",
)
@click.option("--data", metavar="IMAGES", help="Images for --execute: a folder, cifar100 or drawn (synthetic images).")
def build(lab: str, **options: Any) -> None:
    """Build a lab from its master text.

    Writes its notebook, its release and its solution.
    """
    from autograder.authoring.build import build
    from autograder.course import Course

    build(Course.find(), lab, **options)


@cli.command()
@click.argument("name")
@click.option("--root", type=_PATH, metavar="FOLDER", help="Checkout of the course.  [default: this one]")
def new_lab(name: str, root: Path | None) -> None:
    """Create a small lab to start from.

    It builds, grades and passes its tests.

    NAME is the name of the new assignment, such as knowledge-distillation.
    """
    from autograder.authoring.new_lab import new_lab
    from autograder.course import Course

    course = Course.find(root)
    for file in new_lab(course, name):
        print(os.path.relpath(file, course.root))
    if not Path(__file__).is_relative_to(course.root):
        print(f"this Python uses other copies of the packages: run 'pip install -e {course.root}'")
    print(f"next: run 'autograder build {name.replace('_', '-')}', then continue with docs/new-lab.md")


@cli.command()
@_lab
def bundle(lab: str) -> None:
    """Write the zip for students.

    It has the notebook, the library and a page to start with.
    """
    from autograder.authoring.bundle import bundle
    from autograder.course import Course

    print(os.path.relpath(bundle(Course.find(), lab), Path.cwd()))


@cli.command()
@_lab
@click.option(
    "--class-size",
    type=click.IntRange(min=1),
    default=100,
    metavar="N",
    help="Number of students, for the estimate of the grading time.",
)
@click.option("--strict", is_flag=True, help="Also fail if something was not measured.")
def audit(lab: str, class_size: int, strict: bool) -> int:
    """Run all pre-release checks of a lab.

    The exit status is 1 if one of them fails.
    """
    from autograder.authoring.audit import audit, passes, table
    from autograder.course import Course

    findings = list(audit(Course.find(), lab, class_size=class_size))
    print(table(findings))
    return 0 if passes(findings, strict=strict) else 1


@cli.command()
@click.argument("notebooks", type=_PATH, nargs=-1, required=True, metavar="NOTEBOOK...")
@click.option("--lab", type=_Lab(), help="Assignment; needed if no lab's notebook has this name.")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=1 << 63, max_open=True),
    metavar="N",
    help="Seed of the checks' inputs. Each report states its own.",
)
@click.option(
    "--isolation",
    type=click.Choice(_ISOLATIONS),
    default="namespaces",
    help="Isolation of the notebooks; use none only for notebooks that you trust.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print results as JSON: an object for one notebook, a list for several."
)
def grade(notebooks: tuple[Path, ...], lab: str | None, seed: int | None, isolation: str, as_json: bool) -> None:
    """Grade notebooks without using the gradebook."""
    require_files(notebooks)
    from autograder.course import Course
    from autograder.grading.session import GradingSession

    gradings = []
    with GradingSession.of_course(Course.find(), lab or _lab_named_like(notebooks[0]), isolation) as session:
        for notebook in notebooks:
            gradings.append(session.grade(notebook, seed))
            if not as_json:
                _print_grading(notebook, gradings[-1], isolated=session.launcher.isolates)
    if as_json:
        results = [grading.as_dict() for grading in gradings]
        print(json.dumps(results if len(results) > 1 else results[0], indent=2))


def _lab_named_like(notebook: Path) -> str:
    """Return the course's only lab, or the one whose notebook has this name."""
    from amllab.lab import all_labs, find_lab

    names = all_labs()
    alike = [name for name in names if find_lab(name).notebook == notebook.stem] if len(names) > 1 else names
    if len(alike) != 1:
        raise ValueError(f"cannot tell the lab of {notebook.name}: add --lab with one of {', '.join(names)}")
    return alike[0]


def _print_grading(notebook: Path, grading: GradingResult, *, isolated: bool) -> None:
    from amllab.checks.render import to_text
    from amllab.checks.results import score
    from autograder.grading.report_cells import NOT_ISOLATED
    from autograder.text import printable, safe_line

    for note in grading.notes:
        print(f"note: {safe_line(note)}")
    if not isolated:
        print(f"note:{NOT_ISOLATED}")
    if grading.crowded:
        print(f"note: a time limit was reached while {grading.crowded}; grade again when other programs have ended")
    for cell in dict.fromkeys(result.cell for result in grading.results):
        report = to_text([r for r in grading.results if r.cell == cell], grading.remarks(cell))
        print(f"\n{cell}\n{printable(report, 50_000)}")
    earned, possible = score(grading.results)
    print(
        f"\n{safe_line(notebook.name)}: {earned:g} of {possible:g} automatic points (seed {grading.seed})", flush=True
    )


@cli.command()
@_lab
@click.option("--csv", type=_PATH, metavar="FILE", help="Also write the table to FILE.")
def scores(lab: str, csv: Path | None) -> None:
    """Show students and scores from the gradebook."""
    from autograder.course import Course
    from autograder.results.scores import write_scores

    text, fields = write_scores(Course.find(), lab)
    if csv is not None:
        csv.write_text(fields, encoding="utf-8", newline="")
    print(text)


@cli.command()
@_lab
@click.argument("student")
def explain(lab: str, student: str) -> None:
    """Show everything about one graded submission."""
    from autograder.course import Course
    from autograder.results.explain import explain

    print(explain(Course.find(), lab, student))


@cli.command()
@_lab
@click.argument("students", nargs=-1, required=True, metavar="STUDENT...")
def regrade(lab: str, students: tuple[str, ...]) -> int:
    """Grade some students again.

    Shows what changed; manual scores stay.
    """
    from autograder.course import Course
    from autograder.results.regrade import regrade

    return 0 if regrade(Course.find(), lab, list(students)) else 1


@cli.command()
@_lab
@click.option("--format", "fmt", required=True, type=click.Choice(_FORMATS), help="What to write, and for whom.")
@click.option(
    "--output", type=_PATH, metavar="FILE", help="File to write.  [default: in reports/ or dist/ of the course]"
)
@click.option("--roster", type=_PATH, metavar="CSV", help="File exported from Canvas or Moodle, to fill in.")
@click.option("--column", default="", show_default=False, help="Heading of the grade column, such as 'Lab 1 (4711)'.")
@click.option("--partial", is_flag=True, help="Also export submissions whose manual grading is not finished.")
@click.option(
    "--isolation",
    type=click.Choice(("where-possible", *_ISOLATIONS)),
    default="where-possible",
    help="Isolation of the Gradescope autograder, as explained in its run_autograder.",
)
def export(
    lab: str, fmt: str, output: Path | None, roster: Path | None, column: str, partial: bool, isolation: str
) -> None:
    """Export to Canvas, Moodle, Gradescope or CSV.

    Exports grades, feedback pages or, for Gradescope, an autograder.
    """
    from autograder import exports
    from autograder.course import Course

    options = exports.Options(roster, column, partial, isolation)
    path, remarks = exports.export(Course.find(), lab, fmt, output, options)
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(_shown(path))


@cli.command()
@_lab
@click.option("--output", type=_PATH, metavar="FILE", help="Page to write.  [default: in reports/ of the course]")
@click.option(
    "--threshold", type=float, metavar="SHARE", help="List pairs that share at least this fraction of original code."
)
def similar(lab: str, output: Path | None, threshold: float | None) -> None:
    """List submissions with similar code, for review."""
    from autograder.course import Course
    from autograder.similarity.compare import THRESHOLD, similar

    text, path = similar(Course.find(), lab, output, THRESHOLD if threshold is None else threshold)
    print(f"{text}\n{_shown(path)}")


@cli.command()
@_lab
@click.option("--output", type=_PATH, metavar="FOLDER", help="Output folder.  [default: reports/ of the course]")
@click.option("--anonymous", is_flag=True, help="Leave out student ids and texts from submissions.")
def report(lab: str, output: Path | None, anonymous: bool) -> None:
    """Write a class report.

    It is an HTML page with statistics of the checks, and CSV tables.
    """
    from autograder.course import Course
    from autograder.report import write_report

    for file in write_report(Course.find(), lab, output, anonymous=anonymous):
        print(_shown(file))


@cli.command()
@_lab
@click.option("--data", metavar="IMAGES", help="Images instead of those in lab.toml: drawn, cifar100 or a folder.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, help="Number of seeds to fit the thresholds on.")
@click.option("--fresh", type=click.IntRange(min=1), default=40, help="Number of further seeds to evaluate them on.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Number of processes, with one thread each.")
@click.option("--runs", type=_PATH, metavar="FILE", help="File of finished runs, to resume from.  [default: in build/]")
def calibrate(lab: str, data: str | None, seeds: int, fresh: int, jobs: int, runs: Path | None) -> None:
    """Measure the thresholds of an accuracy check.

    Writes them to thresholds.json of the lab, with a page and a plot in docs/.
    """
    from amllab.lab import find_lab
    from autograder.authoring.calibration import Calibration
    from autograder.authoring.calibration_page import page, picture_name, plot, sentences, table
    from autograder.course import Course

    found, root = find_lab(lab), Course.find().root
    calibration = Calibration(found, data=data, seeds=seeds, fresh=fresh)
    runs = runs or root / "build" / f"calibration-{found.assignment}-{calibration.kind}.jsonl"
    evidence = calibration.run(runs, jobs)
    known = calibration.write(evidence)
    docs = root / "docs"
    docs.mkdir(exist_ok=True)
    picture = docs / picture_name(found, calibration.kind)
    plot(evidence, picture, f"{found.title}: accuracy check, images: {calibration.kind}")
    (docs / f"calibration-{found.assignment}.md").write_text(page(found, known), encoding="utf-8")
    print(f"{table(evidence)}\n\n{sentences(evidence)}\n\nwritten to {calibration.file.name} and docs/{picture.stem}.*")


@cli.command()
def doctor() -> int:
    """Check whether this machine can isolate submissions.

    The exit status is 1 if it cannot.
    """
    from autograder.grading.trial_run import trial
    from autograder.sandbox.diagnostics import examine, report

    findings = examine()
    if findings[-1].works:
        findings.append(trial())
    print(report(findings))
    return 0 if findings[-1].works else 1


def _shown(path: Path) -> Path:
    """Return a path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
