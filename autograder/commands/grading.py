"""Commands that grade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autograder.commands.exit_status import require_files
from autograder.commands.parameters import ISOLATIONS, PATH, LabName, lab_argument

if TYPE_CHECKING:
    from autograder.grading.result import GradingResult


@click.command()
@click.argument("notebooks", type=PATH, nargs=-1, required=True, metavar="NOTEBOOK...")
@click.option("--lab", type=LabName(), help="Assignment; needed if no lab's notebook has this name.")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=1 << 63, max_open=True),
    metavar="N",
    help="Seed of the checks' inputs. Each report states its own.",
)
@click.option(
    "--isolation",
    type=click.Choice(ISOLATIONS),
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


@click.command()
@lab_argument
@click.argument("students", nargs=-1, required=True, metavar="STUDENT...")
def regrade(lab: str, students: tuple[str, ...]) -> int:
    """Grade some students again.

    Shows what changed; manual scores stay.
    """
    from autograder.course import Course
    from autograder.results.regrade import regrade

    return 0 if regrade(Course.find(), lab, list(students)) else 1


@click.command()
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
