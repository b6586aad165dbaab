"""The command ``autograder``: build labs, grade notebooks without the gradebook, and show and export results."""

from __future__ import annotations

import logging

import click

from amllab.lab import course_labs
from autograder.commands import authoring, courses, grading, results
from autograder.commands.exit_status import INTERRUPTED, ended
from autograder.course_version import version_note

_ANY_VERSION = ("new-course", "upgrade-course", "doctor")  # whatever version the course is of


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
    """A group whose commands end as :func:`autograder.commands.exit_status.ended` says."""

    def invoke(self, ctx: click.Context) -> int:
        run = super().invoke
        return ended(lambda: run(ctx) or 0, traceback=ctx.params["verbose"])


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}, no_args_is_help=True
)
@click.version_option(package_name="amllab", prog_name="autograder")
@click.option("-v", "--verbose", is_flag=True, help="Show log messages, and the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """Build, check and grade the Advanced Machine Learning labs.

    LAB is the name of an assignment, such as transfer-learning. Commands that read the course run in its folder, or in
    a folder below it.
    """
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if ctx.invoked_subcommand not in _ANY_VERSION and (note := version_note(course_labs())):
        click.echo(f"autograder: {note}", err=True)


for command in (
    courses.new_course,
    courses.upgrade_course,
    courses.add_platform,
    authoring.build,
    authoring.new_lab,
    authoring.bundle,
    authoring.audit,
    authoring.use_data,
    authoring.use_backbone,
    authoring.calibrate,
    authoring.study,
    grading.grade,
    grading.regrade,
    grading.doctor,
    results.scores,
    results.explain,
    results.attempts,
    results.report,
    results.similar,
    results.export,
):
    cli.add_command(command)
