"""Files of a course, written so that nothing is half-written, whenever the command is interrupted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_DRAFT = ".draft-of-"


def content_of(file: Path) -> bytes | None:
    """Return the content of a file of a course; ``None`` if there is no such file.

    Raises:
        IsADirectoryError: There is a folder of this name.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder, but the course has a file of this name: rename the folder")
    return file.read_bytes() if file.exists() else None


def write_files(root: Path, writes: Mapping[Path, bytes | None]) -> None:
    """Write files in the given order, each in one step, after drafts of all of them have been written.

    The lock of the course must be held.

    Args:
        root: Folder of the course.
        writes: Path -> new content; ``None`` deletes the file.
    """
    folders = {file: _draft_folder(root, file) for file in writes}
    for folder in set(folders.values()):
        for left in folder.glob(f"{_DRAFT}*"):  # of a command that was killed
            left.unlink(missing_ok=True)
    drafts: dict[Path, Path] = {}
    try:
        for file, content in writes.items():
            if content is None:
                continue
            folders[file].mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=_DRAFT, dir=folders[file])
            drafts[file] = Path(name)
            with os.fdopen(descriptor, "wb") as draft, naming(file):
                draft.write(content)
                draft.flush()
            drafts[file].chmod(file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~umask())
        for file, content in writes.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                os.replace(drafts[file], file)
    finally:
        for unused in drafts.values():
            unused.unlink(missing_ok=True)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Add the name of a file to an error of the system that has none, such as one of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise


def umask() -> int:
    """Return which permissions new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _draft_folder(root: Path, file: Path) -> Path:
    """Return a folder on the same drive, but not that of the file: nbgrader copies what is next to a master text."""
    return file.parent if file.parent == root else file.parent.parent
