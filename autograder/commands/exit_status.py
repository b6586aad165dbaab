"""The end of a command: with a message and exit status that people and scripts expect, whatever went wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from traceback import print_exception

from autograder.errors import CourseError

INTERRUPTED, PIPE_CLOSED = 130, 141  # as in shells: 128 plus the number of the signal


def ended(command: Callable[[], int], *, traceback: bool = False) -> int:
    """Run a command and return its exit status.

    In addition to the command's own status, this is 2 if arguments, files, course or machine are unusable, 130 if a
    person interrupts it, and 141 if nobody reads its output (``| head``). Errors of the program itself are raised with
    their traceback.

    Args:
        command: The command; returns its exit status.
        traceback: Whether to show the traceback of every error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # characters that the stream cannot encode are no reason to stop
            stream.reconfigure(errors="replace")
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _say("interrupted; finished results are stored, run the command again for the rest")
        return INTERRUPTED
    except subprocess.CalledProcessError as error:  # it has printed the reason
        _say(f"{shlex.join(map(str, error.cmd))} failed")
        return 2
    except Exception as error:
        if (reason := _explained(error)) is None:
            raise
        if traceback:
            print_exception(error)
        _say(reason)
        _discard_output()
        return 2


def require_files(paths: Iterable[Path]) -> None:
    """Reject files that cannot be read, before anything is done.

    Raises:
        ValueError: A file cannot be read; the message has one line for each such file.
    """
    problems = [problem for path in paths if (problem := _unreadable(path))]
    if problems:
        raise ValueError("\n".join(problems))


def _unreadable(path: Path) -> str:
    try:
        if path.is_dir():
            return f"{path} is a folder: name the notebook in it"
        if path.exists() and not path.is_file():  # reading a pipe would block
            return f"{path} is not a file"
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ValueError as error:
        return f"{str(path)!r}: {error}"
    return ""


def _explained(error: Exception) -> str | None:
    """Describe an error of the user's files, course or machine; return ``None`` for others, which are bugs."""
    # an error of a module that is not loaded cannot have been raised
    database = getattr(sys.modules.get("sqlalchemy.exc"), "SQLAlchemyError", ())
    broken = getattr(sys.modules.get("amllab.checks.runner"), "ChecksBrokenError", ())
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{', '.join(names) or 'output'}: {error.strerror}"
    if isinstance(error, database):
        return f"the gradebook cannot be read: {getattr(error, 'orig', None) or error}"
    if isinstance(error, (OSError, LookupError, ValueError, CourseError, broken)):
        return str(error)
    return None


def _say(message: str) -> None:
    from autograder.text import printable

    if sys.stderr is not None:
        print(f"autograder: {printable(message)}", file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Discard output that is still buffered: Python would try to write it again on exit, and complain."""
    if sys.stdout is None:
        return
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout has no file
        return
