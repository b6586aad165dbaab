"""Commands that grade."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autograder.commands.exit_status import require_files
from autograder.commands.parameters import PATH, LabName, lab_argument
from autograder.sandbox.launcher import ISOLATIONS

if TYPE_CHECKING:
    from autograder.grading.result import GradingResult


@click.command()
@click.argument("notebooks", type=PATH, nargs=-1, required=True, metavar="NOTEBOOK...")
@click.option(
    "--lab", type=LabName(), help="Assignment of all notebooks; needed if cells and names do not identify it."
)
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
    """Grade notebooks without using the gradebook.

    Each notebook is graded with the checks of its own lab.
    """
    require_files(notebooks)
    from autograder.course import Course
    from autograder.grading.session import GradingSession

    course, gradings = Course.find(), []
    labs = [lab or _lab_of(notebook) for notebook in notebooks]
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(GradingSession.of_course(course, name, isolation)) for name in dict.fromkeys(labs)
        }
        for name, notebook in zip(labs, notebooks, strict=True):
            gradings.append(sessions[name].grade(notebook, seed))
            if not as_json:
                _print_grading(notebook, gradings[-1], isolated=sessions[name].launcher.isolates)
    if as_json:
        results = [grading.as_dict() for grading in gradings]
        print(json.dumps(results if len(results) > 1 else results[0], indent=2))


def _lab_of(notebook: Path) -> str:
    """Return the lab of a notebook: the only one, the one whose graded cells it has most of, or of the same name.

    Raises:
        SettingsError: No lab, or more than one, fits; the message also names labs whose settings cannot be read.
    """
    from amllab.lab import all_labs, find_lab
    from amllab.preflight.document import shared_with_labs
    from autograder.errors import NotebookError, SettingsError
    from autograder.notebooks.reading import read_cells

    names = all_labs()
    if len(names) == 1:
        return names[0]
    shared: dict[str, int] = {}
    with suppress(NotebookError):  # its name may tell
        shared = shared_with_labs(read_cells(notebook, []))
    most = max(shared.values(), default=0)
    fitting = [name for name in names if most and shared[name] == most] or names
    alike, unusable = [], ""
    for name in fitting:
        try:
            alike += [name] if find_lab(name).notebook == notebook.stem else []
        except ValueError as error:
            unusable += f"; {error}"
    chosen = fitting if len(fitting) == 1 else alike
    if len(chosen) != 1:
        raise SettingsError(
            f"cannot tell the lab of {notebook.name}: add --lab with one of {', '.join(names) or 'none'}{unusable}"
        )
    return chosen[0]


def _print_grading(notebook: Path, grading: GradingResult, *, isolated: bool) -> None:
    from amllab.checks.render import to_text
    from amllab.checks.results import score
    from autograder.grading.report_cells import NOT_ISOLATED
    from autograder.text import printable, safe_line

    for note in grading.notes + grading.failed:
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
