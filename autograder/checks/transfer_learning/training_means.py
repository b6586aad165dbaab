"""Figures of a history as means over examples: what is expected, and what a wrong figure may be."""

import random
from typing import Any

from amllab.checks import expect
from amllab.checks.transfer_learning.distinct_gradients import steps_run
from amllab.checks.transfer_learning.training_runs import (
    TASK,
    WATCH,
    Run,
    call,
    n_epochs,
    table,
    wait_for_history,
)
from amllab.kit import symptoms
from amllab.protocol.submission import Submission
from autograder.checks.transfer_learning.training_figures import (
    MEAN,
    SECOND_PASS,
    Figures,
    fits,
    last_looks,
    of_trained,
)
from autograder.checks.transfer_learning.training_gradients import other_losses

HINT_2 = "Exercise 3, Hint 2: means over examples"
UNEVEN: dict[str, Any] = {"train_sizes": (5, 5, 1), "val_sizes": (4, 4, 2)}
MANY: dict[str, Any] = {"train_sizes": (64, 64, 64, 8), "val_sizes": (50, 50, 20)}  # reveals sums in too few digits


def expect_small_batch(run: Run, submission: Submission, rng: random.Random) -> None:
    """Fail the check if a batch is left out because it is small."""
    n, trained = len(run.script["train"]["labels"]), run.journal.trained
    if not run.journal.batches or min(trained) >= n:
        return
    other = steps_run(submission, rng)
    if min(other.journal.trained) < len(other.script["train"]["labels"]):
        return  # batches of any size are left out: loses points with the gradients
    expect(
        False,
        expected=f"{n} training examples in each epoch, in batches of {', '.join(map(str, UNEVEN['train_sizes']))}",
        seen=f"{', '.join(map(str, trained))} in {n_epochs(run.epochs)}: the batch that is smaller than the others is left out",
        why="an epoch is one pass over the training set, whatever the size of its last batch",
        where=HINT_2,
        symptom="small batch left out",
        reproduce=run.lines("", before=WATCH, sizes=call(UNEVEN)),
    )


def expect_means(run: Run, sizes: dict[str, Any], means: Figures) -> None:
    """Fail the check unless the lists of the history are means over examples, in every epoch that they cover."""
    if run.epochs and not run.lists:
        wait_for_history()
    expect(
        run.epochs > 1,
        expected="figures of three epochs that were trained",
        seen=f"{n_epochs(run.epochs)} trained",
        why="a history is a record of what was trained",
        where=TASK,
        symptom="nothing trained",
    )
    also = last_looks(run, run.script) if run.journal.passes_per_batch > 1 else {}
    # also trains on validation data: loses points with the gradients
    if any((part < 0).any() for part in run.journal.batches):
        also = {key: of["mean over both loaders"] for key, of in means.items() if key.startswith("train")}
    elif run.journal.batches and min(run.journal.trained) < len(run.script["train"]["labels"]):
        also = of_trained(run, run.script)  # batches that are left out lose points with the gradients
    for key, values in also.items():
        if key in run.lists and fits(values, run.lists[key], run.epochs):
            means = {**means, key: {MEAN: values}}
    likely = {key: [n for n, of in means[key].items() if fits(of, seen, run.epochs)] for key, seen in run.lists.items()}
    other = other_losses(run.journal)
    # figures of other losses or images lose points with the gradients
    for key in ("train_loss", "train_acc") if "images changed" in other else ("train_loss",) if other else ():
        likely.pop(key, None)
    symptom = symptoms.join(
        *(f"{key}: {(names or ['another number'])[0]}" for key, names in likely.items() if MEAN not in names)
    )
    right = ", ".join(key for key, names in likely.items() if MEAN in names)
    for key, names in likely.items():
        part = "training" if key.startswith("train") else "validation"
        which = f", which is the {names[0]}" if names else ""
        if part == "validation" and not run.journal.states:
            which = ": the model never saw a validation image"
        elif part == "validation" and len(run.journal.states) < run.epochs:
            which = f": the model was validated in epoch {', '.join(map(str, run.journal.states))} alone"
        why = {
            "mean over the batches": "a mean over batches counts each example of a small last batch more than the others",
            SECOND_PASS: "the figures of the training batches come for free; a pass after the epoch measures another model",
            "mean over both loaders": "the sums of the training are still in it: are they set back to 0 before the validation?"
            if part == "validation"
            else "training figures are of the training batches alone",
            "sum over the batches, divided by the number of examples": "each batch's mean has to be multiplied by its size "
            "before it is added",
            **dict.fromkeys(
                ("mean of the last batch alone", "mean of the first batch alone"),
                "the figure of an epoch is of all its examples: add up over the batches, and divide at the end",
            ),
        }
        expect(
            MEAN in names,
            expected=f"{key} = {table(means[key][MEAN][: run.epochs])} (batches of {', '.join(map(str, sizes['train_sizes']))} "
            f"for training and {', '.join(map(str, sizes['val_sizes']))} for validation)",
            seen=f"{table(run.values[key])}{which}" + (f"; as they should be: {right}" if right else ""),
            why=next(
                (why[name] for name in names if name in why),
                f"runs can be compared only where each {part} figure is a "
                "mean over examples, and each accuracy a number between 0 and 1",
            ),
            where=HINT_2,
            symptom=symptom,
            reproduce=run.lines(
                f'history["{key}"]'
                + (
                    ", evaluate(model, val_loader)  # the latter: means over examples, of the last epoch"
                    if part != "training"
                    else ""
                ),
                sizes=call(sizes),
            ),
        )
