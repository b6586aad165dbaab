"""Commands for instructors: write a lab, check it, release it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from autograder.commands.parameters import PATH, lab_argument, labs_argument


@click.command()
@lab_argument
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


@click.command()
@click.argument("name")
@click.option("--root", type=PATH, metavar="FOLDER", help="Folder of the course.  [default: this one]")
def new_lab(name: str, root: Path | None) -> None:
    """Create a small lab to start from.

    It builds, grades and passes its tests.

    NAME is the name of the new assignment, such as label-smoothing.
    """
    from autograder.authoring.new_lab import is_checkout, new_lab
    from autograder.course import Course

    course = Course.find(root)
    for file in new_lab(course, name):
        print(os.path.relpath(file, course.root))
    if is_checkout(course.root) and not Path(__file__).is_relative_to(course.root):
        print(f"this Python uses other copies of the packages: run 'pip install -e {course.root}'")
    guide = "docs/new-lab.md" if is_checkout(course.root) else "these files, one by one"
    print(f"next: run 'autograder build {name.replace('_', '-')}', then continue with {guide}")


@click.command()
@labs_argument
def bundle(labs: tuple[str, ...]) -> None:
    """Write the zip for students.

    It contains the notebook, the library and a start page. With several labs, it contains their notebooks, and one
    library with the checks of all of them, but of no others.
    """
    from autograder.authoring.bundle import bundle
    from autograder.course import Course

    print(os.path.relpath(bundle(Course.find(), *labs), Path.cwd()))


@click.command()
@lab_argument
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


@click.command()
@lab_argument
@click.argument("folder")
@click.option(
    "--side", type=int, metavar="PIXELS", help="Side of the images.  [default: the shortest side of any image]"
)
def use_data(lab: str, folder: str, side: int | None) -> None:
    """Grade a lab with your own images.

    FOLDER contains one folder of images for each class. The images stay there, and students do not get them. To return
    to the lab's own images, give their name, such as drawn.
    """
    from autograder.authoring.own_choice import use_data

    _say_what_is_in_force(lab, use_data(lab, folder, side))


@click.command()
@lab_argument
@click.argument("name")
def use_backbone(lab: str, name: str) -> None:
    """Grade a lab with another backbone.

    NAME is net12, net6 or a model of timm. Its weights are downloaded once.
    """
    from autograder.authoring.own_choice import use_backbone

    _say_what_is_in_force(lab, use_backbone(lab, name))


def _say_what_is_in_force(name: str, table: dict[str, Any]) -> None:
    from autograder.errors import SettingsError
    from autograder.labs.own import require_thresholds
    from autograder.labs.settings import load_lab

    for key, value in table.items():
        if not isinstance(value, dict):
            print(f"{key} = {value}")
    lab = load_lab(name)
    try:
        require_thresholds(lab)
    except SettingsError:
        print(
            f"next: run 'autograder calibrate {lab.assignment}': nothing is graded before the thresholds are measured"
        )
    else:
        print("the thresholds for this are measured: ready to grade")


@click.command()
@lab_argument
@click.option("--data", type=click.Choice(["drawn", "cifar100"]), help="Use images of the library, not your own.")
@click.option("--seeds", type=click.IntRange(min=1), default=20, help="Number of seeds to fit the thresholds on.")
@click.option("--fresh", type=click.IntRange(min=1), default=40, help="Number of further seeds to evaluate them on.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Number of processes, with one thread each.")
@click.option("--runs", type=PATH, metavar="FILE", help="File of finished runs, to resume from.  [default: in build/]")
def calibrate(lab: str, data: str | None, seeds: int, fresh: int, jobs: int, runs: Path | None) -> None:
    """Measure the thresholds of a check that trains.

    Writes them to thresholds.json of the lab, with a page and a plot in docs/. For your own images or backbone, all of
    this goes next to the hidden checks, where students do not get it.
    """
    from amllab.lab import find_lab
    from autograder.authoring.calibration import Calibration
    from autograder.authoring.calibration_page import page, picture_name, plot, sentences, table
    from autograder.course import Course
    from autograder.labs.calibrated import all_calibrated
    from autograder.labs.own import require_images
    from autograder.labs.settings import load_lab

    root, found = Course.find().root, find_lab(lab) if data else load_lab(lab)
    require_images(found)
    parts = range(len(all_calibrated(found)))
    for calibration in [Calibration(found, data=data, seeds=seeds, fresh=fresh, part=part) for part in parts]:
        task = calibration.task
        measured = runs or root / "build" / f"calibration-{found.assignment}-{task.data}.jsonl"
        evidence = calibration.run(measured, jobs)
        known = calibration.write(evidence)
        docs = task.evidence.parent if found.own else root / "docs"
        docs.mkdir(exist_ok=True)
        picture = docs / picture_name(task, task.data)
        plot(evidence, picture, task, f"{found.title}: {task.score.name} check, {task.data_word.lower()}: {task.data}")
        written = picture.with_suffix(".md") if found.own else docs / f"calibration-{found.assignment}.md"
        written.write_text(page([declared.task for declared in all_calibrated(found)], known), encoding="utf-8")
        shown = task.evidence.name, os.path.relpath(written, root)
        print(f"{table(evidence, task)}\n\n{sentences(evidence, task)}\n\nwritten to {' and '.join(shown)}")


@click.command()
@lab_argument
@click.option("--seeds", type=click.IntRange(min=1), default=20, help="Number of seeds of the checks.")
@click.option(
    "--mutant-seeds",
    type=click.IntRange(min=1),
    default=1,
    help="Number of these seeds for mutants. Submissions that people wrote are checked with all seeds.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Number of processes, with one thread each.")
@click.option(
    "--only",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Check submissions whose id contains this, and write nothing.",
)
@click.option(
    "--rest", is_flag=True, help="Also run the checks of no exercise, such as accuracy, on what passes all others."
)
@click.option("--report-only", is_flag=True, help="Check nothing; write the stored results again.")
def study(lab: str, seeds: int, mutant_seeds: int, jobs: int, only: str, rest: bool, report_only: bool) -> None:
    """Measure whether the checks of a lab find all mistakes.

    Checks mutants of correct solutions, and the solutions of the lab's corpus. Writes the evidence and the recognised
    mistakes next to the hidden checks, and a page in docs/. If interrupted, the same command continues.
    """
    import torch

    from autograder.course import Course
    from autograder.errors import CourseError

    try:
        from autograder.authoring.study.study import FIRST_SEED, MutationStudy
    except ModuleNotFoundError as error:
        raise CourseError(f"{error}: run 'pip install \"amllab[study]\"'") from None
    torch.set_num_threads(1)  # a forked process has no use for more
    found = MutationStudy(Course.find(), lab)
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    chosen = [subject for subject in found.subjects if only in subject.id]
    if not report_only:
        found.check(numbers, jobs, chosen, mutant_seeds)
    if rest:
        found.check_rest(numbers[0], jobs, chosen)
    rows = found.collect(numbers, chosen)
    for line in filter(None, (row.fault for row in rows)):
        print(line)
    if not only:
        for file in found.write(rows):
            print(f"wrote {os.path.relpath(file, Path.cwd())}")
