"""Live progress of a training loop, in notebooks and in terminals.

A notebook shows one text that is updated in place, so that the saved notebook contains only its last state: bars, and
curves made of characters, which any theme and any text viewer can display. A terminal shows tqdm bars. There is no
output with ``AMLLAB_PROGRESS=0``, or when output is captured or written to a file.
"""

from __future__ import annotations

import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from torch import Tensor
from tqdm import tqdm

Batch = TypeVar("Batch")
Place = Literal["notebook", "terminal", "nowhere"]

VARIABLE = "AMLLAB_PROGRESS"
SECONDS_BETWEEN_UPDATES = 0.2
COUNTER = "{desc:<7} {n_fmt:>4}/{total_fmt:<4} |{bar:20}| "
LIVE = COUNTER + "{elapsed}, {remaining} left, {rate_fmt}{postfix}"
DONE = COUNTER + "{elapsed}, {rate_fmt}"
LEVELS = "▁▂▃▄▅▆▇█"
MOST_LEVELS = 60  # length of a curve, which shows the last values
STOPPING, STOPPED = "interrupted: stops after this epoch; interrupt again to stop now", "stopped by an interrupt"


class Epochs:
    """An iterable over epochs, like ``range(max_epochs)``, that displays the progress of training.

    The display shows the epochs and batches done, the time left, current figures and their curves. When the loop ends,
    even by ``break`` or an error, the display closes and keeps its last state.

    Ctrl-C, or the notebook's stop button, makes the current epoch the last one: the code after the loop still runs, so
    that model and history are usable. A second interrupt ends the loop at once.

    Args:
        max_epochs: number of epochs, if the loop does not end earlier.
        patience: patience of early stopping, in epochs; if given, the display shows how much of it is left, next to the
            best ``val_loss``.

    >>> for epoch in (progress := Epochs(2)):
    ...     for batch in progress.batches([1.0, 2.0]):
    ...         progress.show(loss=batch)
    ...     progress.log(train_loss=1.5)
    """

    def __init__(self, max_epochs: int, patience: int | None = None) -> None:
        self.max_epochs = max_epochs
        self.patience = patience
        self._place = _place()
        self._epoch = 0
        self._epochs: tqdm | None = None
        self._batches: tqdm | None = None
        self._curves: dict[str, list[float]] = {}
        self._logged = 0  # epoch of their last values
        self._handle: Any = None
        self._shown_at = 0.0
        self._interrupted, self._ended, self._told = threading.Event(), False, False

    def __len__(self) -> int:
        return self.max_epochs

    def __iter__(self) -> Iterator[int]:
        # a second loop gets its own display
        self._curves, self._handle = {}, None
        self._ended, self._told = False, False
        with self._bar("epochs", self.max_epochs, "epoch") as self._epochs:
            self._refresh()
            try:
                with _first_interrupt() as self._interrupted:
                    for epoch in range(self.max_epochs):
                        self._epoch = epoch
                        yield epoch
                        self._count(epoch + 1)
                        if self._interrupted.is_set():
                            break
            finally:
                self._epochs.bar_format = DONE  # without the time left
                self._ended = True
                self._refresh()
        self._epochs = None

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Iterate over the batches of ``loader``, with a progress bar that disappears at the end.

        Args:
            loader: any iterable; if it has a length, the bar shows the time left.
        """
        length = len(loader) if isinstance(loader, Sized) else None
        with self._bar("batches", length, "batch", leave=False) as bar:
            self._batches = bar
            try:
                for batch in loader:
                    yield batch
                    bar.update()
                    self._refresh(throttled=True)
            finally:
                self._batches = None
                self._refresh()

    def show(self, **figures: float | Tensor) -> None:
        """Show current figures next to the bar of batches.

        The display is updated a few times a second at most, so that a call in each batch costs little.

        Args:
            figures: values by name, such as ``loss=0.5``: numbers or tensors of one element.

        Raises:
            OverflowError: an integer is too large for a float.
        """
        for value in figures.values():  # invalid figures are an error even without a display
            if not isinstance(value, Tensor):
                float(value)
        bar = self._epochs if self._batches is None else self._batches
        if bar is None or bar.disable or time.monotonic() - self._shown_at < SECONDS_BETWEEN_UPDATES:
            return
        bar.set_postfix_str(_text(figures), refresh=False)
        self._refresh()

    def log(self, **figures: float | Tensor) -> None:
        """Show the figures of the epoch that has ended, with their curves over all epochs.

        Args:
            figures: values by name, such as ``val_loss=0.5``: numbers or tensors of one element.
        """
        if self._place == "nowhere":
            return
        self._logged = self._epoch
        for name, value in figures.items():
            self._curves.setdefault(name, []).append(_plain(value))
        if self._place == "terminal":
            tqdm.write(f"epoch {self._epoch}: {_text(figures)}  {self._best()}".rstrip(), file=sys.stderr)
        self._count(self._epoch + 1)

    def _best(self) -> str:
        """Describe the lowest validation loss and its epoch, if it is logged."""
        losses = [math.inf if math.isnan(value) else value for value in self._curves.get("val_loss", [])]
        if not losses or min(losses) == math.inf:
            return ""
        best = losses.index(min(losses))
        since = len(losses) - 1 - best
        ago = f", {since} epoch{'s' if since > 1 else ''} ago" if since else ""
        left = "" if self.patience is None else f", patience left {max(self.patience - since, 0)} of {self.patience}"
        return f"best {_number(losses[best])} in epoch {best}{ago}{left}"

    def _figures(self) -> list[str]:
        """Return a line for each logged figure, with its last value and its curve."""
        width = max(map(len, self._curves), default=0)
        lines: list[str] = []
        for name, values in self._curves.items():
            # losses share a scale, and so do accuracies, so that their curves can be compared
            together = [v for other, of in self._curves.items() if _kind(other) == _kind(name) for v in of]
            head = f"epoch {self._logged}:" if not lines else ""
            line = f"{head:<10} {name:<{width}}  {_number(values[-1]):<8} {_curve(values, together)}"
            lines.append(f"{line}  {self._best()}".rstrip() if name == "val_loss" else line)
        return lines

    def _count(self, done: int) -> None:
        if self._epochs is not None and done > self._epochs.n:
            self._epochs.update(done - self._epochs.n)
        self._refresh()

    def _interruption(self) -> list[str]:
        if not self._interrupted.is_set():
            return []
        return [STOPPED if self._ended else STOPPING]

    @contextmanager
    def _bar(self, name: str, total: int | None, unit: str, leave: bool | None = None) -> Iterator[tqdm]:
        options: dict[str, Any] = {"total": total, "desc": name, "unit": unit, "leave": leave}
        if total is not None:
            options["bar_format"] = LIVE
        if self._place == "notebook":  # tqdm counts and formats, _refresh displays
            options |= {"file": io.StringIO(), "mininterval": float("inf"), "ascii": False}
        elif self._place == "terminal":
            options |= {"file": sys.stderr, "dynamic_ncols": True}
        bar = tqdm(disable=self._place == "nowhere", **options)
        try:
            yield bar
        finally:
            bar.close()

    def _refresh(self, *, throttled: bool = False) -> None:
        """Update the display; if ``throttled``, only when the last update was not just before."""
        now = time.monotonic()
        if self._place == "nowhere" or (throttled and now - self._shown_at < SECONDS_BETWEEN_UPDATES):
            return
        self._shown_at = now
        bars = [bar for bar in (self._epochs, self._batches) if bar is not None]
        if self._place == "terminal":
            if self._interrupted.is_set() and not self._told:
                self._told = True
                tqdm.write(STOPPING, file=sys.stderr)
            for bar in bars:
                bar.refresh()
            return
        text = "\n".join([*map(str, bars), *self._figures(), *self._interruption()])
        self._handle = _display(text, self._handle)


@contextmanager
def _first_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, instead of raising KeyboardInterrupt.

    If another handler of Ctrl-C is installed, or outside the main thread, nothing changes and the event is never set.
    """
    event = threading.Event()
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield event
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        event.set()  # nothing else: the signal may arrive in the middle of an update of the display

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _place() -> Place:
    """Return where to display progress, if anywhere."""
    if os.environ.get(VARIABLE) == "0":
        return "nowhere"
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        # Code that captures prints, such as the course's checks, does not expect displays either.
        return "nowhere" if isinstance(sys.stdout, io.StringIO) else "notebook"
    return "terminal" if sys.stderr.isatty() else "nowhere"


def _text(figures: dict[str, float | Tensor]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _kind(name: str) -> str:
    """Return the last part of a name, such as ``"loss"`` for ``"val_loss"``."""
    return name.rpartition("_")[2]


def _curve(values: list[float], scale: list[float]) -> str:
    """Return a character for each value, with a height relative to the range of ``scale``.

    NaN and infinity are crosses. Long curves are cut to their last values.
    """
    finite = [value for value in scale if math.isfinite(value)]
    low, width = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    steps = (len(LEVELS) - 1) / (width or 1.0)
    return "".join(LEVELS[round((v - low) * steps)] if math.isfinite(v) else "×" for v in values[-MOST_LEVELS:])


def _plain(value: float | Tensor) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


def _number(value: float | Tensor) -> str:
    value = _plain(value)
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def _display(text: str, handle: Any) -> Any:
    """Show plain text in the output of ``handle``, or in a new output of the cell; return the handle."""
    from IPython.display import display

    data = {"text/plain": text}
    if handle is None:
        return display(data, raw=True, display_id=True)
    handle.update(data, raw=True)
    return handle
