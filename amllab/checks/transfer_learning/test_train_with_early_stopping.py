"""Public checks of exercise 3, ``train_with_early_stopping``."""

import math
import random
from typing import Any

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.training_runs import (
    IDEA_1,
    KEYS,
    LISTS,
    PLAIN,
    PLAIN_ARGUMENTS,
    RAN,
    SIZES,
    TASK,
    expect_no_error,
    lines,
    losses_of,
    n_epochs,
    plain_answer,
    plain_script,
    run,
    run_script,
    stopped_run,
    trained_run,
    training_call,
    wait_for_history,
    watched,
)
from amllab.kit import symptoms
from amllab.kit.expectations import printed, refuses, returned, returns, some
from amllab.kit.scripts import make_script

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")


@pytest.mark.points(2)
def test_history(submission, run_seed):
    """Trains, and returns a history: lists of floats for loss and accuracy, in training and validation, one for each epoch."""
    got = plain_answer(submission)
    expect_no_error(got, PLAIN, PLAIN_ARGUMENTS)
    history = got["history"]
    missing = [key for key in KEYS if not isinstance(history["values"].get(key), list)]
    nothing, partly = history["type"] == "NoneType", bool(missing and history["values"])
    expect(
        not missing and history["is_dict"],
        expected=f"a dict with lists of floats under {', '.join(KEYS)}",
        seen=f"no list under {', '.join(missing)}; the keys are {some(list(history['values']), most=8)}"
        if partly
        else returned(history["type"], "history"),
        why="curves, sweeps and the lab report read these keys",
        where=TASK,
        symptom="nothing returned" if nothing else f"without {', '.join(missing)}" if partly else "no dict returned",
        reproduce=lines(PLAIN, "history", **PLAIN_ARGUMENTS),
    )
    plain = run_script(submission, plain_script(), PLAIN, **PLAIN_ARGUMENTS)
    _expect_an_entry_for_each_epoch(submission, plain, stopped_run(submission, run_seed))
    _expect_plain_numbers(plain)


def _expect_an_entry_for_each_epoch(submission, plain, stopped):
    for found in (plain, stopped):
        lengths = {key: len(values) for key, values in found.lists.items()}
        wrong = [key for key, length in lengths.items() if length != found.epochs]
        last = found is stopped and {lengths[key] for key in wrong} == {found.epochs - 1}
        expect(
            not wrong,
            expected=f"{found.epochs} entries in each list: {n_epochs(found.epochs)} were run",
            seen=", ".join(f"{lengths[key]} in `{key}`" for key in wrong)
            + (
                ": the epoch that ended the training is missing. Is `break` reached before its figures are written down?"
                if last
                else ": one for each of max_epochs. Were the lists made, or filled up, to that length?"
                if all(length == found.arguments["max_epochs"] for length in lengths.values())
                else _which_epochs(submission, wrong[0])
                if wrong
                else ""
            ),
            why="a curve needs one point for each epoch that was run",
            where=TASK,
            symptom=("last epoch missing: " if last else "another number of entries: ") + ", ".join(wrong),
            reproduce=found.lines(
                f"max(model.states) + 1, {{key: len(history[key]) for key in {KEYS}}}  # epochs that were run; entries"
            ),
        )


def _which_epochs(submission, key):
    """Describe which epochs a list has entries for, if not for all.

    This uses a run whose second epoch is no improvement.
    """
    losses = [1.0, 1.1, 0.9, 1.2, 1.3]
    script = make_script(losses, random.Random(1), **SIZES)
    length = len(run_script(submission, script, losses, max_epochs=5, patience=2).lists.get(key, []))
    says = {
        2: ": those of epochs that improve. Are figures written down only there?",
        3: ": those up to the best epoch. Are the lists cut there?",
    }
    return says.get(length, "")


def _expect_plain_numbers(plain):
    types = plain.types
    wrong = others(types)
    expect(
        not wrong,
        expected="lists of Python floats, and an int for best_epoch",
        seen=", ".join(f"`{key}`: {types.get(key)}" for key in (*KEYS, "best_epoch") if key in wrong),
        why="a tensor in a history keeps its whole graph alive, and cannot be written to a file"
        if "tensor" in wrong.values()
        else "code that reads a history appends to its lists, and saves them as JSON",
        where=TASK,
        symptom=", ".join(f"{key}: {kind}" for key, kind in wrong.items()),
        share=0.5,
        reproduce=plain.lines(
            'type(history["val_loss"]), type(history["val_loss"][0]), type(history["train_acc"][0]), type(history["best_epoch"])'
        ),
    )


@pytest.mark.points(1)
def test_max_epochs(submission, rng):
    """Runs `max_epochs` epochs where every epoch improves."""
    for epochs in (rng.randint(3, 5), 1):
        losses = [round(1.2 - 0.1 * i, 3) for i in range(epochs + 2)]
        # longer than the training: another check is about how patience is counted
        patience = epochs + 1
        found = run(submission, losses, rng, max_epochs=epochs, patience=patience)
        ran = found.epochs
        expect(
            ran == epochs,
            expected=f"{n_epochs(epochs)}: max_epochs={epochs}, and every epoch improved",
            seen=f"{n_epochs(ran)} were trained with max_epochs={epochs}"
            + (": is `max_epochs` used?" if ran > epochs + 1 else ""),
            why="max_epochs is the budget of a training: runs under another one cannot be compared",
            where=TASK,
            symptom="nothing trained"
            if not ran
            else "1 epoch less than max_epochs"
            if ran == epochs - 1
            else "1 epoch more than max_epochs"
            if ran == epochs + 1
            else "fewer epochs than max_epochs"
            if ran < epochs
            else "max_epochs ignored",
            series=losses_of(losses, best=epochs - 1, epochs=epochs, ran=ran),
            reproduce=found.lines("max(model.states) + 1  # epochs that were run"),
        )


def others(types):
    """Return the entries of a history that are not lists of Python numbers, with what they are instead.

    A missing best epoch loses points elsewhere.
    """
    wanted = {**dict.fromkeys(KEYS, "list of float"), "best_epoch": "int"}
    wrong = {key: types[key] for key, kind in wanted.items() if key in types and types[key] != kind}
    kinds = {"Tensor": "tensor", "float32": "numpy", "float": "float", "int": "int"}

    def name(kind):
        container, _, inner = kind.rpartition(" of ")
        if container not in ("", "list"):
            return "no list"
        return next((n for k, n in kinds.items() if k in inner.split("/")), "no number")

    return {key: name(kind) for key, kind in wrong.items()}


@pytest.mark.points(2)
def test_stops_after_patience(submission, run_seed):
    """Stops after `patience` epochs in a row without improvement."""
    found = stopped_run(submission, run_seed)
    losses, patience, best = found.losses, found.arguments["patience"], found.losses.index(min(found.losses))
    ran, wanted = found.epochs, best + 1 + patience
    symptom = symptoms.stopping(ran, wanted, best=best, patience=patience, most=len(losses))
    other = watched(found) if symptom else ""
    expect(
        ran == wanted,
        expected=f"{wanted} epochs: the best is epoch {best} (0-based), then patience={patience} without improvement",
        seen=f"{n_epochs(ran)}"
        + (
            f": training stops where `{other}` no longer improves. Is it the validation loss that is compared?"
            if other
            else NEVER
            if symptom == "never stopped" and found.best_epoch == best
            else STOPPING.get(symptom, "")
        ),
        why="stopping early saves time; runs that stop one epoch off cannot be compared",
        where=IDEA_1,
        symptom=f"watches {other}" if other else symptom,
        series=losses_of(losses, best=best, epochs=wanted, ran=ran),
        reproduce=found.lines(RAN),
    )


# symptom of a wrong number of epochs -> its explanation
STOPPING = {
    "1 epoch early": ": training stops one epoch too early",
    "1 epoch late": ": training stops one epoch too late, after patience + 1 epochs without improvement",
    "never stopped": ": training did not stop before max_epochs. Is each epoch compared with the best one so far?",
    "stopped at the first epoch without improvement": ": training stops at the first epoch without improvement",
    "stopped after patience epochs in all": ": training stops as if no epoch after the first had improved. Is a lower "
    "loss the better one, and does the best loss start from `math.inf`?",
}
NEVER = (
    ": training did not stop before max_epochs, though the best epoch is right. Does it end once patience is used up?"
)


@pytest.mark.points(1)
def test_best_epoch(submission, run_seed):
    """`best_epoch` is the index of the best epoch, counted from 0."""
    found, best = trained_run(submission, run_seed)
    seen = found.best_epoch
    if not found.values and found.epochs:
        wait_for_history()
    expect(
        found.epochs > best and seen == best,
        expected=f"best_epoch={best}, counted from 0",
        seen="no `best_epoch` in the history"
        if math.isnan(seen)
        else f"best_epoch={seen:g}" + (": counted from 1?" if seen == best + 1 else ""),
        why="the weights of this epoch are the result of the training",
        where=IDEA_1,
        symptom=symptoms.best_epoch(seen, best, ran=found.epochs, loss=found.losses[best]) or "nothing trained",
        series=losses_of(found.losses, best=best, epochs=best + 4, returned=seen, ran=found.epochs),
        reproduce=found.lines('history.get("best_epoch")'),
    )


@pytest.mark.points(1)
def test_refuses_impossible_arguments(submission, rng):
    """`ValueError` for `max_epochs < 1` or `patience < 1`."""
    losses = [1.0, 0.9]
    script = make_script(losses, rng, train_sizes=(4, 4), val_sizes=(3, 3))
    asked = {
        "max_epochs=0": {"max_epochs": 0},
        "patience=0": {"patience": 0},
        "negative max_epochs": {"max_epochs": -rng.randint(1, 9), "patience": 2},
    }
    refuses(
        {name: submission.ask("train_scripted", script=script, arguments=given) for name, given in asked.items()},
        {name: training_call(losses, given) for name, given in asked.items()},
        why="a training of 0 epochs has no best epoch, and a patience of 0 stops before the first",
        printed=lambda name: printed(submission, "train_scripted", script=script, arguments=asked[name]),
    )
    # the smallest valid arguments; an error other than a ValueError has another cause
    smallest = {"max_epochs": 1, "patience": 1}
    got = submission.ask("train_scripted", script=script, arguments=smallest)
    if "ValueError" in got.get("error", []):
        returns(got, training_call(losses, smallest), why="one epoch is a training", symptom="1 epoch refused")


@pytest.mark.points(1)
def test_any_loaders(submission, rng):
    """Loaders may be anything that gives batches again and again, such as lists."""
    losses = [1.0, 0.9]
    arguments: dict[str, Any] = {"max_epochs": 2, "patience": 2}
    script = make_script(losses, rng, train_sizes=(4, 3), val_sizes=(3, 2))
    found = run_script(submission, script, losses, lists=True, **arguments)
    expect(
        found.epochs,
        expected="2 epochs, with lists of batches as loaders",
        seen="the model saw no training batch",
        why="nothing but these two loaders is to be read",
        where=TASK,
        symptom="nothing trained",
        reproduce=found.lines("max(model.states) + 1", before=LISTS),
    )
