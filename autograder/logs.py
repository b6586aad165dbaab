"""Lines of a log, safe to be read in a terminal: names of files and students, and texts of submissions, get into them."""

from __future__ import annotations

import logging

_MOST = 4000  # characters of one message


class SafeRecord(logging.LogRecord):
    """A record whose message holds nothing that a terminal would obey, and no line that looks like another message."""

    def getMessage(self) -> str:  # noqa: N802
        message = super().getMessage()
        if len(message) > _MOST:
            message = message[:_MOST] + " ..."
        if message.isprintable():
            return message
        lines = ["".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
                 for line in message.split("\n")]  # fmt: skip
        return "\n    ".join(lines)


def make_safe() -> None:
    """From now on, for all loggers of this process."""
    logging.setLogRecordFactory(SafeRecord)
