"""Parameters that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PATH = click.Path(path_type=Path)


class LabName(click.ParamType):
    """The assignment of a lab; completed from the labs of the course."""

    name = "lab"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the labs that complete what has been typed."""
        from click.shell_completion import CompletionItem

        from amllab.lab import all_labs

        names = [name.replace("_", "-") for name in all_labs()]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


lab_argument = click.argument("lab", type=LabName())
labs_argument = click.argument("labs", metavar="LAB...", type=LabName(), nargs=-1, required=True)


def shown(path: Path) -> Path:
    """Return a path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
