"""Log messages made safe for terminals, as they may contain names of files and students, and texts of submissions."""

from __future__ import annotations

import logging

_MOST = 4000  # characters per message


class SafeRecord(logging.LogRecord):
    """A log record whose message is safe to show.

    The message contains no control sequences for a terminal, and no line that looks like another message.
    """

    def getMessage(self) -> str:  # noqa: N802
        """Return the message, shortened, with unprintable characters replaced and further lines indented."""
        message = super().getMessage()
        if len(message) > _MOST:
            message = message[:_MOST] + " ..."
        if message.isprintable():
            return message
        lines = ["".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
                 for line in message.split("\n")]  # fmt: skip
        return "\n    ".join(lines)


def make_safe() -> None:
    """Make all loggers of this process create safe records from now on."""
    logging.setLogRecordFactory(SafeRecord)
