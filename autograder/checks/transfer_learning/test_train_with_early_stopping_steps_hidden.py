"""Hidden checks of exercise 3: what each step is made of, and what it leaves unchanged."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.distinct_gradients import ARGUMENTS, LOSSES, steps_run
from amllab.checks.transfer_learning.training_runs import (
    HINT_1,
    TASK,
    lines,
    n_epochs,
    run_script,
)
from autograder.checks.transfer_learning import training_gradients as gradients
from autograder.checks.transfer_learning.training_steps import HOW_CHANGED, STEPS, batches_in_words, change_pattern

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

PASSED = lines(
    LOSSES,
    "",
    before="model.register_forward_hook(lambda m, inputs, logits: print(\n"
    '    "validation" if inputs[0][0, 0, 0, 0] else "training", "examples", inputs[0][:, 2, 0, 0].tolist()))\n',
    **ARGUMENTS,
)
GRADIENTS = "model.register_forward_hook(lambda m, i, z: z.register_hook(print) if z.requires_grad else None)\n"


@pytest.mark.points(3)
def test_gradients_of_one_batch(submission, rng):
    """Each step uses the gradient of plain cross-entropy on its own training batch, of the images as they come."""
    run = steps_run(submission, rng)
    journal, n = run.journal, len(run.script["train"]["labels"])
    changed = {
        part: journal.changed & (journal.is_val == (part == "validation")) for part in ("training", "validation")
    }
    which = " and ".join(part for part, of in changed.items() if of.any())
    how = journal.how_changed
    expect(
        not which,
        expected="images as the loaders give them",
        seen=f"other images in {which}: {HOW_CHANGED.get(how, how)}",
        why="augmentation belongs in the loader: this function trains on exactly the images that it is given",
        where=TASK,
        symptom=f"images changed in {which}: {how}",
        reproduce=PASSED,
    )
    on_validation = sum(len(part) for part in journal.batches if (part < 0).any())
    expect(
        on_validation == 0,
        expected="backward passes for training batches alone",
        seen=f"some for {on_validation} validation images as well",
        why="validation data must not train the model: what it is for is to tell how the model does on new data",
        where=HINT_1,
        symptom="on validation",
        reproduce=PASSED,
    )
    if run.epochs and not journal.batches:
        return  # no gradients at all: loses points with the steps
    trained = journal.trained
    expect(
        trained == [n] * len(trained),
        expected=f"{n} training examples in each epoch, each of them once",
        seen=f"{', '.join(map(str, trained))} in {n_epochs(run.epochs)}{batches_in_words(journal, run.script['train']['sizes'])}",
        why="an epoch is one pass over the training set",
        where=HINT_1,
        symptom="training examples left out" if min(trained) < n else "training examples repeated",
        reproduce=PASSED,
    )
    first = journal.first_looks
    losses = [
        gradients.loss_of(journal.gradients[i], journal.logits(i), journal.labels(journal.batches[i])) for i in first
    ]
    other = next(filter(None, losses), "")
    expect(
        not other,
        expected="the gradient of the cross-entropy of each batch",
        seen=gradients.SAYS.get(other, ""),
        why="training minimises another loss than the one that it reports",
        where=HINT_1,
        symptom=other,
        reproduce=lines(LOSSES[:2], "", before=GRADIENTS, max_epochs=2, patience=2),
    )
    piles = gradients.piled_up(journal)
    expect(
        not any(map(any, piles.values())),
        expected="in each step the gradient of its own batch alone",
        seen="gradients of the batches before are still in it: they were added up"
        + (". Is `optimizer.zero_grad()` missing?" if any(of[0] for of in piles.values()) else " within each epoch"),
        why="a backward pass adds to the gradients that are there: unless they are cleared, those of all batches so far pile up",
        where=HINT_1,
        symptom="piled up" if any(of[0] for of in piles.values()) else "piled up within an epoch",
        reproduce=lines(
            LOSSES[:1] * 4,
            "# the same batches in each epoch: the same numbers, unless something is added to the gradients",
            before="model.head.weight.register_post_accumulate_grad_hook(lambda p: print(p.grad.norm().item()))\n"
            "model._stage.script['train_logits'] = model._stage.script['train_logits'][:1]\n",
            max_epochs=4,
            patience=4,
        ),
    )


@pytest.mark.points(3)
def test_steps(submission, rng):
    """Each batch is followed by one step of the size that `lr` gives, and the weights move."""
    run = steps_run(submission, rng)
    journal, taken = run.journal, run.journal.got["steps"]
    moved = journal.moved()
    pattern = change_pattern(journal, moved, taken)
    watch = (
        "model.register_forward_hook(lambda m, inputs, logits: print(\n"
        '    "train" if torch.is_grad_enabled() else "val", m.head.weight.detach().flatten().tolist()))\n'
    )
    expect(
        not pattern,
        expected="one step for each training batch, that moves the trainable weights",
        seen=STEPS.get(pattern, "").format(
            steps=taken, batches=len(journal.first_looks), looks=journal.passes_per_batch
        ),
        why="without steps nothing is learned"
        if pattern.startswith("weights do not") or not journal.batches
        else "the number of steps decides how far training gets: runs with another number cannot be compared",
        where=HINT_1,
        symptom=pattern,
        reproduce=lines(LOSSES, "", before=watch, **ARGUMENTS),
    )
    steps, trials = {}, {}
    for lr in (1e-4, 1e-3, 1e-2, None):
        rate = {} if lr is None else {"lr": lr}
        found = run_script(submission, run.script, LOSSES, max_epochs=2, patience=2, **rate)
        states = found.journal.states
        last = states[max(states)]["head.weight"] if states else found.journal.final["head.weight"]
        steps[lr] = (last.float() - run.script["state"]["head.weight"]).norm().item()
        trials[lr] = found.journal.first_trial()
    expect(
        # a line search chooses its step size: there `lr` is the size of its first trial
        steps[1e-2] > 5 * steps[1e-4] or trials[1e-2] > 5 * trials[1e-4],
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {steps[1e-2]:.2g} and {steps[1e-4]:.2g} in two epochs: is `lr` what the optimizer gets?",
        why="a learning rate that is passed but not used makes every search for a good one pointless",
        symptom="learning rate ignored"
        if abs(steps[1e-2] - steps[1e-4]) <= 0.1 * steps[1e-4]
        else "learning rate changed",
        reproduce="from amllab import scripted_training\n\n"
        "for lr in (1e-4, 1e-2):\n"
        "    model, train_loader, val_loader = scripted_training([1.0, 0.9])\n"
        "    before = model.head.weight.detach().clone()\n"
        "    train_with_early_stopping(model, train_loader, val_loader, max_epochs=2, patience=2, lr=lr)\n"
        '    print("lr", lr, "moved the weights by", (model.head.weight - before).norm().item())',
    )
    expect(
        abs(steps[None] - steps[1e-3]) <= 0.1 * steps[1e-3],
        expected="without lr the steps of lr=0.001, as the signature says",
        seen=f"weights moved by {steps[None]:.2g} without lr and by {steps[1e-3]:.2g} with lr=0.001, in two epochs",
        why="experiments that name no learning rate are compared with each other",
        symptom="another default of lr",
    )
