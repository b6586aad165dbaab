"""The command ``autograder``: grade one notebook, show the class, build what a master text yields."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from autograder.course import Course


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 2 unusable arguments or files."""
    parser = argparse.ArgumentParser(prog="autograder", description="Grading of the Advanced Machine Learning labs.")
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="master text -> notebook, release, executed solution")
    build.add_argument("lab", help="assignment, such as transfer-learning")
    build.add_argument(
        "--execute", action="store_true", help="run the solution, experiments included, and keep its outputs"
    )
    build.add_argument("--data", help="images for --execute: a folder, cifar100 or drawn (see amllab.data)")

    grading = commands.add_parser("grade", help="grade one notebook, without the gradebook")
    grading.add_argument("notebook", type=Path)
    grading.add_argument("--lab", help="assignment; needed where the course has several labs")
    grading.add_argument("--seed", type=int, help="seed of the checks' inputs (a report names its own)")
    grading.add_argument("--json", action="store_true", help="print the result for machines")

    scores = commands.add_parser("scores", help="table of students and scores, from the gradebook")
    scores.add_argument("lab", help="assignment, such as transfer-learning")

    args = parser.parse_args(argv)
    try:
        return {"build": _build, "grade": _grade, "scores": _scores}[args.command](args)
    except (FileNotFoundError, LookupError, ValueError) as error:
        print(f"autograder: {error}", file=sys.stderr)
        return 2


def _build(args: argparse.Namespace) -> int:
    from autograder.build import build

    build(Course.find(), args.lab, execute=args.execute, data=args.data)
    return 0


def _grade(args: argparse.Namespace) -> int:
    # PyTorch is loaded here, not for every call of the command
    from amllab.checks.lab import all_labs, find_lab
    from amllab.checks.results import score, to_text
    from autograder.judge import Reference, grade
    from autograder.repair import read_release, repair

    if args.lab is None and len(all_labs()) > 1:
        raise ValueError(f"there are several labs: add --lab, one of {', '.join(all_labs())}")
    course, lab = Course.find(), find_lab(args.lab or all_labs()[0])
    repaired = repair(args.notebook, read_release(course.release(lab)))
    reference = Reference(lab, course.solution(lab))
    try:
        grading = grade(repaired.notebook, lab, reference, seed=args.seed, notes=repaired.notes)
    finally:
        reference.close()
    if args.json:
        print(json.dumps(grading.as_dict(), indent=2))
        return 0
    for note in grading.notes:
        print(f"note: {note}")
    for cell in dict.fromkeys(result.cell for result in grading.results):
        print(f"\n{cell}\n{to_text([r for r in grading.results if r.cell == cell])}")
    earned, possible = score(grading.results)
    print(f"\n{args.notebook.name}: {earned:g} of {possible:g} automatic points (seed {grading.seed})")
    return 0


def _scores(args: argparse.Namespace) -> int:
    with Course.find().gradebook() as gradebook:
        assignment = gradebook.find_assignment(args.lab)
        cells = [cell for notebook in assignment.notebooks for cell in notebook.grade_cells]
        rows = []
        for submission in assignment.submissions:
            grades = {grade.name: grade for notebook in submission.notebooks for grade in notebook.grades}
            points = [
                "to grade" if grades[cell.name].needs_manual_grade else f"{grades[cell.name].score:g}" for cell in cells
            ]
            rows.append([submission.student.id, *points, f"{submission.score:g}"])
        names = [cell.name.removeprefix("check_") for cell in cells]
        most = [f"{cell.max_score:g}" for cell in cells]
        header = [
            "student",
            *(f"{n} ({m})" for n, m in zip(names, most, strict=True)),
            f"sum ({assignment.max_score:g})",
        ]
    rows.sort(key=lambda row: (-float(row[-1]), row[0]))
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print(
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
