"""Public checks of exercise 3, ``train_with_early_stopping``."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.journal import believe
from amllab.checks.transfer_learning.scripted import make_script
from amllab.checks.transfer_learning.test_freeze_layers import raised

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

KEYS = ("train_loss", "train_acc", "val_loss", "val_acc")


def run(submission, val_losses, rng, *, train_sizes=(4, 4), val_sizes=(3, 3), **arguments):
    """Trains the scripted model on losses laid down here; see :func:`run_script`."""
    script = make_script(val_losses, rng, train_sizes=train_sizes, val_sizes=val_sizes)
    return run_script(submission, script, **arguments)


def run_script(submission, script, **arguments):
    """Trains the scripted model. Fails the check where the training raised, returned no history, or did not happen.

    Returns:
        The script, the model's journal, and the history as numbers.
    """
    got = submission.ask("train_scripted", script=script, arguments=arguments)
    call = ", ".join(f"{name}={value}" for name, value in arguments.items())
    expect(
        "error" not in got,
        expected=f"`train_with_early_stopping(model, train_loader, val_loader, {call})` returns",
        seen=raised(got) if "error" in got else "",
        why="loaders are any re-iterables of (images, labels), models any module",
    )
    values, types = got["history"]["values"], got["history"]["types"]
    complete = all(isinstance(values.get(key), list) for key in KEYS) and isinstance(values.get("best_epoch"), float)
    expect(
        complete,
        expected=f"a dict with lists of floats under {', '.join(KEYS)}, and the index `best_epoch`",
        seen=f"{got['history']['type']} with {types}",
        why="curves, sweeps and the lab report read these keys",
    )
    lengths = [len(values[key]) for key in KEYS]
    expect(
        len(set(lengths)) == 1,
        expected="as many entries in each list as epochs were run",
        seen=f"lengths {lengths} for {', '.join(KEYS)}",
        why="a curve needs one point for each epoch that was run",
    )
    return script, believe(script, got, lengths[0]), values


def table(losses):
    """Losses as the student reads them."""
    return ", ".join(f"{loss:.3f}" for loss in losses)


@pytest.mark.points(3)
def test_history(submission, rng):
    """Returns a history: one float per epoch for loss and accuracy, and the best epoch's index."""
    losses = [1.2 - 0.1 * i for i in range(rng.randint(2, 5))]
    _, journal, values = run(submission, losses, rng, max_epochs=len(losses), patience=3)
    types = journal.got["history"]["types"]
    lengths = [len(values[key]) for key in KEYS]
    expect(
        lengths == [len(losses)] * 4,
        expected=f"{len(losses)} entries in each list: max_epochs={len(losses)} and every epoch improved",
        seen=f"lengths {lengths} for {', '.join(KEYS)}",
        why="a curve needs one point for each epoch that was run",
    )
    expect(
        all(types.get(key) == "list of float" for key in KEYS) and types.get("best_epoch") == "int",
        expected="lists of Python floats, and an int for best_epoch",
        seen=str(types),
        why="a tensor in a history keeps its whole graph alive, and cannot be written to a file",
    )


@pytest.mark.points(4)
@pytest.mark.needs("test_history")
def test_stops_after_patience(submission, rng):
    """Stops after `patience` epochs in a row without improvement, and knows which epoch was best."""
    best, patience = rng.randint(1, 3), rng.randint(2, 4)
    losses = [1.0 - 0.1 * i for i in range(best + 1)] + [1.1 + 0.05 * rng.random() for _ in range(12)]
    _, _, values = run(submission, losses, rng, max_epochs=len(losses), patience=patience)
    ran, wanted = len(values["val_loss"]), best + 1 + patience
    seen = f"{ran} epochs; validation losses {table(values['val_loss'])}"
    expect(
        ran == wanted,
        expected=f"{wanted} epochs: the best is epoch {best} (0-based), then patience={patience} without improvement",
        seen=seen,
        why="stopping early spares time; stopping one epoch off makes runs that cannot be compared",
    )
    expect(
        values["best_epoch"] == best,
        expected=f"best_epoch={best}, counted from 0",
        seen=f"best_epoch={values['best_epoch']:g}; {seen}",
        why="the weights of this epoch are the result of the training",
    )


@pytest.mark.points(2)
def test_refuses_impossible_arguments(submission, rng):
    """`ValueError` for `max_epochs < 1` or `patience < 1`."""
    script = make_script([1.0, 0.9], rng, train_sizes=(4,), val_sizes=(3,))
    for arguments in ({"max_epochs": 0}, {"patience": 0}, {"max_epochs": -rng.randint(1, 9), "patience": 2}):
        got = submission.ask("train_scripted", script=script, arguments=arguments)
        call = ", ".join(f"{name}={value}" for name, value in arguments.items())
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for {call}",
            seen=raised(got) if "error" in got else "no error",
            why="a training of zero epochs has no best epoch",
        )
