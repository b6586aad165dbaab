"""Hidden checks of exercise 3: every rule of early stopping, compared with the reference on the same losses."""

import math

import pytest
import torch
from torch.nn import functional as F

from amllab.checks import expect
from amllab.checks.submission import SubmissionError
from amllab.checks.transfer_learning.test_freeze_layers import last_layers
from amllab.checks.transfer_learning.test_train_with_early_stopping import run, table

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
    script, got, values = run(submission, losses, rng, max_epochs=len(losses), patience=3, lr=0.05)
    return script, got, values, best


@pytest.mark.points(4)
@pytest.mark.needs("test_history")
def test_ends_with_the_best_epoch(submission, rng):
    """The model ends with the weights and the buffers of the best epoch."""
    _, got, _, best = trained(submission, rng)
    states = {int(state["epoch"]): state for state in got["epochs"]}
    for kind, names in (("weights", ["head.weight"]), ("buffers", ["steps", "noise"])):
        same = [e for e, state in states.items() if all(torch.equal(state[n], got["final"][n]) for n in names)]
        expect(
            best in same,
            expected=f"{kind} of epoch {best}, the best of {len(states)}",
            seen=f"{kind} of epoch {', '.join(map(str, same))}" if same else f"{kind} of no epoch that was validated",
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
        close = all(abs(a - b) < 1e-3 for a, b in zip(numbers, values[key], strict=True))
        expect(
            close,
            expected=f"{key} = {table(numbers)} (batches of 5, 5, 1 for training and 4, 4, 2 for validation)",
            seen=table(values[key]),
            why="a mean over batches counts each example of a small last batch more than the others",
        )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_modes(submission, rng):
    """Every epoch trains in train mode, then validates in eval mode and without gradients."""
    script, got, values, _ = trained(submission, rng)
    facts, epochs = got["facts"], len(values["val_loss"])
    expect(
        facts["train_batches_in_train_mode"] == epochs * script["batches"],
        expected=f"{epochs * script['batches']} training batches in train mode ({epochs} epochs of {script['batches']})",
        seen=f"{facts['train_batches_in_train_mode']} in train mode, {facts['train_batches_in_eval_mode']} in eval mode",
        why="after a validation the model is still in eval mode: without model.train() dropout and BatchNorm stay off",
    )
    expect(
        facts["val_batches_in_eval_mode"] >= epochs and facts["val_batches_in_train_mode"] == 0,
        expected="validation in eval mode alone",
        seen=f"{facts['val_batches_in_train_mode']} validation batches in train mode",
        why="in train mode BatchNorm learns its statistics from the validation data, and the loss depends on the batch",
    )
    expect(
        facts["val_batches_with_gradients"] == 0,
        expected="validation without gradients (torch.no_grad)",
        seen=f"{facts['val_batches_with_gradients']} validation batches with gradients switched on",
        why="gradients cost memory and time, and nothing learned from validation data may reach the weights",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_gradients_of_one_batch(submission, rng):
    """Each step uses the gradient of its own training batch alone, and moves the trainable weights."""
    script, got, values, _ = trained(submission, rng)
    train, epochs = script["train"], len(values["val_loss"])
    logits, labels = train["images"][:, 1, 0, :4], train["labels"]
    wanted = []
    for z, y in zip(logits.split(train["sizes"]), labels.split(train["sizes"]), strict=True):
        wanted.append(((z.softmax(1) - F.one_hot(y, 4)).mean(0).norm() * 2**0.5).item())
    seen = got["gradients"]
    expect(
        len(seen) == epochs * len(wanted),
        expected=f"{epochs * len(wanted)} backward passes: one for each training batch of {epochs} epochs",
        seen=f"{len(seen)}",
        why="validation data must not train the model: what it is for is to tell how the model does on new data",
    )
    # a sum over the batch in place of a mean is the same method with another learning rate
    ratios = [g / (wanted[i % len(wanted)] + 1e-12) for i, g in enumerate(seen)]
    expect(
        max(ratios) <= 1.05 * min(ratios),
        expected="gradients of the same size whenever the same batch comes again",
        seen=f"gradients up to {max(ratios) / max(min(ratios), 1e-12):.1f} times as large as that of their batch",
        why="backward() adds to what is there: gradients of all batches so far pile up unless they are set to zero",
    )
    moved = not torch.equal(got["epochs"][0]["head.weight"], got["epochs"][-1]["head.weight"])
    expect(
        moved and not got["frozen_moved"] and got["trainable"] == ["head.weight"],
        expected="the trainable weights move, the frozen ones stay, and which is which stays too",
        seen=f"trainable weights {'moved' if moved else 'did not move'}, frozen ones "
        f"{'moved' if got['frozen_moved'] else 'stayed'}; trainable afterwards: {', '.join(got['trainable']) or 'none'}",
        why="the optimizer gets the trainable parameters, all of them and no others",
    )
    steps = {}
    for lr in (1e-4, 1e-2):
        question = {"script": script, "arguments": {"max_epochs": 2, "patience": 2, "lr": lr}}
        first, last = (submission.ask("train_scripted", **question)["epochs"][i]["head.weight"] for i in (0, -1))
        steps[lr] = (last - first).norm().item()
    expect(
        steps[1e-2] > 5 * steps[1e-4],
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {steps[1e-2]:.2g} and {steps[1e-4]:.2g} in an epoch",
        why="a learning rate that is passed and not used turns every search for a good one into noise",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_frozen_layers_stay(submission, rng):
    """A frozen layer comes out of training as it went in, its BatchNorm statistics included."""
    n = rng.randint(1, 4)
    question = {"backbone": "net6", "n_trainable": n, "seed": rng.getrandbits(30)}
    try:
        (own,) = submission.ask("freeze", backbone="net6", seed=1, calls=[n])
    except SubmissionError:
        own = {}
    # a freeze_layers that fails, or leaves nothing to train, is charged in its own cell, and replaced here
    freezing = None if own.get("trainable") else last_layers("net6", 5, n)
    got = submission.ask("train_frozen", **question, freezing=freezing)
    moved = [
        name
        for name in got["frozen"]
        if name not in got["after"] or not torch.equal(got["before"][name], got["after"][name])
    ]
    statistics = [name for name in moved if "running" in name]
    expect(
        not moved,
        expected=f"{len(got['frozen'])} frozen tensors unchanged after two epochs, with n_trainable={n} of net6",
        seen=f"{len(moved)} changed, {len(statistics)} of them BatchNorm statistics, such as {moved[0] if moved else ''}",
        why="requires_grad=False stops the optimizer, but not BatchNorm: in train mode its running statistics follow the new "
        "data, and the frozen features are no longer the pretrained ones",
    )
