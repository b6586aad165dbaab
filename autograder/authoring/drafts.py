"""Drafts of folders: what a build makes is complete before it takes the place of what was there, in one step.

A build that fails or is killed therefore leaves everything as it was. What a killed one leaves behind is hidden, and
the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbgrader.utils import rmtree

from autograder.errors import CourseError
from autograder.sandbox.libc import exchange


@contextmanager
def locked(folder: Path, action: str = "build") -> Iterator[None]:
    """Hold a folder's lock, which the kernel releases however this process ends.

    Args:
        folder: The folder.
        action: What is done with it, for the message.

    Raises:
        CourseError: Another process holds it.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise CourseError(
            f"another {action} of {folder.name} is running; run the command again when it has ended"
        ) from None
    except OSError:  # without locks on this file system, there is no way to tell
        pass
    try:
        yield
    finally:
        os.close(place)


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """Create a place for the draft of a folder: a path with the same name, in a hidden folder next to it.

    The lock of the lab must be held, so that a hidden folder that is there already was left by a build that was killed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.draft-*"):
        rmtree(str(left))
    hidden = tempfile.mkdtemp(prefix=f".{target.name}.draft-", dir=target.parent)
    try:
        yield Path(hidden, target.name)
    finally:
        rmtree(hidden)


def put_in_place(draft: Path, target: Path) -> None:
    """Put a finished folder in the place of another; the draft is then what was there before.

    Where the file system cannot exchange folders, as in some containers, each file is replaced in one step.
    """
    if not target.exists():
        os.rename(draft, target)
        return
    try:
        exchange(str(draft), str(target))
    except (OSError, AttributeError):  # the latter if the C library lacks the call
        _replace_files(draft, target)


def _replace_files(draft: Path, target: Path) -> None:
    made = {path.relative_to(draft) for path in draft.rglob("*") if not path.is_dir()}
    for name in sorted(made):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft / name, target / name)
    for path in sorted(target.rglob("*"), reverse=True):
        if path.relative_to(target) not in made:
            with suppress(OSError):  # a folder that still has files
                path.rmdir() if path.is_dir() else path.unlink()
