"""The files in ``downloaded/LAB/archive``: archives from learning platforms, or files already unpacked from them."""

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
    is_plain_file,
    kind_of,
    name_in_zip,
    open_in_tar,
    open_in_zip,
    open_zip,
)
from autograder.collect.names import Owner, is_clutter, recognise
from autograder.collect.uploads import short
from autograder.errors import ArchiveError

_MAX_FOLDERS = 20  # levels of nested folders
_MAX_FILES = 200_000  # per download
_IN_MEMORY = 20_000_000  # bytes of an upload; larger ones are buffered in a temporary file
_FOREIGN = ("index.html", "downloads.csv", "status.csv", "status.xlsx")  # lists added by platforms


@dataclass
class Upload:
    """A file that a student uploaded.

    Attributes:
        parts: Folders in the download, followed by the file name.
        download: Name of the downloaded archive; empty if the file was already unpacked.
        time: Time of the download, as a POSIX timestamp.
        owner: The student; ``None`` if no name identifies one.
    """

    parts: tuple[str, ...]
    download: str
    time: float
    owner: Owner | None
    _open: Callable[[], BinaryIO] = field(repr=False)

    @property
    def path(self) -> str:
        """Path of the upload, shortened for log messages."""
        return short("/".join(self.parts))

    @property
    def name(self) -> str:
        """File name that the student gave the upload."""
        return (self.owner.rest if self.owner is not None else "") or self.parts[-1]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the content as a seekable stream.

        Raises:
            ArchiveError: If the upload is too large, damaged, or locked with a password.
        """
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file, self._open() as packed:
            left = MAX_UPLOAD
            while chunk := _chunk(packed):
                left -= len(chunk)
                if left < 0:
                    raise ArchiveError(f"it has more than {MAX_UPLOAD / 1e6:.0f} MB: ask for the notebook alone")
                file.write(chunk)
            file.seek(0)
            yield file  # type: ignore[misc]


@dataclass
class Downloads:
    """All uploads, and the files that could not be read or assigned.

    Attributes:
        uploads: Uploads from all downloads.
        failures: One line for each download that cannot be read, and for each file that may be a submission but
            cannot be assigned to a student.
    """

    uploads: list[Upload] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def find(archive: Path, released: Collection[str]) -> Downloads:
    """Find all uploads in a folder of downloads.

    Args:
        archive: The folder.
        released: Names of the lab's notebooks, without ``.ipynb``.
    """
    found = Downloads()
    for path in _files(archive, found.failures):
        parts = path.relative_to(archive).parts
        if is_clutter(parts):
            continue
        own = recognise(parts, released)
        if own is not None:  # names inside it are the student's own and identify no one else
            found.uploads.append(Upload(parts, "", path.stat().st_mtime, own, partial(_open, path)))
            continue
        try:
            inside = _inside(path, released)
        except ArchiveError as error:
            found.failures.append(f"{short('/'.join(parts))}: {error}; if it is a download, download it again")
            continue
        found.uploads += inside or [Upload(parts, "", path.stat().st_mtime, None, partial(_open, path))]
    found.uploads = [upload for upload in found.uploads if upload.owner is not None or upload.parts[-1] not in _FOREIGN]
    found.failures += [
        f"{upload.path}{f' in {short(upload.download)}' if upload.download else ''}: the file name does not tell whose it is"
        for upload in found.uploads
        if upload.owner is None
    ]
    return found


def _files(folder: Path, failures: list[str], depth: int = 0) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders; anything else counts as a failure.

    Links to files are followed, links to folders are not.
    """
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
                failures.append(f"{short(entry.name)}: it is nested in more than {_MAX_FOLDERS} folders")
        elif entry.is_symlink():
            # an unpacked archive may hold links, to the solution or to another student's notebook
            failures.append(f"{short(entry.name)}: it is a link, which is not followed: copy the file here")
        elif entry.is_file():
            yield Path(entry.path)
        else:
            failures.append(f"{short(entry.name)}: it is not a file")


def _inside(path: Path, released: Collection[str]) -> list[Upload]:
    """List the uploads in a download; empty if it is not an archive.

    Only names are read at this point, not contents.
    """
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(512), path.name)
    except OSError as error:
        raise ArchiveError(f"it cannot be opened ({error.strerror})") from None
    found = []
    for name, opener in _listed(path, kind):
        parts = tuple(part for part in name.split("/") if part not in ("", ".", ".."))
        if parts and not is_clutter(parts):
            found.append(Upload(parts, path.name, path.stat().st_mtime, recognise(parts, released), opener))
        if len(found) > _MAX_FILES:
            raise ArchiveError(f"it has more than {_MAX_FILES:,} files")
    return found


def _listed(path: Path, kind: str) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    if kind == "zip":
        archive = open_zip(_open(path))
        for info in filter(is_plain_file, archive.infolist()):
            yield name_in_zip(info), partial(open_in_zip, archive, info)
    elif kind in UNREADABLE_KINDS:
        raise ArchiveError(f"it is a {kind} archive, which is not supported: unpack it here")
    elif kind:
        try:
            packed = tarfile.open(path)  # noqa: SIM115
            for member in packed:
                if member.isreg():
                    yield member.name, partial(open_in_tar, packed, member)
        except DAMAGE:
            raise ArchiveError("it is damaged, cut off, or not an archive") from None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _chunk(packed: BinaryIO) -> bytes:
    try:
        return packed.read(1 << 20)
    except DAMAGE:
        raise ArchiveError("it is damaged or cut off: ask for it again") from None
