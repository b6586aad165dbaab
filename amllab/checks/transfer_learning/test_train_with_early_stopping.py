"""Public checks of exercise 3, ``train_with_early_stopping``."""

import math
import textwrap
from dataclasses import replace

import pytest

from amllab.checks import CheckFailure, expect, series
from amllab.checks.transfer_learning import symptoms
from amllab.checks.transfer_learning.journal import believe
from amllab.checks.transfer_learning.scripted import make_script
from amllab.checks.transfer_learning.test_freeze_layers import raised

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

KEYS = ("train_loss", "train_acc", "val_loss", "val_acc")
IDEA_1 = "Exercise 3, Idea 1: stop when validation no longer improves"
TASK = "Exercise 3, Your task"
# shows every forward pass: the loaders of a report have batches of different sizes
WATCH = (
    "model.register_forward_hook(lambda m, inputs, logits: print(\n"
    '    len(logits), "images,", "train" if m.training else "eval", "mode, gradients:", torch.is_grad_enabled()))\n'
)


def run(submission, val_losses, rng, **arguments):
    """Trains the scripted model on losses laid down here; see :func:`run_script`."""
    # what becomes of a run does not depend on how the loss is averaged, which is checked by itself
    script = make_script(val_losses, rng, train_sizes=(4, 4), val_sizes=(3, 3), in_each_batch=True)
    return run_script(submission, script, val_losses, **arguments)


def run_script(submission, script, val_losses, **arguments):
    """Trains the scripted model. Fails the check where the training raised, returned no history, or did not happen.

    Returns:
        The script, the model's journal, and the history as numbers.
    """
    got = submission.ask("train_scripted", script=script, arguments=arguments)
    reproduce = lines(val_losses, "history", **arguments)
    expect(
        "error" not in got,
        expected=f"`train_with_early_stopping(model, train_loader, val_loader{call(arguments)})` returns",
        seen=raised(got) if "error" in got else "",
        why="loaders are any re-iterables of (images, labels), models any module",
        where=TASK,
        symptom=symptoms.raised(got) if "error" in got else "",
        reproduce=reproduce,
    )
    values, types = dict(got["history"]["values"]), got["history"]["types"]
    expect(
        not without(got["history"]),
        expected=f"a dict with lists of floats under {', '.join(KEYS)}",
        seen=f"{got['history']['type']} with {types}",
        why="curves, sweeps and the lab report read these keys",
        where=TASK,
        symptom=without(got["history"]),
        reproduce=reproduce,
    )
    if not isinstance(values.get("best_epoch"), float):
        values["best_epoch"] = math.nan  # no epoch: charged where it is asked for, and not everywhere
    lengths = [len(values[key]) for key in KEYS]
    expect(
        len(set(lengths)) == 1,
        expected="as many entries in each list as epochs were run",
        seen=f"lengths {lengths} for {', '.join(KEYS)}",
        why="a curve needs one point for each epoch that was run",
        where=TASK,
        symptom="more entries of "
        + ", ".join(key for key, length in zip(KEYS, lengths, strict=True) if length != min(lengths)),
        reproduce=lines(val_losses, "{key: len(history[key]) for key in " + f"{KEYS}" + "}", **arguments),
    )
    try:
        return script, believe(script, got, lengths[0]), values
    except CheckFailure as error:
        # for training batches of 4 and validation batches of 3 images, whatever they are here
        watched = lines(val_losses, "", before=WATCH, **arguments)
        raise CheckFailure(replace(error.failure, reproduce=watched)) from None


def without(history):
    """What of a history is not there; empty for one that is complete."""
    if history["type"] == "NoneType":
        return "nothing returned"
    if not history["values"]:
        return "no dict returned"
    lists = [key for key in KEYS if not isinstance(history["values"].get(key), list)]
    return f"without {', '.join(lists)}" if lists else ""


def call(arguments):
    """Arguments as they are written in a call, behind others."""
    return "".join(f", {name}={value}" for name, value in arguments.items())


def lines(val_losses, shown, *, sizes="", before="", **arguments):
    """What a student can paste into the notebook to train on the losses of a report.

    Args:
        val_losses: of the run.
        shown: an expression to look at afterwards.
        sizes: further arguments of ``scripted_training``.
        before: lines between the making of the model and its training.
        **arguments: of ``train_with_early_stopping``.
    """
    losses = ", ".join("math.nan" if math.isnan(loss) else repr(float(loss)) for loss in val_losses)
    wrapped = textwrap.fill(f"val_losses = [{losses}]", 90, subsequent_indent=" " * len("val_losses = ["))
    return (
        "from amllab import scripted_training\n\n"
        f"{wrapped}\n"
        f"model, train_loader, val_loader = scripted_training(val_losses{sizes})\n"
        f"{before}"
        f"history = train_with_early_stopping(model, train_loader, val_loader{call(arguments)})\n"
        f"{shown}"
    ).strip()


def losses_of(val_losses, *, best, epochs, returned=None, ran):
    """The validation losses of a run as far as it went, or should have gone, with what was to happen and what did."""
    ran = min(ran, len(val_losses))  # a run beyond them goes on with the last one
    shown = val_losses[: max(epochs, ran)]
    marks = {"best": best} if returned in (None, best) else {"best": best, "returned_as_best": returned}
    return series("val_loss", shown, **marks, should_stop=epochs - 1, stopped=ran - 1)


def table(losses):
    """Losses as the student reads them."""
    return ", ".join(f"{loss:.3f}" for loss in losses[:40]) + (" ..." if len(losses) > 40 else "")


@pytest.mark.points(1)
def test_history(submission, rng):
    """Returns a history: for loss and accuracy, in training and validation, one number for each epoch."""
    losses = [round(1.2 - 0.1 * i, 3) for i in range(6)]
    run(submission, losses, rng, max_epochs=rng.randint(3, 5), patience=3)


@pytest.mark.points(1)
@pytest.mark.needs("test_history")
def test_max_epochs(submission, rng):
    """Runs `max_epochs` epochs where every epoch improves."""
    for epochs in (rng.randint(3, 5), 1):
        losses = [round(1.2 - 0.1 * i, 3) for i in range(epochs + 2)]
        _, _, values = run(submission, losses, rng, max_epochs=epochs, patience=3)
        ran = len(values["val_loss"])
        expect(
            ran == epochs,
            expected=f"{epochs} entries in each list: max_epochs={epochs}, and every epoch improved",
            seen=f"{ran} entries in each list",
            why="max_epochs is the budget of a training: runs under another one cannot be compared",
            where=TASK,
            symptom="1 epoch less than max_epochs"
            if ran == epochs - 1
            else "1 epoch more than max_epochs"
            if ran == epochs + 1
            else "1 epoch alone"
            if ran == 1
            else "fewer epochs than max_epochs"
            if ran < epochs
            else "more epochs than max_epochs",
            series=losses_of(losses, best=epochs - 1, epochs=epochs, ran=ran),
            reproduce=lines(losses, 'len(history["val_loss"])', max_epochs=epochs, patience=3),
        )


@pytest.mark.points(1)
@pytest.mark.needs("test_history")
def test_plain_numbers(submission, rng):
    """The history holds plain Python numbers: floats in its lists, and an int for the best epoch."""
    losses, arguments = [1.2, 1.1, 1.0], {"max_epochs": 3, "patience": 3}
    _, journal, _ = run(submission, losses, rng, **arguments)
    types = journal.got["history"]["types"]
    expect(
        not others(types),
        expected="lists of Python floats, and an int for best_epoch",
        seen=", ".join(f"`{key}`: {types.get(key)}" for key in (*KEYS, "best_epoch")),
        why="a tensor in a history keeps its whole graph alive, and cannot be written to a file",
        where=TASK,
        symptom=others(types),
        reproduce=lines(
            losses,
            'type(history["val_loss"][0]), type(history["train_acc"][0]), type(history["best_epoch"])',
            **arguments,
        ),
    )


def others(types):
    """Entries of a history that are no Python numbers, by the kind that they are; a best epoch that is not there is charged elsewhere."""
    wanted = {**dict.fromkeys(KEYS, "list of float"), "best_epoch": "int"}
    wrong = {key: types[key] for key, kind in wanted.items() if key in types and types[key] != kind}
    kinds = {
        "Tensor": "tensor",
        "float32": "numpy",
        "float": "float",
        "int": "int",
    }
    named = {key: next((n for k, n in kinds.items() if k in kind.split("of ")[-1].split("/")), "no number") for key, kind in wrong.items()}  # fmt: skip
    return ", ".join(f"{key}: {kind}" for key, kind in named.items())


@pytest.mark.points(4)
@pytest.mark.needs("test_history")
def test_stops_after_patience(submission, rng):
    """Stops after `patience` epochs in a row without improvement, and knows which epoch was best."""
    # pairs by which the usual mistakes stop in different epochs
    best, patience = rng.choice([(2, 5), (3, 3), (4, 3), (4, 4)])
    losses = [round(1.0 - 0.1 * i, 3) for i in range(best + 1)]
    # never better than the best, but always better than the epoch before
    losses += [round(1.15 - 0.004 * i - 0.002 * rng.random(), 3) for i in range(12)]
    arguments = {"max_epochs": len(losses), "patience": patience}
    _, _, values = run(submission, losses, rng, **arguments)
    ran, wanted, returned = len(values["val_loss"]), best + 1 + patience, values["best_epoch"]
    symptom = symptoms.join(
        symptoms.stopping(ran, wanted, best=best, patience=patience, most=len(losses)),
        symptoms.best_epoch(returned, best, ran=ran, loss=losses[best]),
    )
    index = int(returned) if returned in range(len(losses)) else None
    numbers = losses_of(losses, best=best, epochs=wanted, returned=index, ran=ran)
    reproduce = lines(losses, 'len(history["val_loss"]), history["best_epoch"]', **arguments)
    expect(
        ran == wanted,
        expected=f"{wanted} epochs: the best is epoch {best} (0-based), then patience={patience} without improvement",
        seen=f"{ran} epochs",
        why="stopping early spares time; stopping one epoch off makes runs that cannot be compared",
        where=IDEA_1,
        symptom=symptom,
        series=numbers,
        reproduce=reproduce,
    )
    expect(
        returned == best,
        expected=f"best_epoch={best}, counted from 0",
        seen="no `best_epoch` in the history" if math.isnan(returned) else f"best_epoch={returned:g}",
        why="the weights of this epoch are the result of the training",
        where=IDEA_1,
        symptom=symptom,
        series=numbers,
        reproduce=reproduce,
    )


@pytest.mark.points(2)
def test_refuses_impossible_arguments(submission, rng):
    """`ValueError` for `max_epochs < 1` or `patience < 1`."""
    losses = [1.0, 0.9]
    script = make_script(losses, rng, train_sizes=(4, 4), val_sizes=(3, 3))
    asked = {
        "max_epochs=0": {"max_epochs": 0},
        "patience=0": {"patience": 0},
        "negative max_epochs": {"max_epochs": -rng.randint(1, 9), "patience": 2},
    }
    answers = {
        name: submission.ask("train_scripted", script=script, arguments=arguments) for name, arguments in asked.items()
    }
    for name, got in answers.items():
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for {call(asked[name])[2:]}",
            seen=raised(got) if "error" in got else "no error",
            why="a training of zero epochs has no best epoch, and who waits for no epoch at all has stopped before the first",
            where=TASK,
            symptom=symptoms.accepted(answers),
            reproduce=lines(losses, "", **asked[name]) + "  # raises ValueError where it is checked",
        )
    # the smallest that are possible; another error is none of the arguments
    got = submission.ask("train_scripted", script=script, arguments={"max_epochs": 1, "patience": 1})
    expect(
        "ValueError" not in got.get("error", []),
        expected=f"`train_with_early_stopping(model, train_loader, val_loader{call({'max_epochs': 1, 'patience': 1})})` returns",
        seen=raised(got) if "error" in got else "",
        why="one epoch is a training",
        where=TASK,
        symptom="1 epoch refused",
        reproduce=lines(losses, "", max_epochs=1, patience=1),
    )
