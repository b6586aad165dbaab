"""Safe reading of uploaded archives, within limits and without unpacking anything to a path named in the archive.

Nothing is written to disk: entries are read one at a time, and only on request. The limits apply to each upload
separately.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from autograder.collect.names import is_clutter
from autograder.errors import ArchiveError, ArchiveTooLargeError

MAX_UPLOAD = 500_000_000  # bytes of an uploaded file
MAX_UNPACKED = 200_000_000  # bytes unpacked from it, including nested archives
MAX_ENTRIES = 100_000  # files and folders in it, including nested archives
MAX_DEPTH = 3  # levels of nested archives
_MAX_DIRECTORY = 20_000_000  # bytes of a zip's central directory
_MAX_DICTIONARY = 100_000_000  # bytes of memory for unpacking an xz

# everything that the libraries raise on damaged or malicious files
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
    NotImplementedError, struct.error, OverflowError, IndexError, KeyError, TypeError, AttributeError, MemoryError,
)  # fmt: skip

_MAGIC = (
    ("zip", (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
    ("gz", (b"\x1f\x8b",)),
    ("bz2", (b"BZh",)),
    ("xz", (b"\xfd7zXZ\x00",)),
    ("7z", (b"7z\xbc\xaf'\x1c",)),
    ("rar", (b"Rar!\x1a\x07",)),
)
_SUFFIXES = {
    ".zip": "zip", ".tar": "tar", ".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz", ".7z": "7z", ".rar": "rar",
}  # fmt: skip
UNREADABLE_KINDS = ("7z", "rar")


@dataclass(frozen=True)
class Entry:
    """A file in an archive, with its path and a function that opens it."""

    path: str
    open: Callable[[], BinaryIO]


class Budget:
    """The bytes and entries that may still be unpacked from one upload."""

    def __init__(self) -> None:
        self.bytes, self.entries = MAX_UNPACKED, MAX_ENTRIES

    def count(self) -> None:
        """Count one entry.

        Raises:
            ArchiveTooLargeError: If the upload has too many entries.
        """
        self.entries -= 1
        if self.entries < 0:
            raise ArchiveTooLargeError(f"it has more than {MAX_ENTRIES:,} files")

    def read(self, stream: BinaryIO, most: int = MAX_UNPACKED) -> bytes:
        """Read all of a stream.

        Raises:
            ArchiveTooLargeError: If the stream exceeds what may still be unpacked from the upload.
            ArchiveError: If the stream has more than ``most`` bytes or is damaged.
        """
        limit = min(most, self.bytes)
        content = self.read_some(stream, limit + 1)
        if len(content) > limit:
            if limit < most:
                raise ArchiveTooLargeError(f"it unpacks to more than {MAX_UNPACKED / 1e6:.0f} MB")
            raise ArchiveError(f"it has more than {limit / 1e6:.0f} MB")
        return content

    def read_some(self, stream: BinaryIO, most: int) -> bytes:
        """Read at most ``most`` bytes of a stream.

        Raises:
            ArchiveError: If the stream is damaged.
        """
        try:
            content = stream.read(most)
        except DAMAGE as error:
            raise ArchiveError(_why(error)) from None
        self.bytes -= len(content)
        return content


def kind_of(head: bytes, name: str) -> str:
    """Return the kind of an archive, detected by its first 512 bytes, then by its name.

    Returns:
        ``zip``, ``tar``, ``gz``, ``bz2``, ``xz``, ``7z`` or ``rar``; empty for other files.
    """
    lower = name.lower()
    if lower.endswith((".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".pages")):  # documents in zip format
        return ""
    for kind, marks in _MAGIC:
        if head.startswith(marks):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix)), "")


def entries(kind: str, stream: BinaryIO, budget: Budget) -> Iterator[Entry]:
    """Yield the files in an archive, except links, devices and files added by operating systems.

    A compressed file that is not a tar yields a single entry without a name.

    Args:
        kind: The kind of the archive, from :func:`kind_of`.
        stream: The archive as a seekable stream.
        budget: The budget of the upload.

    Raises:
        ArchiveError: If the archive is damaged, too large, or of a kind that cannot be read.
    """
    if kind in UNREADABLE_KINDS:
        raise ArchiveError(f"it is a {kind} archive, which is not supported: ask for a .zip or the .ipynb")
    try:
        if kind == "zip":
            yield from _of_zip(stream, budget)
        elif kind == "tar":
            yield from _of_tar(stream, budget)
        else:
            content = budget.read(_decompressed(kind, stream))
            if content[257:262] == b"ustar":
                yield from _of_tar(io.BytesIO(content), budget)
            else:
                yield Entry("", lambda: io.BytesIO(content))
    except ArchiveError:
        raise
    except DAMAGE as error:
        raise ArchiveError(_why(error)) from None


def name_in_zip(info: zipfile.ZipInfo) -> str:
    """Return the name of a zip entry, with ``/`` between its parts.

    Many programs write UTF-8 without declaring it, and Windows separates the parts with backslashes.
    """
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Open a file in a zip.

    Raises:
        ArchiveError: If the file is locked with a password, damaged, or compressed with an unsupported method.
    """
    if info.flag_bits & 0x1:
        raise ArchiveError("it is protected by a password: ask for it without one")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        raise ArchiveError("it uses an unsupported compression: ask for a plain .zip or the .ipynb")
    try:
        return archive.open(info)  # type: ignore[return-value]
    except DAMAGE as error:
        raise ArchiveError(_why(error)) from None


def open_in_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    """Open a regular file in a tar."""
    opened = archive.extractfile(member)
    assert opened is not None  # only folders and the like have no content
    return opened  # type: ignore[return-value]


def is_plain_file(info: zipfile.ZipInfo) -> bool:
    """Return whether an entry of a zip is a regular file, not a folder or link."""
    mode = info.external_attr >> 16
    return not info.filename.endswith(("/", "\\")) and (not stat.S_IFMT(mode) or stat.S_ISREG(mode))


def open_zip(stream: BinaryIO) -> zipfile.ZipFile:
    """Open a zip, but only if its central directory is not too long, because Python reads all of it at once.

    Raises:
        ArchiveError: If the stream is not a zip, is truncated, or has too many entries.
    """
    try:
        if _directory_bytes(stream) > _MAX_DIRECTORY:
            raise ArchiveError("it has too many files")
        stream.seek(0)
        return zipfile.ZipFile(stream)
    except ArchiveError:
        raise
    except DAMAGE as error:
        raise ArchiveError(_why(error)) from None


def _of_zip(stream: BinaryIO, budget: Budget) -> Iterator[Entry]:
    archive = open_zip(stream)
    for info in archive.infolist():
        budget.count()
        path = name_in_zip(info)
        if is_plain_file(info) and not is_clutter(_parts(path)):
            yield Entry(path, partial(open_in_zip, archive, info))


def _of_tar(stream: BinaryIO, budget: Budget) -> Iterator[Entry]:
    stream.seek(0)
    archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
    for member in archive:
        budget.count()
        if member.isreg() and not is_clutter(_parts(member.name)):
            yield Entry(member.name, partial(open_in_tar, archive, member))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _decompressed(kind: str, stream: BinaryIO) -> BinaryIO:
    stream.seek(0)
    if kind == "gz":
        return gzip.GzipFile(fileobj=stream, mode="rb")  # type: ignore[return-value]
    if kind == "bz2":
        return bz2.BZ2File(stream, "rb")  # type: ignore[return-value]
    return _Xz(stream)  # type: ignore[return-value]


class _Xz:
    """A reader for xz files with a memory limit, which Python's own reader lacks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, most: int) -> bytes:
        decompressor, content = lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY), b""
        packed = self._stream.read(MAX_UPLOAD)
        content = decompressor.decompress(packed, max_length=most)
        if not decompressor.eof and len(content) < most:
            raise EOFError
        return content


def _directory_bytes(stream: BinaryIO) -> int:
    """Return the size of a zip's central directory according to its end record, in the old or the ZIP64 format."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 70_000))
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return 0  # not a zip: Python will raise an error
    (said,) = struct.unpack_from("<L", tail, end + 12)
    large = end - 20 - 56
    if large >= 0 and tail[large : large + 4] == b"PK\x06\x06":
        (said,) = struct.unpack_from("<Q", tail, large + 40)
    return 0 if said == 0xFFFFFFFF else int(said)


def _why(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it is too large"
    return "it is damaged, cut off, or not an archive: ask for it again"
