"""Display of a run's progress in a terminal."""

from __future__ import annotations

from tqdm import tqdm


class Progress:
    """A progress bar with the remaining time, shown in terminals only: a log file has its own lines.

    Args:
        total: Number of submissions.

    Attributes:
        failed: Number of submissions that could not be graded.
    """

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total, unit="submission", desc="graded", disable=None, smoothing=0.1)
        self.failed = 0

    def show(self, left: int) -> None:
        """Show how many submissions are left, and how many have failed."""
        self._bar.set_postfix_str(f"{self.failed} failed" if self.failed else "", refresh=False)
        self._bar.n = self._bar.total - left
        self._bar.refresh()

    def close(self) -> None:
        """End the bar, which remains visible."""
        self._bar.close()
