"""A catalog of a lab's checks, collected without running any: their titles, points, cells and files."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from amllab.checks.plugin import ChecksPlugin, declared, function_name, is_public, needs_of, points_of
from amllab.checks.runner import QUIET
from amllab.lab import Lab, name_in_course
from amllab.protocol.submission import InProcessSubmission
from autograder.labs.locations import hidden_checks


@dataclass(frozen=True)
class Check:
    """A check, as described by its markers and its docstring.

    Attributes:
        name: Name of the test function, including its parameters.
        function: Name of the test function alone.
        title: First paragraph of its docstring.
        more: Rest of its docstring, for readers of the code.
        cell: Grade id of the cell that the check counts for.
        section: Section of the notebook.
        points: Points that the check is worth.
        needs: Checks that must have passed.
        file: Path relative to the course's folder, for messages.
        hidden: Whether students do not get the check.
    """

    name: str
    function: str
    title: str
    more: str
    cell: str
    section: str
    points: float
    needs: tuple[str, ...]
    file: str
    hidden: bool


class _Collector(ChecksPlugin):
    """A pytest plugin that records all checks in the order in which they would run."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, InProcessSubmission(lab.name, {}))
        self.checks: list[Check] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.checks = [_check(item, self.lab) for item in session.items]


def checks_of(lab: Lab) -> list[Check]:
    """Return all checks of a lab, public and hidden, in the order in which they run.

    Args:
        lab: Lab whose checks to collect.

    Raises:
        ValueError: A file of checks cannot be read (the message is pytest's), there are no checks, or one of them has
            no cell, no points or no docstring.
    """
    collector = _Collector(lab)
    output = io.StringIO()
    folders = [str(lab.folder), str(hidden_checks(lab.name))]
    arguments = [*QUIET, "--collect-only", f"--rootdir={lab.folder.parent.parent}", *folders]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(arguments, plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise ValueError(f"the checks of {lab.name} cannot be read:\n{output.getvalue()[-4000:]}")
    return collector.checks


def _check(item: pytest.Item, lab: Lab) -> Check:
    cell, points, title, more = declared(item)
    hidden = not is_public(lab, item)
    return Check(
        name=item.name,
        function=function_name(item),
        title=title,
        more=more,
        cell=cell.args[0],
        section=cell.kwargs.get("section", ""),
        points=float(points_of(lab, item, points)),
        needs=needs_of(item),
        file=name_in_course(Path(item.path)),
        hidden=hidden,
    )


def page(labs: Iterable[Lab]) -> str:
    """Return a documentation page of all checks: public ones with their points, hidden ones only with titles."""
    lines = [
        "# Checks",
        "",
        "Written by `python -m autograder.labs.catalog docs/checks.md`, from the check files. A check that *needs* another one is",
        "skipped if that one did not pass. Students have the public checks; of the hidden checks, their reports show only",
        "titles and points.",
    ]
    for lab in labs:
        checks = sorted(checks_of(lab), key=lambda check: check.section)
        lines += ["", f"## {lab.title}"]
        for cell in dict.fromkeys(check.cell for check in checks):
            lines += _cell_lines([check for check in checks if check.cell == cell])
    return "\n".join(lines) + "\n"


def _cell_lines(checks: Sequence[Check]) -> list[str]:
    titles = {check.name: check.title for check in checks}
    lines = ["", f"### {checks[0].section or checks[0].cell}", ""]
    lines += [f"`{checks[0].cell}`, {sum(check.points for check in checks):g} points.", ""]
    lines += ["| public check | points | needs |", "|---|---|---|"]
    for check in checks:
        if not check.hidden:
            needs = " ".join(titles.get(name, f"`{name}`") for name in check.needs)
            lines.append(f"| {_in_table(check.title)} | {check.points:g} | {_in_table(needs)} |")
    hidden = [check for check in checks if check.hidden]
    if hidden:
        lines += ["", f"Hidden, {sum(check.points for check in hidden):g} points in total:", ""]
        lines += [f"- {check.title}" for check in hidden]
    return lines


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


def main(file: Path) -> int:
    """Write the page of all labs; name labs whose settings or checks cannot be read, and return 1 if there are any."""
    from amllab.lab import all_labs, find_lab

    readable, problems = [], []
    for name in all_labs():
        try:
            lab = find_lab(name)
            checks_of(lab)
            readable.append(lab)
        except ValueError as error:
            problems.append(str(error))
    file.write_text(page(readable), encoding="utf-8")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
