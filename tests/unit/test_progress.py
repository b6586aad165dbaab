"""The live display: what it counts and keeps, and that it is closed however the loop ends."""

from __future__ import annotations

import io
import math
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tqdm import tqdm

from amllab import progress
from amllab.progress import STOPPING, Epochs


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """The outputs of a notebook, each with all texts that it has shown."""
    shown: dict[int, list[str]] = {}

    def display(text: str, handle: int | None) -> int:
        handle = len(shown) if handle is None else handle
        shown.setdefault(handle, []).append(text)
        return handle

    monkeypatch.setattr(progress, "_place", lambda: "notebook")
    monkeypatch.setattr(progress, "_display", display)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    return shown


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    assert not getattr(tqdm, "_instances", ())


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """Handle interrupts even if a shell started the tests in the background, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def loop(epochs: Epochs, *, stop: int = 99, error: BaseException | None = None) -> list[tuple[int, int]]:
    seen = []
    for epoch in epochs:
        for batch in epochs.batches([10, 20, 30]):
            seen.append((epoch, batch))
            epochs.show(loss=batch / 100, acc=torch.tensor(0.25, requires_grad=True))
            if error is not None and seen[-1] == (1, 20):
                raise error
        epochs.log(train_loss=0.5, val_loss=epoch / 10)
        if epoch == stop:
            break
    return seen


def test_epochs_count_like_range(outputs: dict[int, list[str]]) -> None:
    """Epochs counts like range."""
    assert loop(Epochs(2)) == [(0, 10), (0, 20), (0, 30), (1, 10), (1, 20), (1, 30)]
    assert len(Epochs(7)) == 7


def test_notebook_final_text(outputs: dict[int, list[str]]) -> None:
    """One short text stays in the notebook."""
    loop(Epochs(10))
    assert list(outputs) == [0]
    epochs, train_loss, val_loss = outputs[0][-1].splitlines()
    assert "10/10" in epochs
    assert "left" not in epochs
    assert train_loss == "epoch 9:   train_loss  0.500    ▅▅▅▅▅▅▅▅▅▅"
    assert val_loss == "           val_loss    0.900    ▁▂▃▃▄▅▆▆▇█  best 0.000 in epoch 0, 9 epochs ago"


def test_curves_scale_and_gaps(outputs: dict[int, list[str]]) -> None:
    """Curves of losses share a scale, and values that are not finite are shown as gaps."""
    for epoch in (epochs := Epochs(5, patience=2)):
        val_loss = [1.0, math.nan, 0.0, 3.0, math.inf][epoch]
        epochs.log(train_loss=epoch, val_loss=val_loss, val_acc=epoch / 10)
        if epoch == 3:
            assert "best 0.000 in epoch 2, 1 epoch ago, patience left 1 of 2" in outputs[0][-1]
    rows = outputs[0][-1].splitlines()[1:]
    assert [row.split()[-1] for row in (rows[0], rows[2])] == ["▁▃▅▆█", "▁▃▅▆█"]
    assert "inf      ▃×▁▆×  best 0.000 in epoch 2, 2 epochs ago, patience left 0 of 2" in rows[1]


def test_curves_fit_in_line(outputs: dict[int, list[str]]) -> None:
    """Long curves, also those without any number, fit in a line."""
    for _ in (epochs := Epochs(200)):
        epochs.log(val_loss=math.nan, acc=1)
    _, loss, acc = outputs[0][-1].splitlines()
    assert loss.endswith("×" * 60)
    assert acc.endswith("▁" * 60)
    assert max(map(len, outputs[0][-1].splitlines())) < 100


def test_notebook_batches_and_figures(outputs: dict[int, list[str]]) -> None:
    """During an epoch, the notebook shows its batches and the latest figures."""
    loop(Epochs(2))
    live = [text for text in outputs[0] if "loss 0.200  acc 0.250" in text]
    assert "epoch 0:   train_loss  0.500" in live[-1]  # during the second epoch, the figures of the first are shown
    assert "batches" in live[0]
    assert "1/3" in live[0]
    assert "left" in live[0]


def test_early_stop_shows_epochs_run(outputs: dict[int, list[str]]) -> None:
    """After an early stop, the display shows how many epochs were run."""
    loop(Epochs(10), stop=3)
    assert "4/10" in outputs[0][-1]
    assert "epoch 3: " in outputs[0][-1]
    assert "batches" not in outputs[0][-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("in the loop")])
def test_error_closes_display(outputs: dict[int, list[str]], error: BaseException) -> None:
    """An error in the loop closes the display and is raised again."""
    with pytest.raises(type(error)):
        loop(Epochs(5), error=error)
    assert "1/5" in outputs[0][-1]
    assert "batches" not in outputs[0][-1]


def test_interrupt_first_finishes_epoch(outputs: dict[int, list[str]]) -> None:
    """The first interrupt ends the loop after the current epoch."""
    seen = []
    for epoch in (epochs := Epochs(9)):
        for batch in epochs.batches([10, 20]):
            if (epoch, batch) == (2, 10):
                os.kill(os.getpid(), signal.SIGINT)
            seen.append((epoch, batch))
        epochs.log(val_loss=1 - epoch / 10)
    assert seen[-2:] == [(2, 10), (2, 20)]
    assert any("2/9" in text and STOPPING in text for text in outputs[0])
    assert "3/9" in outputs[0][-1]
    assert outputs[0][-1].endswith("\nstopped by an interrupt")
    assert "best 0.800 in epoch 2" in outputs[0][-1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert list(epochs) == list(range(9))  # the next loop runs to its end


def test_interrupt_second_ends_at_once(outputs: dict[int, list[str]]) -> None:
    """The second interrupt ends the loop at once."""
    seen = []

    def interrupted_twice() -> None:
        for epoch in Epochs(9):
            seen.append(epoch)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            seen.append(-1)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert seen == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_keeps_existing_handler() -> None:
    """A handler of interrupts that is already installed stays in use."""
    caught = []
    before = signal.signal(signal.SIGINT, lambda *_: caught.append(1))
    try:
        for _ in Epochs(3):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(caught) == 3


def test_interrupt_handler_not_set_in_thread() -> None:
    """A loop in a thread installs no handler of interrupts."""
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: list(Epochs(3))).result() == [0, 1, 2]


def test_displays_of_nested_loops(outputs: dict[int, list[str]]) -> None:
    """Successive and nested loops have separate displays."""
    same = Epochs(2)
    loop(same)
    loop(same)
    assert len(outputs) == 2
    for _ in (outer := Epochs(1)):
        loop(Epochs(1))
        outer.log(best=1.0)
    assert "best  1.000" in outputs[2][-1]
    assert "val_loss    0.000" in outputs[3][-1]


def test_loader_of_unknown_length(outputs: dict[int, list[str]]) -> None:
    """The batches of a loader without a length are counted."""
    for _ in (epochs := Epochs(1)):
        for _ in epochs.batches(iter([1, 2])):
            epochs.show(loss=float("nan"))
    assert any("batches: 1" in text and "loss nan" in text for text in outputs[0])


def test_epochs_without_loop(outputs: dict[int, list[str]]) -> None:
    """The methods of Epochs work outside a loop."""
    epochs = Epochs(3)
    epochs.show(loss=1.0)
    assert list(epochs.batches([1, 2])) == [1, 2]
    epochs.log(loss=1.0)


def test_terminal_has_plain_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows bars and one line of figures for each epoch."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    loop(Epochs(3), stop=1)
    text = written.getvalue()
    assert "epoch 0: train_loss 0.500  val_loss 0.000  best 0.000 in epoch 0\n" in text
    assert "2/3" in text
    assert text.endswith("\n")


def test_terminal_reports_interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal, an interrupt is reported once."""
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    for _ in (epochs := Epochs(3)):
        os.kill(os.getpid(), signal.SIGINT)
        assert list(epochs.batches([1, 2])) == [1, 2]
    assert written.getvalue().count(STOPPING) == 1


@pytest.mark.parametrize("tty", [True, False])
def test_display_switched_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tty: bool) -> None:
    """Nothing is shown without a terminal, or if the environment variable says so."""
    if tty:
        monkeypatch.setenv("AMLLAB_PROGRESS", "0")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert len(loop(Epochs(2))) == 6
    assert capsys.readouterr() == ("", "")


def test_silent_with_captured_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown where a notebook captures output."""

    class Shell:
        kernel: Any = None

    import IPython

    monkeypatch.delenv("AMLLAB_PROGRESS", raising=False)
    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert progress._place() == "notebook"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert progress._place() == "nowhere"


def test_numbers_are_shortened() -> None:
    """Figures are shown with few digits."""
    text = progress._text({"a": 0.0, "b": 12.3456, "c": 1e-4, "d": float("nan")})
    assert text == "a 0.000  b 12.346  c 0.0001  d nan"


def test_show_rejects_unprintable_numbers() -> None:
    """A number that cannot be shown is an error even if the display is off."""
    epochs = Epochs(1)
    epochs.show(loss=torch.tensor(1.0), acc=0.5)
    with pytest.raises(OverflowError):
        epochs.show(acc=10**400)
