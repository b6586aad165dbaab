"""Hidden checks of exercise 3: what each step is made of, and what it leaves unchanged."""

import pytest
import torch

from amllab.checks import CheckFailure, expect
from amllab.checks.transfer_learning.test_freeze_layers import freeze
from amllab.checks.transfer_learning.training_runs import (
    HINT_1,
    TASK,
    lines,
    n_epochs,
    plain_answer,
    run_script,
    wait_for_history,
)
from amllab.kit import symptoms
from amllab.kit.expectations import some
from amllab.kit.state_dicts import differing, frozen_tensors, layer_names, near, random_state, values_changed
from amllab.protocol.submission import SubmissionError
from autograder.checks.transfer_learning import training_gradients as gradients
from autograder.checks.transfer_learning.training_gradients import ARGUMENTS, LOSSES, steps_run
from autograder.checks.transfer_learning.training_steps import HOW_CHANGED, STEPS, batches_in_words, change_pattern

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

IDEA_2 = "Exercise 3, Idea 2: a frozen layer must come out as it went in"
HINT_4 = "Exercise 3, Hint 4: BatchNorm of frozen layers"
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


def _statistics_of_trainable(layers, trainable, state):
    """Return the names of the BatchNorm statistics in those layers that are trainable as a whole."""
    whole = (layer for layer in layers if set(layer) <= set(trainable))
    names = {name.rpartition(".")[0] for layer in whole for name in layer}
    return [name for name in state if "running" in name and name.rpartition(".")[0] in names]


def _train_frozen(submission, **arguments):
    """Return the answer of the probe ``train_frozen``; skip the check if every training raises an error."""
    try:
        return submission.ask("train_frozen", **arguments)
    except SubmissionError as error:
        if error.kind == "raised" and "error" in plain_answer(submission):
            wait_for_history()
        raise


def _by_one_factor(pairs):
    """Return whether tensors are the old ones, all multiplied by the same factor below 1."""
    pairs = [
        (before, after) for before, after in pairs if after is not None and before.shape == after.shape and before.any()
    ]
    factors = torch.cat(
        [(after / before)[before != 0].flatten().double() for before, after in pairs] or [torch.ones(1)]
    )
    return bool(factors.max() < 1 and factors.max() - factors.min() < 1e-3)


def _learns(submission, rng):
    """Return whether the weight of the scripted model moves."""
    return any(map(any, steps_run(submission, rng).journal.moved().values()))
