"""The ``timestamp.txt`` of a submission: its time, as written by ``nbgrader submit`` or a teacher.

nbgrader reads this file in several places, and most of them raise an error if it is not a date. This module therefore
fixes the file before nbgrader reads it: an unambiguous time is rewritten in nbgrader's format, and a file without one
is renamed. The original always stays next to it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from dateutil.parser import parse
from dateutil.tz import gettz, tzoffset
from nbgrader.utils import parse_utc

NAME, ASIDE = "timestamp.txt", "timestamp-as-written.txt"
_MAX_BYTES = 4096
_YEARS = range(1990, 2200)
_EXAMPLE = "write a time such as '2026-11-28 10:00:00 UTC' into a new timestamp.txt and grade again"
_OFFSET = re.compile(r"(?P<time>.*\d) ?(?P<zone>[+-]\d\d:?\d\d|Z|[A-Za-z][A-Za-z_/]+)$")


@dataclass(frozen=True)
class Timestamp:
    """The content of a ``timestamp.txt``.

    Attributes:
        time: Naive UTC, as in nbgrader; ``None`` if the file states no time.
        why: Why the file states no time.
    """

    time: datetime | None
    why: str = ""


def read_timestamp(folder: Path) -> Timestamp | None:
    """Read the timestamp in a submission's folder; return ``None`` if there is no such file. Never raises."""
    path = folder / NAME
    if not os.path.lexists(path):
        return None
    if path.is_symlink() or not path.is_file():
        return Timestamp(None, "it is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        return Timestamp(None, f"it cannot be opened ({error.strerror})")
    if len(content) > _MAX_BYTES:
        return Timestamp(None, "it is too long")
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return Timestamp(None, "it is not text")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines:
        return Timestamp(None, "it is empty")
    found = [time_of(line) for line in lines]
    times = {stamp.time for stamp in found if stamp.time is not None}
    if len(times) == 1:
        return Timestamp(times.pop())
    return found[0] if not times else Timestamp(None, "it has several dates")


def settle(folder: Path) -> str:
    """Fix the ``timestamp.txt`` of a submission, so that all of nbgrader can read it.

    Returns:
        A remark for a person; empty if there was nothing to do.

    Raises:
        OSError: If the folder cannot be written.
    """
    found = read_timestamp(folder)
    if found is None or (found.time is not None and _nbgrader_reads(folder) == found.time):
        return ""
    aside = folder / ASIDE
    os.replace(folder / NAME, aside) if not aside.is_dir() else os.rename(folder / NAME, _free(aside))
    if found.time is None:
        return f"{NAME}: {found.why}. Graded without a submission time; the file was renamed to {ASIDE}. To set a time, {_EXAMPLE}"
    (folder / NAME).write_text(f"{found.time} UTC\n", encoding="utf-8")
    return f"{NAME} was read as {found.time} UTC; the original is in {ASIDE}"


def _free(path: Path) -> Path:
    return next(p for i in range(2, 1000) if not os.path.lexists(p := path.with_name(f"{path.stem}-{i}{path.suffix}")))


def _nbgrader_reads(folder: Path) -> datetime | None:
    try:
        with (folder / NAME).open() as file:  # the way nbgrader opens it
            time: datetime = parse_utc(file.read().strip())
        return time
    except (ValueError, OverflowError, TypeError, OSError):
        return None


def _zone(name: str, offset: int | None) -> tzinfo:
    """Return the time zone named in a date; raise an error for an unknown one, instead of assuming UTC."""
    zone: tzinfo | None = tzoffset(name, offset) if offset is not None else gettz(name)
    if zone is None:
        raise ValueError(f"the time zone {name!r} is not known")
    return zone


def states_zone(line: str) -> bool:
    """Return whether a time names its time zone."""
    match = _OFFSET.fullmatch(line)
    return match is not None and match["zone"].upper() not in ("AM", "PM")


def time_of(line: str) -> Timestamp:
    """Parse the time in a line.

    Only complete and unambiguous times count, because nbgrader fills in missing parts from the current date.
    """
    plain, zone = line, None
    try:
        if (match := _OFFSET.fullmatch(line)) is not None:
            said = match["zone"]
            if said[0] in "+-Zz" or said.upper() in ("UTC", "GMT"):
                plain = f"{match['time']}{'Z' if said[0] not in '+-' else said}"
            elif said.upper() not in ("AM", "PM"):
                if (zone := gettz(said)) is None:
                    return Timestamp(None, f"the time zone {said[:20]!r} is not known: write +0200 or UTC")
                plain = match["time"]
        if re.match(r"\d{4}\D", plain):
            orders = [{"yearfirst": True, "dayfirst": False}]
        else:
            orders = [{"dayfirst": True}, {"dayfirst": False}, {"yearfirst": True}]
        read = {
            parse(plain, default=default, tzinfos=_zone, **order)
            for default in (datetime(2000, 1, 1), datetime(2003, 2, 2))
            for order in orders
        }
        if len({(time.year, time.month, time.day) for time in read}) != 1:
            return Timestamp(None, f"{line[:40]!r} is not a date, or can be read as several")
        (time,) = read
        time = time.replace(tzinfo=zone) if zone is not None else time
        time = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo is not None else time
    except (ValueError, OverflowError, TypeError, AttributeError, ArithmeticError):
        return Timestamp(None, f"{line[:40]!r} is not a date")
    if time.year not in _YEARS:
        return Timestamp(None, f"{line[:40]!r} has an implausible year")
    return Timestamp(time)
