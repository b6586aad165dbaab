"""What lies in ``downloaded/LAB/archive``: zips as platforms make them, or what somebody unpacked of them already."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from autograder.collect.archives import (
    DAMAGE,
    MAX_UPLOAD,
    UNREADABLE_KINDS,
    Unreadable,
    is_plain_file,
    kind_of,
    name_in_zip,
    open_in_tar,
    open_in_zip,
    open_zip,
)
from autograder.collect.names import Owner, is_clutter, recognise
from autograder.collect.uploads import short

_MAX_FOLDERS = 20  # of folders in folders
_MAX_FILES = 200_000  # of a download
_IN_MEMORY = 20_000_000  # bytes of an upload; larger ones are put into a file while they are read
_FOREIGN = ("index.html", "downloads.csv", "status.csv", "status.xlsx")  # lists that platforms add


@dataclass
class Upload:
    """A file that somebody uploaded.

    Attributes:
        parts: folders in the download, and its name.
        download: file that it was in; empty where somebody had unpacked it.
        time: when that was downloaded.
        owner: whose it is; ``None`` where no name says so.
    """

    parts: tuple[str, ...]
    download: str
    time: float
    owner: Owner | None
    _open: Callable[[], BinaryIO] = field(repr=False)

    @property
    def path(self) -> str:
        """For a log."""
        return short("/".join(self.parts))

    @property
    def name(self) -> str:
        """What the student called it."""
        return (self.owner.rest if self.owner is not None else "") or self.parts[-1]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content, seekable.

        Raises:
            Unreadable: it is too large, damaged, or locked with a password.
        """
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file, self._open() as packed:
            left = MAX_UPLOAD
            while chunk := _chunk(packed):
                left -= len(chunk)
                if left < 0:
                    raise Unreadable(f"it has more than {MAX_UPLOAD / 1e6:.0f} MB: ask for the notebook alone")
                file.write(chunk)
            file.seek(0)
            yield file  # type: ignore[misc]


@dataclass
class Downloads:
    """All uploads, and what could not be read.

    Attributes:
        uploads: of all downloads.
        failures: one line for each file that may be somebody's and is nobody's, or a download that cannot be read.
    """

    uploads: list[Upload] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def find(archive: Path, released: Collection[str]) -> Downloads:
    """Looks through a folder of downloads.

    Args:
        archive: the folder.
        released: names of the lab's notebooks, without ``.ipynb``.
    """
    found = Downloads()
    for path in _files(archive, found.failures):
        parts = path.relative_to(archive).parts
        if is_clutter(parts):
            continue
        own = recognise(parts, released)
        if own is not None:  # what a student put into it names nobody else
            found.uploads.append(Upload(parts, "", path.stat().st_mtime, own, partial(_open, path)))
            continue
        try:
            inside = _inside(path, released)
        except Unreadable as error:
            found.failures.append(f"{short('/'.join(parts))}: {error}; if it is a download, download it again")
            continue
        found.uploads += inside or [Upload(parts, "", path.stat().st_mtime, None, partial(_open, path))]
    found.uploads = [upload for upload in found.uploads if upload.owner is not None or upload.parts[-1] not in _FOREIGN]
    found.failures += [
        f"{upload.path}{f' in {short(upload.download)}' if upload.download else ''}: no name says whose it is"
        for upload in found.uploads
        if upload.owner is None
    ]
    return found


def _files(folder: Path, failures: list[str], depth: int = 0) -> Iterator[Path]:
    """Files in a folder, without links; what is no file is a failure."""
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        failures.append(f"{short(folder.name)}: it cannot be opened ({error.strerror})")
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            if depth < _MAX_FOLDERS:
                yield from _files(Path(entry.path), failures, depth + 1)
            else:
                failures.append(f"{short(entry.name)}: it is a folder in more than {_MAX_FOLDERS} folders")
        elif entry.is_symlink():
            # an unpacked archive may hold links, to the solution or to another student's notebook
            failures.append(f"{short(entry.name)}: it is a link, which is not followed: copy the file here")
        elif entry.is_file():
            yield Path(entry.path)
        else:
            failures.append(f"{short(entry.name)}: it is no file")


def _inside(path: Path, released: Collection[str]) -> list[Upload]:
    """What a download holds; empty where it is no archive. Nothing of it is read yet; only the names count."""
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(512), path.name)
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({error.strerror})") from None
    found = []
    for name, opener in _listed(path, kind):
        parts = tuple(part for part in name.split("/") if part not in ("", ".", ".."))
        if parts and not is_clutter(parts):
            found.append(Upload(parts, path.name, path.stat().st_mtime, recognise(parts, released), opener))
        if len(found) > _MAX_FILES:
            raise Unreadable(f"it holds more than {_MAX_FILES:,} files")
    return found


def _listed(path: Path, kind: str) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    if kind == "zip":
        archive = open_zip(_open(path))
        for info in filter(is_plain_file, archive.infolist()):
            yield name_in_zip(info), partial(open_in_zip, archive, info)
    elif kind in UNREADABLE_KINDS:
        raise Unreadable(f"it is a {kind} archive, which is not read: unpack it here")
    elif kind:
        try:
            packed = tarfile.open(path)  # noqa: SIM115
            for member in packed:
                if member.isreg():
                    yield member.name, partial(open_in_tar, packed, member)
        except DAMAGE:
            raise Unreadable("it is damaged, cut off, or no archive") from None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _chunk(packed: BinaryIO) -> bytes:
    try:
        return packed.read(1 << 20)
    except DAMAGE:
        raise Unreadable("it is damaged or cut off: ask for it again") from None
