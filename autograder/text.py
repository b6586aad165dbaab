"""Text for terminals, logs and spreadsheets that must not obey it, as it may come from a submission."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from io import StringIO

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet treats text that begins with these as a formula


_MAX_TEXT = 500  # characters of a text that may come from a submission


def printable(text: object, most: int = 5000) -> str:
    """Return text of several lines, shortened, that is safe for a terminal.

    Characters that a terminal would obey, or that reorder the text around them, are replaced.
    """
    lines = str(text)[: most + 1].split("\n")
    shown = "\n".join(
        "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines
    )
    return shown if len(shown) <= most else shown[:most] + " ..."


def safe_line(text: object, most: int = _MAX_TEXT) -> str:
    """Return text on one line, shortened, that is safe for a terminal.

    Characters that a terminal would obey, or that reorder the text around them, are replaced.
    """
    shown = (
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[: most + 1]
    )
    line = "".join(shown)
    return line if len(line) <= most else line[:most] + " ..."


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Format columns of text, the ``left`` ones aligned to the left and all others to the right."""
    lines = [list(header), *([safe_line(field) for field in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            field.ljust(width) if i in left else field.rjust(width)
            for i, (field, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows as CSV; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def closest(name: str, known: Iterable[str], what: str) -> LookupError:
    """Return the error for an unknown name, with similar names and all existing ones in its message."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; similar: {', '.join(map(safe_line, near))}" if near else ""
    return LookupError(f"no {what} {safe_line(name)!r}{hint}; there are: {', '.join(map(safe_line, names)) or 'none'}")


def number(points: float | None) -> str:
    """Format points without needless decimals, or return an empty string for ``None``."""
    return "" if points is None else f"{points:.6g}"
