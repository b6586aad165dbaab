"""Hidden checks of exercise 3: every rule of early stopping, compared with the reference on the same losses."""

import math

import pytest
import torch
from torch.nn import functional as F

from amllab.checks import CheckFailure, expect
from amllab.checks.submission import SubmissionError
from amllab.checks.transfer_learning.models import differing, first_layers, frozen_tensors, random_state, same
from amllab.checks.transfer_learning.test_freeze_layers import freeze
from amllab.checks.transfer_learning.test_train_with_early_stopping import run, run_script, table

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")


def compare(submission, reference, losses, rng, *, why, **arguments):
    """Trains both on the same scripted losses; fails where they stop, or choose, differently."""
    state = rng.getstate()
    _, _, seen = run(submission, losses, rng, **arguments)
    rng.setstate(state)
    _, _, wanted = run(reference, losses, rng, **arguments)
    call = ", ".join(f"{name}={value}" for name, value in arguments.items())
    outcome = [f"{len(v['val_loss'])} epochs, best_epoch={v['best_epoch']:g}" for v in (wanted, seen)]
    expect(
        outcome[0] == outcome[1],
        expected=f"{outcome[0]} with {call} on validation losses {table(losses)}",
        seen=outcome[1],
        why=why,
    )


@pytest.mark.points(3)
@pytest.mark.needs("test_history")
def test_patience_to_the_epoch(submission, reference, rng):
    """Patience counts epochs in a row: an improvement starts the count anew, and `max_epochs` ends it all."""
    why = "patience is the number of epochs without improvement that you are willing to wait, no more and no less"
    for patience in (1, 2, 3):
        losses, best = [], 1.0
        for _ in range(3):  # each improvement comes in the last epoch that patience leaves
            losses += [best + 0.1 + 0.1 * rng.random() for _ in range(patience - 1)] + [best := best - 0.08]
        losses = [1.02, *losses, *(best + 0.1 + 0.1 * rng.random() for _ in range(patience + 3))]
        compare(submission, reference, losses, rng, why=why, max_epochs=len(losses), patience=patience)
    losses = [0.9 - 0.05 * i for i in range(4)] + [1.0, 1.1]
    compare(submission, reference, losses, rng, why=why, max_epochs=rng.choice([4, 5]), patience=5)


@pytest.mark.points(3)
@pytest.mark.needs("test_stops_after_patience")
def test_min_delta(submission, reference, rng):
    """An epoch improves only when it is better than the best so far by more than `min_delta`."""
    delta = 0.1 + 0.05 * rng.random()
    # steps of half a min_delta: measured against the best so far they add up, measured against the last epoch never
    steps = [1.2 - 0.5 * delta * i for i in range(8)]
    too_small = [0.9, *(0.9 - 0.8 * delta * rng.random() for _ in range(7))]
    for losses in (steps, too_small):
        compare(
            submission,
            reference,
            losses,
            rng,
            why="min_delta keeps noise from passing for progress; it is measured against the best loss, not the last",
            max_epochs=len(losses),
            patience=3,
            min_delta=round(delta, 3),
        )


@pytest.mark.points(2)
@pytest.mark.needs("test_stops_after_patience")
def test_nan_is_no_improvement(submission, reference, rng):
    """A validation loss that is NaN is no improvement: it uses up patience, and never becomes the best."""
    nan, a = math.nan, 0.7 + 0.1 * rng.random()
    for losses in ([nan, 1.0, a, nan, nan, nan, 0.1], [1.0, nan, a, nan, 1.1, nan, 0.1]):
        compare(
            submission,
            reference,
            losses,
            rng,
            why="every comparison with NaN is false: depending on how it is written, that reads as progress or as none",
            max_epochs=len(losses),
            patience=3,
        )


def trained(submission, rng):
    """A run whose best epoch is neither the first nor the last."""
    best = rng.randint(1, 3)
    losses = [1.0 - 0.1 * i for i in range(best + 1)] + [1.1, 1.2, 1.3]
    script, journal, values = run(submission, losses, rng, max_epochs=len(losses), patience=3, lr=0.05)
    return script, journal, values, best


@pytest.mark.points(4)
@pytest.mark.needs("test_history")
def test_ends_with_the_best_epoch(submission, rng):
    """The model ends with the weights and the buffers of the best epoch."""
    _, journal, _, best = trained(submission, rng)
    states, final = journal.states(), journal.got["final"]
    for kind, names in (("weights", ["head.weight"]), ("buffers", ["steps", "noise"])):
        alike = [e for e, state in states.items() if all(same(state.get(n), final[n]) for n in names)]
        expect(
            best in alike and len(alike) < len(states),
            expected=f"{kind} of epoch {best}, the best of {len(states)}",
            seen=f"{kind} of epoch {', '.join(map(str, alike))}" if alike else f"{kind} of no epoch that was validated",
            why="the best epoch is what you report; a reference to the weights goes on changing with them, a copy does not"
            if kind == "weights"
            else "BatchNorm's running statistics are buffers: weights of one epoch with statistics of another fit no data",
        )


@pytest.mark.points(3)
@pytest.mark.needs("test_history")
def test_means_over_examples(submission, rng):
    """Losses and accuracies are means over examples, also when the last batch is smaller."""
    losses = [1.0 - 0.1 * rng.random(), 0.8, 0.7]
    script, _, values = run(
        submission, losses, rng, train_sizes=(5, 5, 1), val_sizes=(4, 4, 2), max_epochs=3, patience=3
    )
    train, val = script["train"], script["val"]
    train_logits = train["images"][:, 1, 0, :4]
    wanted = {
        "train_loss": [F.cross_entropy(train_logits, train["labels"]).item()] * 3,
        "train_acc": [(train_logits.argmax(1) == train["labels"]).double().mean().item()] * 3,
        "val_loss": losses,
        "val_acc": [(logits.argmax(1) == val["labels"]).double().mean().item() for logits in script["val_logits"]],
    }
    for key, numbers in wanted.items():
        seen = values[key]
        close = len(seen) == len(numbers) and all(abs(a - b) < 1e-3 for a, b in zip(numbers, seen, strict=True))
        expect(
            close,
            expected=f"{key} = {table(numbers)} (batches of 5, 5, 1 for training and 4, 4, 2 for validation)",
            seen=table(seen),
            why="a mean over batches counts each example of a small last batch more than the others",
        )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_modes(submission, rng):
    """Every epoch trains in train mode, then validates in eval mode and without gradients."""
    script, journal, values, _ = trained(submission, rng)
    epochs, images = len(values["val_loss"]), len(script["train"]["labels"])
    modes = [journal.count(~journal.is_val & mode) for mode in (journal.train_mode, ~journal.train_mode)]
    expect(
        modes[0] == epochs * images,
        expected=f"{epochs * images} training images in train mode ({epochs} epochs of {images})",
        seen=f"{modes[0]} in train mode, {modes[1]} in eval mode",
        why="after a validation the model is still in eval mode: without model.train() dropout and BatchNorm stay off",
    )
    in_train_mode = int((journal.is_val & journal.train_mode).sum())
    expect(
        in_train_mode == 0,
        expected="validation in eval mode alone",
        seen=f"{in_train_mode} validation batches in train mode",
        why="in train mode BatchNorm learns its statistics from the validation data, and the loss depends on the batch",
    )
    with_gradients = int((journal.is_val & journal.with_gradients).sum())
    expect(
        with_gradients == 0,
        expected="validation without gradients (torch.no_grad)",
        seen=f"{with_gradients} validation batches with gradients switched on",
        why="gradients cost memory and time, and nothing learned from validation data may reach the weights",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_gradients_of_one_batch(submission, rng):
    """Each step uses the gradient of its own training batch alone, and moves the trainable weights."""
    script, journal, values, _ = trained(submission, rng)
    on_validation = int((journal.examples < 0).sum())
    expect(
        on_validation == 0,
        expected="backward passes for training batches alone",
        seen=f"some for {on_validation} validation images as well",
        why="validation data must not train the model: what it is for is to tell how the model does on new data",
    )
    expect_own_gradients(journal)
    first, last = (journal.states()[e] for e in (0, len(values["val_loss"]) - 1))
    moved = not same(first["head.weight"], last["head.weight"])
    frozen_moved = differing(
        {name: script["state"][name] for name in ("body.weight", "body.bias")}, journal.got["final"]
    )
    trainable = journal.got["trainable"]
    expect(
        moved and not frozen_moved and trainable == ["head.weight"],
        expected="the trainable weights move, the frozen ones stay, and which is which stays too",
        seen=f"trainable weights {'moved' if moved else 'did not move'}, frozen ones "
        f"{'moved' if frozen_moved else 'stayed'}; trainable afterwards: {', '.join(trainable) or 'none'}",
        why="the optimizer gets the trainable parameters, all of them and no others",
    )
    steps = {}
    for lr in (1e-4, 1e-2):
        _, journal, values = run_script(submission, script, max_epochs=2, patience=2, lr=lr)
        first, last = (journal.states()[e]["head.weight"].float() for e in (0, len(values["val_loss"]) - 1))
        steps[lr] = (last - first).norm().item()
    expect(
        steps[1e-2] > 5 * steps[1e-4],
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {steps[1e-2]:.2g} and {steps[1e-4]:.2g} in an epoch",
        why="a learning rate that is passed and not used turns every search for a good one into noise",
    )


def expect_own_gradients(journal):
    """Fails the check unless each gradient is that of cross-entropy on its batch, and none was added to the one before."""
    parts = [part.split(journal.got["batches"]) for part in (journal.gradients, journal.wanted_gradients())]
    # a sum over the batch in place of a mean is the same method with another learning rate
    likeness = [F.cosine_similarity(g.flatten(), w.flatten(), dim=0).item() for g, w in zip(*parts, strict=True)]
    expect(
        min(likeness) > 0.99,
        expected="the gradient of the cross-entropy of each batch",
        seen=f"a gradient in another direction (cosine {min(likeness):.2f})",
        why="a loss that is not the one reported is minimised in its place",
    )
    # loops that never fill `grad` cannot pile it up
    ratios = [seen / (own + 1e-6) for seen, own in zip(journal.got["accumulated"], journal.own_norms(), strict=True)]
    expect(
        max(ratios, default=1) < 1.05,
        expected="gradients of the size of that of their batch alone",
        seen=f"gradients up to {max(ratios, default=1):.1f} times as large",
        why="backward() adds to what is there: gradients of all batches so far pile up unless they are set to zero",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_frozen_layers_stay(submission, rng):
    """A frozen layer comes out of training as it went in, its BatchNorm statistics included."""
    n, state = rng.randint(1, 4), random_state("net6", rng.getrandbits(63))
    try:
        (own,) = freeze(submission, "net6", n)
    except (SubmissionError, CheckFailure):
        own = {}
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    got = submission.ask(
        "train_frozen",
        backbone="net6",
        state=state,
        images=torch.randn(48, 3, 32, 32, generator=generator) * 2 + 1,
        labels=torch.randint(5, (48,), generator=generator),
        n_trainable=n,
        epochs=2,
        # a freeze_layers that fails, or leaves nothing to train, is charged in its own cell, and replaced here
        frozen=None if own.get("trainable") else first_layers("net6", n),
    )
    changed = set(differing(state, got["state"]))
    frozen = frozen_tensors("net6", got["trainable"])
    moved = [name for name in frozen if name in changed]
    statistics = [name for name in moved if "running" in name]
    expect(
        not moved,
        expected=f"{len(frozen)} frozen tensors unchanged after two epochs, with n_trainable={n} of net6",
        seen=f"{len(moved)} changed, {len(statistics)} of them BatchNorm statistics, such as {moved[0] if moved else ''}",
        why="requires_grad=False stops the optimizer, but not BatchNorm: in train mode its running statistics follow the new "
        "data, and the frozen features are no longer the pretrained ones",
    )
    expect(
        changed & set(got["trainable"]),
        expected="trainable weights that have moved after two epochs",
        seen="no trainable weight changed",
        why="that frozen layers stay means something only where the others learn",
    )
