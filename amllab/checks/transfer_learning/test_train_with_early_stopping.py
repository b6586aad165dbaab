"""Public checks of exercise 3, ``train_with_early_stopping``."""

import math
from typing import Any

import pytest
import torch

from amllab.checks import CheckFailure, expect
from amllab.checks.transfer_learning.best_epoch import _ends_with_the_best, puts_back
from amllab.checks.transfer_learning.frozen_layers import (
    HINT_4,
    IDEA_2,
    _by_one_factor,
    _learns,
    _statistics_of_trainable,
    _train_frozen,
)
from amllab.checks.transfer_learning.history_lists import _expect_an_entry_for_each_epoch, _expect_plain_numbers
from amllab.checks.transfer_learning.test_freeze_layers import freeze
from amllab.checks.transfer_learning.training_runs import (
    IDEA_1,
    KEYS,
    LISTS,
    NEVER,
    PLAIN,
    PLAIN_ARGUMENTS,
    RAN,
    STOPPING,
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
from amllab.kit.state_dicts import differing, frozen_tensors, layer_names, near, random_state, values_changed
from amllab.protocol.submission import SubmissionError

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


@pytest.mark.points(4)
def test_ends_with_the_best_epoch(submission, run_seed):
    """The model ends with the weights and the buffers of the best epoch."""
    # one run stops early, the other is ended by max_epochs
    runs = [trained_run(submission, run_seed, patience=patience) for patience in (3, 4)]
    right = [puts_back(*run, kinds=("weights", "buffers")) for run in runs]
    ended = "patience" if right[1] else "max_epochs" if right[0] else ""
    for run, best in runs:  # noqa: F402  a name of its own here
        _ends_with_the_best(run, best, ended)


@pytest.mark.points(3)
def test_frozen_layers_stay(submission, rng):
    """A frozen layer comes out of training as it went in, its BatchNorm statistics included."""
    n, state = rng.randint(2, 4), random_state("net6", rng.getrandbits(63))
    try:
        (own,) = freeze(submission, "net6", n, state=state)
    except (SubmissionError, CheckFailure):
        own = {}
    sound = own.get("trainable") and not values_changed(state, own["state"])
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    got = _train_frozen(
        submission,
        backbone="net6",
        state=state,
        images=torch.randn(24, 3, 32, 32, generator=generator) * 2 + 1,
        labels=torch.randint(5, (24,), generator=generator),
        n_trainable=n,
        epochs=3,
        # a freeze_layers that fails, changes values, or leaves nothing to train loses points in its own cell; here it
        # is replaced
        layers=None if sound else layer_names("net6"),
    )
    precisions = {str(value.dtype) for name, value in got["state"].items() if value.dtype != state[name].dtype}
    expect(
        not precisions,
        expected="a model in the precision in which it came: torch.float32",
        seen=f"a model with weights in {' and '.join(sorted(precisions))}",
        why="the caller's model is changed in place, and its next batch of images is in float32",
        where=IDEA_2,
        symptom="another precision",
    )
    # restoring the weights of the first epoch would hide what drifted, so each validation is compared too
    changed = set(differing(state, got["state"])).union(*(differing(state, seen) for seen in got["validated"]))
    frozen = frozen_tensors("net6", got["trainable"])
    moved = [name for name in frozen if name in changed]
    statistics = [name for name in moved if "running" in name]
    reproduce = (
        f'model = freeze_layers(load_backbone("net6"), {n})\n'
        "before = {name: value.clone() for name, value in model.state_dict().items()}\n"
        "batches = [(torch.randn(8, 3, 32, 32) * 2 + 1, torch.randint(10, (8,))) for _ in range(3)]\n"
        "def changed():\n"
        "    return [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]\n"
        "class Val(list):\n"
        "    def __iter__(self):\n"
        '        print("at a validation:", changed())\n'
        "        return super().__iter__()\n"
        "train_with_early_stopping(model, batches, Val(batches[:1]), max_epochs=2, patience=2)\n"
        "changed(), [name for name, p in model.named_parameters() if p.requires_grad]"
    )
    # a moving average over all weights shows as rounding errors
    slightly = [name for name in moved if near(state[name], got["state"].get(name), rtol=1e-5, atol=1e-6)]
    both = statistics and len(moved) > len(statistics)
    shrunk = not statistics and not slightly and _by_one_factor([(state[n], got["state"].get(n)) for n in moved])
    # a layer that `freeze_layers` froze in part loses points in its own cell
    resting = _statistics_of_trainable(layer_names("net6")[-n:], got["trainable"], state)
    resting = [name for name in resting if name not in changed]
    # by far more than the rounding of an average
    everything = len(moved) == len(frozen) and not slightly
    thawed = sorted(set(got["trainable_after"]) - set(got["trainable"]))
    expect(
        not moved,
        expected=f"{len(frozen)} frozen tensors unchanged after three epochs, with n_trainable={n} of net6",
        seen=f"{len(moved)} changed, {len(statistics)} of them BatchNorm statistics: {some(moved)}"
        + (", all of them by a rounding error" if len(slightly) == len(moved) and not statistics else "")
        + (". All have shrunk by the same factor: does weight decay reach frozen weights?" if shrunk else "")
        + (
            ". Those of trainable layers rest: are the layers that are sent to eval mode the wrong ones?"
            if statistics and not both and resting
            else ""
        )
        + (
            ". They stay as they were in the first epoch, and change later: is it done in every epoch?"
            if statistics
            and not both
            and got["validated"]
            and not set(statistics) & set(differing(state, got["validated"][0]))
            else ""
        )
        + (
            f". {len(thawed)} parameters that were frozen are trainable afterwards: they are thawed in the training"
            if thawed
            else ". All layers have changed as trainable ones do: are they thawed before training?"
            if everything
            else ""
        ),
        why="frozen BatchNorm was left in train mode: there its running statistics follow the new data, gradient or not, and the "
        "frozen features are no longer the pretrained ones"
        if statistics and not both
        else "which layers are frozen is decided where the model is built: training leaves `requires_grad` as it is"
        if everything or thawed
        else "an average, a decay or a step over all weights reaches the frozen ones as well, even if only in the last digit"
        if len(slightly) == len(moved) or both
        else "frozen weights are the pretrained features: where they move, another model is trained",
        where=HINT_4 if statistics else IDEA_2,
        symptom=symptoms.join(
            "statistics drift" if statistics else "", "frozen weights move" if len(moved) > len(statistics) else ""
        ),
        reproduce=reproduce,
    )
    flags = (got["trainable"], got["trainable_after"])
    expect(
        set(flags[0]) == set(flags[1]),
        expected="the same parameters trainable after training as before it",
        seen=f"{len(flags[0])} before, {len(flags[1])} after it",
        why="which layers are frozen is decided where the model is built, and has to stay so for the next training",
        where=IDEA_2,
        symptom="thaws" if set(flags[1]) > set(flags[0]) else "freezes",
        reproduce=reproduce,
    )
    expect(
        not resting,
        expected="running statistics of trainable BatchNorm layers that follow the training data",
        seen=f"frozen layers are as they were, but these did not change either: {some(resting)}. Is every BatchNorm sent to eval mode, "
        "the trainable ones too?",
        why="only frozen BatchNorm belongs in eval mode: a trainable layer has to train as a whole",
        where=HINT_4,
        symptom="statistics of trainable layers rest",
        reproduce=reproduce,
    )
    # gradients of some biases may be too small to change them in a few steps
    vectors = [name for name in got["trainable"] if name in state and state[name].ndim == 1]
    trainable = [name for name in got["trainable"] if name in state and state[name].ndim > 1]
    still = [name for name in trainable if name not in changed]
    if trainable and len(still) == len(trainable) and not _learns(submission, rng):
        return  # nor does it anywhere else: loses points with the steps
    expect(
        changed & set(got["trainable"]) and not still,
        expected=f"weights of all {n} trainable layers that have moved after three epochs",
        seen=f"unchanged: {some(still)}",
        why="that frozen layers stay the same means something only where all the others learn",
        symptom="nothing learns" if not changed & set(got["trainable"]) else "some trainable layers never learn",
        reproduce=reproduce,
    )
    expect(
        not vectors or changed & set(vectors),
        expected="biases and BatchNorm weights of trainable layers that have moved after three epochs, at least some",
        seen=f"all {len(vectors)} unchanged: {some(vectors)}. Does the optimizer have the kernels and matrices alone?",
        why="a trainable layer trains as a whole, its biases included",
        symptom="trainable biases never learn",
        reproduce=reproduce,
    )
