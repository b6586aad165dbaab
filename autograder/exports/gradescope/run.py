"""Grade one submission in Gradescope's container and write ``results.json``; started by ``run_autograder``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nbformat import NotebookNode

from amllab.checks.render import to_text
from amllab.checks.results import CheckResult
from amllab.lab import Lab, find_lab
from autograder.exports.gradescope.package import ISOLATIONS
from autograder.exports.gradescope.results import is_public, public_checks, results, test
from autograder.grading.report_cells import NOT_ISOLATED
from autograder.grading.result import GradingResult
from autograder.grading.session import GradingSession
from autograder.notebooks.metadata import is_autograded
from autograder.notebooks.normalize import read_release
from autograder.sandbox.diagnostics import examine
from autograder.sandbox.launcher import Launcher


def main(argv: list[str] | None = None) -> int:
    """Grade the submission and return the exit status.

    A fault of the course or of the machine raises an exception and leaves no results. Gradescope then reports that the
    autograder failed, and nobody gets a zero for it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab", required=True)
    parser.add_argument("--course", type=Path, required=True, help="folder with release.ipynb and solution.ipynb")
    parser.add_argument("--submission", type=Path, required=True, help="folder with the submission")
    parser.add_argument("--results", type=Path, required=True, help="folder for results.json")
    parser.add_argument("--isolation", choices=ISOLATIONS, required=True)
    args = parser.parse_args(argv)
    lab, isolation = find_lab(args.lab), chosen(args.isolation)
    print(f"isolation: {isolation} (set to {args.isolation})")
    release = read_release(args.course / "release.ipynb")
    found = graded(lab, release, args.course, args.submission, isolation)
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "results.json").write_text(json.dumps(as_results(lab, release, found), indent=2), encoding="utf-8")
    return 0


def chosen(setting: str) -> str:
    """Return the isolation that a setting means on this machine."""
    if setting != "where-possible":
        return setting
    return "namespaces" if examine()[-1].works else "none"


def graded(lab: Lab, release: NotebookNode, course: Path, submission: Path, isolation: str) -> GradingResult:
    """Grade the notebook in a folder, as ``autograder grade`` does.

    Raises:
        IsolationError, WorkerError, ReferenceFailedError, ChecksBrokenError: Faults of the machine or the course.
    """
    with GradingSession(lab, release, course / "solution.ipynb", Launcher(isolation, course)) as session:
        found = session.grade(submission / f"{lab.notebook}.ipynb")
        if session.reference.failed is not None:  # the checks that need it broke, which would cost everyone points
            raise session.reference.failed
        return found


def as_results(lab: Lab, release: NotebookNode, found: GradingResult) -> dict[str, object]:
    """Convert a grading to Gradescope's format, in the order of the notebook."""
    public = public_checks(lab)
    cells = [cell.metadata.nbgrader.grade_id for cell in release.cells if is_autograded(cell)]
    tests = []
    for part, cell in enumerate(cells, 1):
        for i, result in enumerate((r for r in found.results if r.cell == cell), 1):
            passed = result.outcome == "passed"
            tests.append(
                test(result.title, f"{part}.{i}", result.points, result.earned, passed=passed,
                     output=_details(result), public=is_public(result.name, public))
            )  # fmt: skip
    output = [*found.notes, *found.stopped, *(remark for cell in found.mistakes for remark in found.remarks(cell))]
    if found.isolation == "none":
        output.append(NOT_ISOLATED.strip())
    output.append(f"The inputs of these checks were sampled with seed {found.seed}.")
    return results(tests, output, found.seconds)


def _details(result: CheckResult) -> str:
    """Return the report without its first line, which is the title, and its last, which is the sum."""
    if result.outcome == "skipped" and result.failure is not None:
        return f"not run: {result.failure.expected}"
    return "\n".join(to_text([result]).splitlines()[1:-1])


if __name__ == "__main__":
    sys.exit(main())
