"""Hidden checks of exercise 3: every rule of early stopping, compared with the reference on the same losses."""

import math

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.best_epoch import puts_back
from amllab.checks.transfer_learning.training_runs import (
    HINT_1,
    WATCH,
    lines,
    n_epochs,
    run_script,
    trained_run,
)
from amllab.kit import symptoms
from amllab.kit.scripts import make_script
from autograder.checks.transfer_learning.stopping_rules import (
    IN_MIN_DELTA,
    IN_PATIENCE,
    IN_STOPPING,
    compare,
)
from autograder.checks.transfer_learning.training_figures import (
    apart,
    figures,
)
from autograder.checks.transfer_learning.training_means import MANY, UNEVEN, expect_means, expect_small_batch

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

HINT_5 = "Exercise 3, Hint 5: NaN"


def rounded(losses):
    """Round losses as a report shows them, so that it shows exactly what was scripted."""
    return [round(loss, 3) for loss in losses]


@pytest.mark.points(2)
def test_patience_to_the_epoch(submission, reference, run_seed, rng):
    """Patience counts epochs in a row: an improvement resets the count, and `max_epochs` ends training in any case."""
    why = "patience is the number of epochs without improvement that you are willing to wait, no more and no less"
    cases = []
    for patience in (1, 2, 3):
        losses, best = [], 1.0
        for _ in range(3):  # each improvement comes in the last epoch that patience allows
            losses += [best + 0.1 + 0.1 * rng.random() for _ in range(patience - 1)] + [best := best - 0.08]
        losses = [1.02, *losses, *(best + 0.1 + 0.1 * rng.random() for _ in range(patience + 3))]
        cases.append((rounded(losses), {"max_epochs": len(losses), "patience": patience}))
    losses = [0.9 - 0.05 * i for i in range(4)] + [1.0, 1.1]
    cases.append((rounded(losses), {"max_epochs": rng.choice([3, 4]), "patience": 5}))
    # the defaults of the signature: patience of 5, at most 30 epochs
    cases.append((rounded([0.9, *(1.0 + 0.1 * rng.random() for _ in range(9))]), {}))
    cases.append((rounded([2.0 - 0.05 * i for i in range(33)]), {}))
    # whatever the first loss is, it is the best so far
    high = 11 + 4 * rng.random()
    cases.append((rounded([high, high - 0.5, high + 0.2, high + 0.1, high + 0.3]), {"max_epochs": 5, "patience": 2}))
    compare(
        submission, reference, cases, rng, why=why, charged=IN_STOPPING, weights=always_puts_back(submission, run_seed)
    )


@pytest.mark.points(2)
def test_min_delta(submission, reference, run_seed, rng):
    """An epoch improves only when it is better than the best so far by more than `min_delta`."""
    delta = round(0.1 + 0.05 * rng.random(), 3)
    # steps of little more than half of min_delta: they add up against the best loss so far, and never against the last
    # one
    steps = [1.2 - 0.55 * delta * i for i in range(8)]
    # the lowest loss comes in an epoch that is not an improvement; neighbours alternate, so that no rule that counts
    # rises in a row, or compares means of a window, depends on the seed
    too_small = [0.9, *(0.9 - (0.2 + 0.2 * (i % 2) + 0.2 * rng.random()) * delta for i in range(7))]
    too_small[2] = 0.9 - 0.8 * delta
    # worse than the best by less than min_delta, but better than the previous epoch by more
    tail = (0.9 + (0.5 - 0.3 * (i % 2) + 0.3 * rng.random()) * delta for i in range(5))
    worse = [0.9, 0.9 + 1.8 * delta, 0.9 + 0.3 * delta, *tail]
    cases = [
        (rounded(losses), {"max_epochs": len(losses), "patience": 3, "min_delta": delta})
        for losses in (steps, too_small, worse)
    ]
    equal = [1.0, 0.8, 0.8, 0.8, 0.8, 0.8, round(0.5 + 0.1 * rng.random(), 3)]
    cases.append((equal, {"max_epochs": len(equal), "patience": 3}))
    # without min_delta, even the smallest step is an improvement
    for step, patience in ((0.0004, 4), (0.00006, 2)):
        tiny = [round(0.9 - step * i, 5) for i in range(2 * patience)]
        cases += [(tiny, {"max_epochs": len(tiny), "patience": patience, **said}) for said in ({}, {"min_delta": 0.0})]
    why = "min_delta keeps noise from passing for progress; it is measured against the best loss, not the last"
    compare(
        submission, reference, cases, rng, why=why, charged=IN_PATIENCE, weights=always_puts_back(submission, run_seed)
    )


@pytest.mark.points(1)
def test_nan_is_no_improvement(submission, reference, run_seed, rng):
    """A validation loss that is NaN is no improvement: it uses up patience, and never becomes the best."""
    nan, a = math.nan, 0.7 + 0.1 * rng.random()
    losses = (
        [nan, 0.5],  # ends after one epoch, which is the best
        [nan, nan, nan, 0.5],  # ends before any loss is a number: epoch 0 remains
        # never exactly 1: whether it improves on a best loss that starts at 1 would depend on rounding
        [nan, nan, 1.25, a, nan, nan, nan, 0.1],
        [1.25, nan, a, nan, 1.1, nan, 1.2, 1.3, 1.4, 1.5],
        # distinguishes stopping at NaN from stopping at the first worse epoch; a mean of the first losses never improves
        [1.25, 1.9, a, nan, 1.2, nan, 1.3, 1.4],
    )
    cases = [(rounded(of), {"max_epochs": len(of), "patience": min(3, len(of) - 1)}) for of in losses]
    why = "every comparison with NaN is false: depending on how it is written, that reads as progress or as none"
    charged = {*IN_PATIENCE, *IN_MIN_DELTA}
    compare(
        submission,
        reference,
        cases,
        rng,
        why=why,
        where=HINT_5,
        charged=charged,
        weights=always_puts_back(submission, run_seed),
    )


def always_puts_back(submission, run_seed):
    """Return whether the weights are restored in both usual runs: stopped early, and ended by max_epochs."""
    return all(puts_back(*trained_run(submission, run_seed, patience=patience)) for patience in (3, 4))


@pytest.mark.points(2)
def test_means_over_examples(submission, rng):
    """Losses and accuracies are means over examples, also when the last batch is smaller; training figures of the epoch itself."""
    losses = rounded([1.0 - 0.1 * rng.random(), 0.8, 0.7])
    while True:
        script = make_script(losses, rng, **UNEVEN, train_varies=True)
        means = figures(script)
        if all(apart(alternatives.values()) for alternatives in means.values()):
            break
    many = make_script(losses, rng, **MANY, train_varies=True)
    run = run_script(submission, script, losses, max_epochs=3, patience=3)
    expect_small_batch(run, submission, rng)
    expect_means(run, UNEVEN, means)
    if run.journal.changed.any():
        return  # loses points with the gradients; only a loader could tell the epoch of a changed image
    # with lists of batches: whatever the loop counts must be available in any loader
    expect_means(run_script(submission, many, losses, lists=True, max_epochs=3, patience=3), MANY, figures(many))


# batches of 4 images for training, of 3 for validation
PASSES = lines([1.0, 0.9], "", before=WATCH, max_epochs=2, patience=2)


@pytest.mark.points(2)
def test_modes(submission, run_seed):
    """Every epoch trains in train mode, then validates in eval mode and without gradients."""
    run, _ = trained_run(submission, run_seed)
    journal, images = run.journal, len(run.script["train"]["labels"])
    training = ~journal.is_val & journal.with_gradients
    in_train, in_eval = (journal.count(training & mode) for mode in (journal.head_training, ~journal.head_training))
    # the check of the gradients is about which batches are trained on
    left_out = in_train and not in_eval
    # training on validation images loses points with the gradients
    on_validation = any((part < 0).any() for part in journal.batches)
    is_val = journal.is_val & ~(journal.with_gradients & journal.head_training & on_validation)
    partly = int((is_val & journal.any_training & ~journal.root_training).sum())
    in_wrong_mode = int((is_val & journal.any_training).sum())
    validated = {
        "partly in train mode" if partly else "in train mode": in_wrong_mode,
        "with gradients": int((is_val & journal.with_gradients).sum()),
    }
    # an optimizer that evaluates a batch several times passes it several times
    images = round(images * journal.passes_per_batch)
    epochs = run.epochs
    how = {
        0: "never in train mode",
        images: "train mode in the first epoch alone",
        (epochs - 1) * images: "first epoch in eval mode",
    }
    symptom = symptoms.join(
        how.get(in_train, "training partly in eval mode")
        if in_train < max(epochs, 1) * images and not left_out
        else "",
        *(f"validation {mode}" for mode, count in validated.items() if count),
    )
    expect(
        in_train >= max(epochs, 1) * images or left_out,
        expected=f"{epochs * images} training images in train mode ({n_epochs(epochs)} of {images})",
        seen=f"{in_train} in train mode, {in_eval} in eval mode: {symptom.split('; ')[0]}",
        why="a model may come in eval mode, and validation leaves it so: unless every epoch begins with `model.train()`, dropout "
        "and BatchNorm do not train",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES,
    )
    expect(
        not in_wrong_mode,
        expected="validation in eval mode alone",
        seen=f"{in_wrong_mode} validation batches in train mode: is `model.eval()` missing before the validation?"
        if not partly
        else f"{in_wrong_mode} validation batches with parts of the model in train mode: `model.eval()` reaches all of them",
        why="in train mode BatchNorm learns its statistics from the validation data, and the loss depends on the batch",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES.replace('"train" if m.training', '"train" if any(p.training for p in m.modules())'),
    )
    expect(
        not validated["with gradients"],
        expected="validation without gradients",
        seen=f"{validated['with gradients']} validation batches with gradients switched on: is `torch.no_grad()` missing?",
        why="gradients cost memory and time, and nothing learned from validation data may reach the weights",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES,
    )
