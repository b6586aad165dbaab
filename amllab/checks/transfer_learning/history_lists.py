"""What the lists of a history contain, and how those of wrong histories are explained."""

import random

from amllab.checks import expect
from amllab.checks.transfer_learning.training_runs import KEYS, SIZES, TASK, n_epochs, run_script
from amllab.kit.scripts import make_script


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
