"""Which folder is the course: its configuration is a program with the rights of the person who runs a command.

As nbgrader does, a course is recognised by its ``nbgrader_config.py``. A command may be run anywhere below it, also in
the folder of a submission, which may bring such a file along. So not every file of this name counts:

- None that is in a folder of submissions (``submitted``, ``downloaded``, ...), whatever the outer course calls it.
- None of another account, as in Git (``safe.directory``): in folders such as ``/tmp``, everybody can create one.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

CONFIG = "nbgrader_config.py"
TRUSTED = "AMLLAB_TRUSTED"  # variable with folders whose configuration may run although they belong to another account
_SUBMISSIONS = {"submitted", "downloaded", "autograded"}  # names that no other folders above a course have
_OF_COURSE = _SUBMISSIONS | {"feedback", "attempts"}
_ROLES = {"submitted_directory", "downloaded_directory", "autograded_directory", "feedback_directory"}
_PACKAGES = Path(__file__).resolve().parent.parent  # in a clone of the repository, the course


def course_folder(start: Path) -> Path | None:
    """Return the course that a folder is in, without links in its path; ``None`` if it is in none.

    Args:
        start: A folder. Its path as people see it counts, even if it has links.
    """
    return next((folder.resolve() for folder in _candidates(start) if not is_submission(folder)), None)


def ignored_configurations(start: Path) -> list[Path]:
    """Return the configurations in a folder and above it that are not used, because they came with a submission."""
    return [folder / CONFIG for folder in _candidates(start) if is_submission(folder)]


def _candidates(start: Path) -> Iterator[Path]:
    here = _as_seen(start)
    return (folder for folder in (here, *here.parents) if (folder / CONFIG).is_file())


def _as_seen(start: Path) -> Path:
    """Return an absolute path, that of the shell if it is the working directory: a folder of a course may be a link."""
    path = Path(os.path.abspath(start))
    shell = Path(os.environ.get("PWD", ""))
    try:
        return shell if shell.is_absolute() and ".." not in shell.parts and shell.samefile(path) else path
    except OSError:
        return path


def is_submission(folder: Path) -> bool:
    """Return whether a folder is among the submissions of a course, so that nothing in it may be executed."""
    if _is_trusted(folder.resolve()):
        return False
    for path in {folder, folder.resolve()}:
        if _SUBMISSIONS & set(path.parts):
            return True
        for outer in path.parents:
            if not (outer / CONFIG).is_file() or distrust(outer):
                continue
            if path.relative_to(outer).parts[0] in _OF_COURSE | _configured(outer):
                return True
    return False


def _configured(course: Path) -> set[str]:
    """Return the first folders of the paths that a configuration sets for submissions, without running it."""
    try:
        tree = ast.parse((course / CONFIG).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    paths = [
        Path(node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and any(isinstance(target, ast.Attribute) and target.attr in _ROLES for target in node.targets)
    ]
    below = [path.relative_to(course) if path.is_relative_to(course) else path for path in paths]
    return {path.parts[0] for path in below if path.parts} - {"..", "/"}


def distrust(course: Path) -> str:
    """Return why the configuration of a course must not run, and what to do about it; empty if it may run."""
    if not hasattr(os, "geteuid") or _is_trusted(course):
        return ""
    sudo = os.environ.get("SUDO_UID", "")
    mine = {0, os.geteuid()} | ({int(sudo)} if os.geteuid() == 0 and sudo.isdigit() else set())
    for path in (course / CONFIG, course):
        if path.lstat().st_uid not in mine:
            return (
                f"{path} belongs to {_account(path.lstat().st_uid)}, and {CONFIG} would run with your rights. If you trust it, "
                f"run 'export {TRUSTED}={course}', and the command again"
            )
    return ""


def _is_trusted(folder: Path) -> bool:
    named = [Path(entry).resolve() for entry in os.environ.get(TRUSTED, "").split(os.pathsep) if entry]
    return folder == _PACKAGES or folder in named


def _account(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"the account {number}"
