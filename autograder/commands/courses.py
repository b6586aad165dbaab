"""Commands for a course of one's own: create it, upgrade it, publish it for students."""

from __future__ import annotations

import os
from pathlib import Path

import click

from autograder.commands.parameters import PATH


def _listed(values: tuple[str, ...]) -> list[str]:
    """Return the names in values where commas separate them."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


@click.command()
@click.argument("folder", type=PATH)
@click.option("--labs", metavar="LAB,...", multiple=True, help="Shipped labs that the course gets.  [default: all]")
def new_course(folder: Path, labs: tuple[str, ...]) -> None:
    """Create a course in FOLDER, which is new or empty.

    It has the labs that the package ships, the configuration, a roster and a README with the commands in order.
    """
    from autograder.authoring.new_course import new_course

    chosen = new_course(folder, _listed(labs) if labs else None)
    print(f"{folder}: a course with {', '.join(chosen) or 'no labs yet'}")
    builds = f"'autograder build {chosen[0]}'" if chosen else "'autograder new-lab NAME'"
    print(f"next: run 'cd {folder}', then {builds}; README.md has the other commands")


@click.command()
@click.option("--labs", metavar="LAB,...", multiple=True, help="Add further labs that the package ships.")
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@click.option(
    "--without-base",
    is_flag=True,
    help="Upgrade a course that has lost the folder .shipped: keep all files that differ, for you to compare.",
)
def upgrade_course(labs: tuple[str, ...], dry_run: bool, without_base: bool) -> int:
    """Bring the labs of the course to the installed version of the package.

    Your changes are kept and merged with the new ones. Prints what happens to each file. The exit status is 1 if there
    are conflicts.
    """
    from autograder.authoring.upgrade_course import upgrade_course
    from autograder.course import Course

    done = upgrade_course(Course.find(), add=_listed(labs), without_base=without_base, dry_run=dry_run)
    for line in done.lines():
        print(line)
    versions = f"amllab {done.before} to {done.after}" if done.before != done.after else f"amllab {done.after}"
    if not done.outcomes and not done.writes:
        print(f"nothing to do: the labs are those of {versions}")
        return 0
    print(f"{'would upgrade' if dry_run else 'upgraded'}: {versions}")
    if done.conflicts:
        print(f"to decide by you: {', '.join(done.conflicts)}")
    if done.to_build and not dry_run:
        builds = ", ".join(f"'autograder build {lab}'" for lab in done.to_build)
        print(f"next: {'resolve the conflicts, then run' if done.conflicts else 'run'} {builds}")
    return 1 if done.conflicts else 0


@click.command()
@click.argument("platforms", nargs=-1, metavar="[docker] [binder] [colab]")
@click.option("--labs", metavar="LAB,...", multiple=True, help="Labs that students may see from now on.")
@click.option(
    "--repository",
    metavar="OWNER/NAME",
    default="",
    show_default=False,
    help="The students' repository on GitHub, for links and for Colab.",
)
@click.option("--branch", metavar="NAME", default="", show_default=False, help="Its branch.  [default: main]")
def add_platform(platforms: tuple[str, ...], labs: tuple[str, ...], repository: str, branch: str) -> None:
    """Write a repository for students, for Docker, Binder or Colab.

    It is the folder students/, which you publish: notebooks, library, and the files of these platforms. Run the command
    again, without arguments, after each build.
    """
    from autograder.authoring.students_repository import FOLDER, PLATFORMS, Choices, add_platforms, repository_of
    from autograder.course import Course

    wanted = [name.lower() for name in _listed(platforms)]
    if unknown := [name for name in wanted if name not in PLATFORMS]:
        raise click.UsageError(f"no platform {unknown[0]!r}; there are: {', '.join(PLATFORMS)}")
    course = Course.find()
    choices = Choices(tuple(wanted), tuple(_listed(labs)), repository_of(repository) if repository else "", branch)
    lines = add_platforms(course, choices)
    for line in lines or ["nothing has changed"]:
        print(line)
    print(f"next: publish the folder {os.path.relpath(course.root / FOLDER)}, and nothing else of the course")
