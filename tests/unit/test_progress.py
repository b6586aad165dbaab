"""The live display: what is counted, what stays, and that no way out of the loop leaves it open."""

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
    """A notebook's outputs, each with all texts that it has shown."""
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
    """What a shell has started in the background ignores them, and so would these tests."""
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


def test_counts_like_range(outputs: dict[int, list[str]]) -> None:
    assert loop(Epochs(2)) == [(0, 10), (0, 20), (0, 30), (1, 10), (1, 20), (1, 30)]
    assert len(Epochs(7)) == 7


def test_notebook_keeps_one_small_text(outputs: dict[int, list[str]]) -> None:
    loop(Epochs(10))
    assert list(outputs) == [0]
    epochs, train_loss, val_loss = outputs[0][-1].splitlines()
    assert "10/10" in epochs
    assert "left" not in epochs
    assert train_loss == "epoch 9:   train_loss  0.500    ▅▅▅▅▅▅▅▅▅▅"
    assert val_loss == "           val_loss    0.900    ▁▂▃▃▄▅▆▆▇█  best 0.000 in epoch 0, 9 epochs ago"


def test_curves_of_losses_share_a_scale_and_gaps_are_seen(outputs: dict[int, list[str]]) -> None:
    for epoch in (epochs := Epochs(5, patience=2)):
        val_loss = [1.0, math.nan, 0.0, 3.0, math.inf][epoch]
        epochs.log(train_loss=epoch, val_loss=val_loss, val_acc=epoch / 10)
        if epoch == 3:
            assert "best 0.000 in epoch 2, 1 epoch ago, patience left 1 of 2" in outputs[0][-1]
    rows = outputs[0][-1].splitlines()[1:]
    assert [row.split()[-1] for row in (rows[0], rows[2])] == ["▁▃▅▆█", "▁▃▅▆█"]
    assert "inf      ▃×▁▆×  best 0.000 in epoch 2, 2 epochs ago, patience left 0 of 2" in rows[1]


def test_long_curves_and_curves_without_a_number_fit_in_a_line(outputs: dict[int, list[str]]) -> None:
    for _ in (epochs := Epochs(200)):
        epochs.log(val_loss=math.nan, acc=1)
    _, loss, acc = outputs[0][-1].splitlines()
    assert loss.endswith("×" * 60)
    assert acc.endswith("▁" * 60)
    assert max(map(len, outputs[0][-1].splitlines())) < 100


def test_notebook_shows_batches_and_current_figures(outputs: dict[int, list[str]]) -> None:
    loop(Epochs(2))
    live = [text for text in outputs[0] if "loss 0.200  acc 0.250" in text]
    assert "epoch 0:   train_loss  0.500" in live[-1]  # the second epoch runs, and the figures are of the first
    assert "batches" in live[0]
    assert "1/3" in live[0]
    assert "left" in live[0]


def test_early_stop_shows_epochs_run(outputs: dict[int, list[str]]) -> None:
    loop(Epochs(10), stop=3)
    assert "4/10" in outputs[0][-1]
    assert "epoch 3: " in outputs[0][-1]
    assert "batches" not in outputs[0][-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("in the loop")])
def test_interrupted(outputs: dict[int, list[str]], error: BaseException) -> None:
    with pytest.raises(type(error)):
        loop(Epochs(5), error=error)
    assert "1/5" in outputs[0][-1]
    assert "batches" not in outputs[0][-1]


def test_the_first_interrupt_ends_after_the_epoch(outputs: dict[int, list[str]]) -> None:
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


def test_the_second_interrupt_ends_at_once(outputs: dict[int, list[str]]) -> None:
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


def test_whoever_handles_interrupts_goes_on_doing_so() -> None:
    caught = []
    before = signal.signal(signal.SIGINT, lambda *_: caught.append(1))
    try:
        for _ in Epochs(3):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(caught) == 3


def test_in_a_thread_interrupts_are_none_of_its_business() -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: list(Epochs(3))).result() == [0, 1, 2]


def test_several_and_nested_loops_have_their_own_displays(outputs: dict[int, list[str]]) -> None:
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
    for _ in (epochs := Epochs(1)):
        for _ in epochs.batches(iter([1, 2])):
            epochs.show(loss=float("nan"))
    assert any("batches: 1" in text and "loss nan" in text for text in outputs[0])


def test_use_without_a_loop(outputs: dict[int, list[str]]) -> None:
    epochs = Epochs(3)
    epochs.show(loss=1.0)
    assert list(epochs.batches([1, 2])) == [1, 2]
    epochs.log(loss=1.0)


def test_terminal_has_plain_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    loop(Epochs(3), stop=1)
    text = written.getvalue()
    assert "epoch 0: train_loss 0.500  val_loss 0.000  best 0.000 in epoch 0\n" in text
    assert "2/3" in text
    assert text.endswith("\n")


def test_terminal_says_once_that_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    for _ in (epochs := Epochs(3)):
        os.kill(os.getpid(), signal.SIGINT)
        assert list(epochs.batches([1, 2])) == [1, 2]
    assert written.getvalue().count(STOPPING) == 1


@pytest.mark.parametrize("tty", [True, False])
def test_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tty: bool) -> None:
    if tty:
        monkeypatch.setenv("AMLLAB_PROGRESS", "0")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert len(loop(Epochs(2))) == 6
    assert capsys.readouterr() == ("", "")


def test_silent_where_a_notebook_captures_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell:
        kernel: Any = None

    import IPython

    monkeypatch.delenv("AMLLAB_PROGRESS", raising=False)
    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert progress._place() == "notebook"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert progress._place() == "nowhere"


def test_numbers() -> None:
    text = progress._text({"a": 0.0, "b": 12.3456, "c": 1e-4, "d": float("nan")})
    assert text == "a 0.000  b 12.346  c 0.0001  d nan"


def test_what_cannot_be_shown_is_an_error_also_where_nobody_looks() -> None:
    epochs = Epochs(1)
    epochs.show(loss=torch.tensor(1.0), acc=0.5)
    with pytest.raises(OverflowError):
        epochs.show(acc=10**400)
