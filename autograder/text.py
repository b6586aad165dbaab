"""Text for terminals, logs and spreadsheets that must not obey it, as it may come from a submission."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Sequence
from io import StringIO

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet treats text that begins with these as a formula
_MAX_TEXT = 500  # characters of a text that may come from a submission
_NARROW, _NAME = 6, 12  # characters of a column that its heading may use unbroken; that a shortened name keeps


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
    fields = [[safe_line(field) for field in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in fields)]) for i, name in enumerate(header)]
    return _columns(range(len(header)), [[name] for name in header], widths, fields, left)


def fitted(header: Sequence[str], rows: Iterable[Sequence[str]], width: int, left: Sequence[int] = (0,)) -> str:
    """Format columns like :func:`table`, in lines of at most ``width`` characters as far as possible.

    Headings of numbers are broken into several lines, and long names in the first column are shortened. Columns that
    still do not fit follow in a further table, which repeats the first column.
    """
    fields = [[safe_line(field) for field in row] for row in rows]
    text = table(header, fields, left)
    if max(map(len, text.splitlines())) <= width:
        return text
    longest = [max([_NARROW, *(len(row[i]) for row in fields)]) for i in range(len(header))]
    heads = [[name] if i in left else _broken(name, longest[i]) for i, name in enumerate(header)]
    widths = [max([*map(len, lines), *(len(row[i]) for row in fields)]) for i, lines in enumerate(heads)]
    others = sum(width + 2 for width in widths[1:])
    # at most a quarter of the line if there has to be a further table anyway
    most = width - others if width - others >= _NAME else max(_NAME, width // 4)
    widths[0] = min(widths[0], max(most, len(header[0])))
    tables: list[list[int]] = [[0]]
    for i in range(1, len(header)):
        if len(tables[-1]) > 1 and sum(widths[j] + 2 for j in tables[-1]) + widths[i] > width:
            tables.append([0])
        tables[-1].append(i)
    return "\n\n".join(_columns(columns, heads, widths, fields, left) for columns in tables)


def _columns(
    columns: Sequence[int],
    heads: Sequence[Sequence[str]],
    widths: Sequence[int],
    rows: Sequence[Sequence[str]],
    left: Sequence[int],
) -> str:
    """Format some of the columns, with headings of several lines."""
    height = max(len(heads[i]) for i in columns)
    lines = [[([""] * height + list(heads[i]))[k - height] for i in columns] for k in range(height)]
    lines += [["-" * widths[i] for i in columns], *([_shortened(row[i], widths[i]) for i in columns] for row in rows)]
    return "\n".join(
        "  ".join(
            field.ljust(widths[i]) if i in left else field.rjust(widths[i])
            for i, field in zip(columns, line, strict=True)
        ).rstrip()
        for line in lines
    )


def _broken(name: str, width: int) -> list[str]:
    """Break a heading into lines at spaces, and after ``_`` and ``-``; a part that is too long stays whole."""
    lines = [""]
    for part in re.findall(r"[^\s_-]+[_-]*\s*|[_-]+\s*", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


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


def counted(count: int, singular: str, plural: str = "") -> str:
    """Format a number of things.

    >>> counted(1, "cell"), counted(2, "cell"), counted(2, "cell was", "cells were")
    ('1 cell', '2 cells', '2 cells were')
    """
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def number(points: float | None) -> str:
    """Format points without needless decimals, or return an empty string for ``None``."""
    return "" if points is None else f"{points:.6g}"
