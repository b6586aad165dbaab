"""The command ``autograder``: grade notebooks, show the class, build a lab from its master text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from autograder import exports
from autograder.command import ended, require_files
from autograder.course import Course
from autograder.sandbox.launcher import ISOLATIONS, Launcher

if TYPE_CHECKING:
    from autograder.grading.result import GradingResult


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    The status is 0 on success, 1 if the machine does not isolate (doctor), a submission was not graded (regrade) or the
    lab must not be released (audit), 2 if arguments, files, course or machine are unusable, 130 if interrupted, and 141
    if nobody reads the output.
    """
    return ended(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="autograder", description="Build, check and grade the Advanced Machine Learning labs."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="Build a lab's notebook, release and solution from its master text")
    build.add_argument("lab", help="Assignment, such as transfer-learning")
    build.add_argument(
        "--execute", action="store_true", help="Run the solution, including its experiments, and store the outputs"
    )
    build.add_argument(
        "--change-cells",
        action="store_true",
        help="Build even if graded cells were added, renamed or removed since the first submission, and list what changes",
    )
    build.add_argument("--data", help="Images for --execute: a folder, cifar100 or drawn (see amllab.reptiles)")

    making = commands.add_parser(
        "new-lab", help="Create a small lab that builds, grades and passes its tests, as a starting point"
    )
    making.add_argument("name", help="Name of the assignment, such as knowledge-distillation")
    making.add_argument("--root", type=Path, metavar="FOLDER", help="Checkout of the course (default: this one)")

    bundling = commands.add_parser(
        "bundle", help="Write the zip for students: notebook, library and a page to start with"
    )
    bundling.add_argument("lab", help="Assignment, such as transfer-learning")

    auditing = commands.add_parser("audit", help="Run all pre-release checks of a lab; exit status 1 if one fails")
    auditing.add_argument("lab", help="Assignment, such as transfer-learning")
    auditing.add_argument(
        "--class-size",
        type=_count,
        default=100,
        metavar="N",
        help="Number of students for the estimated grading time (default 100)",
    )
    auditing.add_argument("--strict", action="store_true", help="Also fail if something was not measured")

    grading = commands.add_parser("grade", help="Grade notebooks without using the gradebook")
    grading.add_argument("notebooks", type=Path, nargs="+", metavar="notebook")
    grading.add_argument("--lab", help="Assignment; needed if no lab's notebook has this name")
    grading.add_argument("--seed", type=_seed, help="Seed of the checks' inputs (each report states its own)")
    grading.add_argument(
        "--isolation",
        choices=ISOLATIONS,
        default="namespaces",
        help="Isolation of the notebooks; use none only for notebooks that you trust",
    )
    grading.add_argument(
        "--json", action="store_true", help="Print results as JSON: an object for one notebook, a list for several"
    )

    scores = commands.add_parser("scores", help="Show a table of students and scores from the gradebook")
    scores.add_argument("lab", help="Assignment, such as transfer-learning")
    scores.add_argument("--csv", type=Path, metavar="FILE", help="Also write the table to FILE")

    explaining = commands.add_parser("explain", help="Show everything about one graded submission")
    explaining.add_argument("lab", help="Assignment, such as transfer-learning")
    explaining.add_argument("student", help="Student id in the gradebook")

    regrading = commands.add_parser(
        "regrade", help="Grade some students again and show what changed; manual scores stay"
    )
    regrading.add_argument("lab", help="Assignment, such as transfer-learning")
    regrading.add_argument("students", nargs="+", metavar="student", help="Student id in the gradebook")

    exporting = commands.add_parser(
        "export",
        help="Export grades (Canvas, Moodle, Gradescope), feedback (Canvas, Moodle) or an autograder (Gradescope)",
    )
    exporting.add_argument("lab", help="Assignment, such as transfer-learning")
    exporting.add_argument("--format", required=True, choices=exports.FORMATS)
    exporting.add_argument(
        "--output", type=Path, metavar="FILE", help="File to write (default: in reports/ or dist/ of the course)"
    )
    exporting.add_argument("--roster", type=Path, metavar="CSV", help="File exported from Canvas or Moodle, to fill in")
    exporting.add_argument("--column", default="", help="Heading of the grade column, such as 'Lab 1 (4711)'")
    exporting.add_argument(
        "--partial", action="store_true", help="Also export submissions whose manual grading is not finished"
    )
    exporting.add_argument("--isolation", default="where-possible", choices=("where-possible", *ISOLATIONS),
                           help="Isolation of the Gradescope autograder, as explained in its run_autograder")  # fmt: skip

    comparing = commands.add_parser("similar", help="List pairs of submissions with similar code, for review")
    comparing.add_argument("lab", help="Assignment, such as transfer-learning")
    comparing.add_argument(
        "--output", type=Path, metavar="FILE", help="Page to write (default: in reports/ of the course)"
    )
    comparing.add_argument(
        "--threshold",
        type=float,
        metavar="SHARE",
        help="List pairs that share at least this fraction of original code (0 to 1)",
    )

    reporting = commands.add_parser(
        "report", help="Write a class report: an HTML page with statistics of the checks, and CSV tables"
    )
    reporting.add_argument("lab", help="Assignment, such as transfer-learning")
    reporting.add_argument(
        "--output", type=Path, metavar="FOLDER", help="Output folder (default: reports/ of the course)"
    )
    reporting.add_argument("--anonymous", action="store_true", help="Leave out student ids and texts from submissions")

    calibrating = commands.add_parser("calibrate", help="Measure and write the thresholds of a lab's accuracy check")
    calibrating.add_argument("lab", help="Assignment, such as transfer-learning")
    calibrating.add_argument(
        "--data", help="Images instead of those in lab.toml: drawn, cifar100 or a folder of class images"
    )
    calibrating.add_argument(
        "--seeds", type=_count, default=20, help="Number of seeds to fit the thresholds on (default 20)"
    )
    calibrating.add_argument(
        "--fresh", type=_count, default=40, help="Number of further seeds to evaluate the thresholds on (default 40)"
    )
    calibrating.add_argument(
        "--jobs", type=_count, default=1, help="Number of processes, with one thread each (default 1)"
    )
    calibrating.add_argument(
        "--kept", type=Path, help="File that stores the runs, to continue later (default: in build/)"
    )

    commands.add_parser("doctor", help="Check whether this machine can isolate submissions")

    args = parser.parse_args(argv)
    commands_by_name = {
        "build": _build,
        "new-lab": _new_lab,
        "audit": _audit,
        "bundle": _bundle,
        "grade": _grade,
        "scores": _scores,
        "explain": _explain,
        "regrade": _regrade,
        "export": _export,
        "similar": _similar,
        "doctor": _doctor,
        "calibrate": _calibrate,
        "report": _report,
    }
    return commands_by_name[args.command](args)


def _count(text: str) -> int:
    """Parse a number of things, which is at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 63:
        raise ValueError(text)
    return number


_count.__name__, _seed.__name__ = "positive integer", "non-negative integer"  # shown in argparse's messages


def _build(args: argparse.Namespace) -> int:
    from autograder.authoring.build import build

    build(Course.find(), args.lab, execute=args.execute, data=args.data, change_cells=args.change_cells)
    return 0


def _new_lab(args: argparse.Namespace) -> int:
    from autograder.authoring.new_lab import new_lab

    course = Course.find(args.root)
    for file in new_lab(course, args.name):
        print(os.path.relpath(file, course.root))
    if not Path(__file__).is_relative_to(course.root):
        print(f"this Python uses other copies of the packages: run 'pip install -e {course.root}'")
    print(f"next: run 'autograder build {args.name.replace('_', '-')}', then continue with docs/new-lab.md")
    return 0


def _bundle(args: argparse.Namespace) -> int:
    from autograder.authoring.bundle import bundle

    course = Course.find()
    print(os.path.relpath(bundle(course, args.lab), Path.cwd()))
    return 0


def _audit(args: argparse.Namespace) -> int:
    from autograder.authoring.audit import audit, passes, table

    findings = list(audit(Course.find(), args.lab, class_size=args.class_size))
    print(table(findings))
    return 0 if passes(findings, strict=args.strict) else 1


def _grade(args: argparse.Namespace) -> int:
    # PyTorch is imported here, so that other commands start without it
    require_files(args.notebooks)
    from autograder.grading.grader import grade
    from autograder.grading.reference import Reference
    from autograder.labs.settings import load_lab
    from autograder.notebooks.normalize import read_release, repair

    course, lab = Course.find(), load_lab(args.lab or _lab_named_like(args.notebooks[0]))
    release = read_release(course.release(lab))
    launcher = Launcher(args.isolation, course.root)
    reference = Reference(lab, course.solution(lab), launcher)
    gradings = []
    try:
        for notebook in args.notebooks:
            repaired = repair(notebook, release)
            grading = grade(
                repaired.notebook,
                lab,
                reference,
                seed=args.seed,
                notes=repaired.notes,
                readable=repaired.readable,
                launcher=launcher,
            )
            gradings.append(grading)
            if not args.json:
                _print_grading(notebook, grading, isolated=launcher.isolates)
    finally:
        reference.close()
        launcher.close()
    if args.json:
        results = [grading.as_dict() for grading in gradings]
        print(json.dumps(results if len(results) > 1 else results[0], indent=2))
    return 0


def _lab_named_like(notebook: Path) -> str:
    """Return the course's only lab, or the one whose notebook has this name."""
    from amllab.lab import all_labs, find_lab

    names = all_labs()
    alike = [name for name in names if find_lab(name).notebook == notebook.stem] if len(names) > 1 else names
    if len(alike) != 1:
        raise ValueError(f"cannot tell the lab of {notebook.name}: add --lab with one of {', '.join(names)}")
    return alike[0]


def _print_grading(notebook: Path, grading: GradingResult, *, isolated: bool) -> None:
    from amllab.checks.results import score, to_text
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


def _calibrate(args: argparse.Namespace) -> int:
    from amllab.lab import find_lab
    from autograder.authoring.calibration import Calibration
    from autograder.authoring.calibration_page import page, picture_name, plot, sentences, table

    lab, root = find_lab(args.lab), Course.find().root
    calibration = Calibration(lab, data=args.data, seeds=args.seeds, fresh=args.fresh)
    kept = args.kept or root / "build" / f"calibration-{lab.assignment}-{calibration.kind}.jsonl"
    evidence = calibration.run(kept, args.jobs)
    known = calibration.write(evidence)
    docs = root / "docs"
    docs.mkdir(exist_ok=True)
    picture = docs / picture_name(lab, calibration.kind)
    plot(evidence, picture, f"{lab.title}: accuracy check, images: {calibration.kind}")
    (docs / f"calibration-{lab.assignment}.md").write_text(page(lab, known), encoding="utf-8")
    print(f"{table(evidence)}\n\n{sentences(evidence)}\n\nwritten to {calibration.file.name} and docs/{picture.stem}.*")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from autograder.grading.trial_run import trial
    from autograder.sandbox.diagnostics import examine, report

    findings = examine()
    if findings[-1].works:
        findings.append(trial())
    print(report(findings))
    return 0 if findings[-1].works else 1


def _report(args: argparse.Namespace) -> int:
    from autograder.report import write_report

    files = write_report(Course.find(), args.lab, args.output, anonymous=args.anonymous)
    here = Path.cwd()
    print("\n".join(str(file.relative_to(here) if file.is_relative_to(here) else file) for file in files))
    return 0


def _scores(args: argparse.Namespace) -> int:
    from autograder.results.scores import write_scores

    text, fields = write_scores(Course.find(), args.lab)
    if args.csv is not None:
        args.csv.write_text(fields, encoding="utf-8", newline="")
    print(text)
    return 0


def _export(args: argparse.Namespace) -> int:
    options = exports.Options(args.roster, args.column, args.partial, args.isolation)
    path, remarks = exports.export(Course.find(), args.lab, args.format, args.output, options)
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(_shown(path))
    return 0


def _shown(path: Path) -> Path:
    """Return a path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _similar(args: argparse.Namespace) -> int:
    from autograder.similarity.compare import THRESHOLD, similar

    threshold = THRESHOLD if args.threshold is None else args.threshold
    text, path = similar(Course.find(), args.lab, args.output, threshold)
    print(f"{text}\n{_shown(path)}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    from autograder.results.explain import explain

    print(explain(Course.find(), args.lab, args.student))
    return 0


def _regrade(args: argparse.Namespace) -> int:
    from autograder.results.regrade import regrade

    return 0 if regrade(Course.find(), args.lab, args.students) else 1


if __name__ == "__main__":
    sys.exit(main())
