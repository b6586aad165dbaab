"""Hidden checks of exercise 3: every rule of early stopping, compared with the reference on the same losses."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from amllab.checks import CheckFailure, expect, series
from amllab.checks.submission import SubmissionError
from amllab.checks.transfer_learning import symptoms
from amllab.checks.transfer_learning.journal import Journal
from amllab.checks.transfer_learning.models import differing, frozen_tensors, layer_names, random_state, same
from amllab.checks.transfer_learning.scripted import CLASSES, make_script
from amllab.checks.transfer_learning.test_freeze_layers import freeze, some
from amllab.checks.transfer_learning.test_train_with_early_stopping import (
    IDEA_1,
    WATCH,
    call,
    lines,
    losses_of,
    run_script,
    table,
)

pytestmark = pytest.mark.cell("check_train_with_early_stopping", section="Exercise 3: train with early stopping")

IDEA_2 = "Exercise 3, Idea 2: a frozen layer must come out as it went in"
HINT_1 = "Exercise 3, Hint 1: the order of an epoch"
HINT_2 = "Exercise 3, Hint 2: means over examples"
HINT_3 = "Exercise 3, Hint 3: remembering the best epoch"
HINT_4 = "Exercise 3, Hint 4: BatchNorm of frozen layers"
HINT_5 = "Exercise 3, Hint 5: NaN"


# Rules of early stopping, right and wrong, so that a submission can be recognised by what it did


@dataclass(frozen=True)
class Rule:
    """A way to stop and to choose an epoch; the defaults are the contract's.

    Attributes:
        improves: from the loss, the best one so far, the one before and min_delta: an improvement? None: not counted at all.
        resets: whether an improvement starts the count anew.
        wait: epochs that it waits beyond patience.
        limit: epochs that it runs beyond ``max_epochs``.
        lowest: whether the best loss is the lowest so far, improvement or not.
        first: whether the first loss is taken as the best one, whatever it is.
    """

    improves: object = lambda loss, best, before, delta: loss < best - delta
    resets: bool = True
    wait: float = 0
    limit: int = 0
    lowest: bool = False
    first: bool = False

    def outcome(self, losses, *, max_epochs=30, patience=5, min_delta=0.0):
        """Number of epochs and best epoch."""
        best, best_epoch, before, waited = math.inf, 0, math.inf, 0
        epochs = [*losses, losses[-1]][: max_epochs + self.limit]  # the model goes on with its last loss
        for epoch, loss in enumerate(epochs):
            improved = self.improves(loss, best, before, min_delta)
            if self.first and epoch == 0:
                best = loss
            elif improved:
                best, best_epoch, waited = loss, epoch, 0 if self.resets else waited
            elif improved is not None:
                waited += 1
                if waited >= patience + self.wait:
                    return epoch + 1, best_epoch
            if self.lowest:
                best = min(best, loss)
            before = loss
        return len(epochs), best_epoch


RULES = {
    "": Rule(),
    "1 epoch late": Rule(wait=1),
    "1 epoch early": Rule(wait=-1),
    "never stopped": Rule(wait=math.inf),
    "stopped at the first epoch without improvement": Rule(wait=-math.inf),
    "count never starts anew": Rule(resets=False),
    "1 epoch more than max_epochs": Rule(limit=1),
    "1 epoch less than max_epochs": Rule(limit=-1),
    "compared with the epoch before": Rule(lambda loss, best, before, delta: loss < before - delta),
    "min_delta ignored": Rule(lambda loss, best, before, delta: loss < best),
    "equal losses improve": Rule(lambda loss, best, before, delta: loss <= best - delta),
    "min_delta with the wrong sign": Rule(lambda loss, best, before, delta: loss < best + delta),
    "min_delta relative to the best": Rule(lambda loss, best, before, delta: loss < best * (1 - delta)),
    "best loss moves without improvement": Rule(lowest=True),
    "NaN improves": Rule(lambda loss, best, before, delta: not loss >= best - delta),
    "NaN improves, and is forgotten": Rule(lambda loss, best, before, delta: math.isnan(loss) or loss < best - delta),
    "NaN does not count": Rule(lambda loss, best, before, delta: None if math.isnan(loss) else loss < best - delta),
    "NaN as first best": Rule(first=True),
}
CHOICES = {
    "": lambda best, losses: best,
    "best_epoch: missing": lambda best, losses: math.nan,
    "best_epoch: its loss": lambda best, losses: losses[best],
    "best_epoch: counted from 1": lambda best, losses: best + 1,
    "best_epoch: the last": lambda best, losses: len(losses) - 1,
    "best_epoch: lowest loss": lambda best, losses: losses.index(min(losses, key=lambda v: math.inf if v != v else v)),
    "best_epoch: NaN as lowest loss": lambda best, losses: min(
        range(len(losses)), key=lambda e: (losses[e] == losses[e], losses[e])
    ),
    "best_epoch: the first": lambda best, losses: 0,
}


def recognised(cases, outcomes):
    """The rule and the choice of an epoch that explain what a submission did in all cases; empty where none does."""
    # one mistake is likelier than two: choices first, so that every rule is tried with the right one
    for (choice, choose), (rule, how) in itertools.product(CHOICES.items(), RULES.items()):
        explained = [how.outcome(losses, **arguments) for losses, arguments in cases]
        wanted = [(n, choose(b, (c[0] + c[0][-1:])[:n])) for c, (n, b) in zip(cases, explained, strict=True)]
        if all(map(_alike, outcomes, wanted)):
            return symptoms.join(rule, choice)
    return ""


def _alike(seen, wanted):
    """Whether two pairs of a number of epochs and a best epoch are the same; the latter may be no epoch, or a loss."""
    close = math.isclose(seen[1], wanted[1], abs_tol=1e-3) or (math.isnan(seen[1]) and math.isnan(wanted[1]))
    return seen[0] == wanted[0] and close


# mistakes that lose points in test_stops_after_patience, and in test_patience_to_the_epoch: charged there, and not again
IN_CHOICE = {
    "best_epoch: counted from 1",
    "best_epoch: the last",
    "best_epoch: the first",
    "best_epoch: missing",
    "best_epoch: its loss",
}
IN_STOPPING = {
    "1 epoch early",
    "1 epoch late",
    "1 epoch more than max_epochs",  # charged in test_max_epochs
    "1 epoch less than max_epochs",
    *IN_CHOICE,
}
IN_PATIENCE = {
    "never stopped",
    "stopped at the first epoch without improvement",
    "count never starts anew",
    *IN_STOPPING,
}


def compare(submission, reference, cases, rng, *, why, charged, where=IDEA_1):
    """Trains both on the same scripted losses; fails where they stop, or choose, differently.

    Args:
        cases: pairs of validation losses and arguments.
        charged: rules and choices that lose points elsewhere: whoever keeps to one of these in all cases passes.
    """
    outcomes = []
    for losses, arguments in cases:
        script = make_script(losses, rng, train_sizes=(4, 4), val_sizes=(3, 3), in_each_batch=True)
        histories = [run_script(who, script, losses, **arguments)[2] for who in (submission, reference)]
        outcomes.append([(len(values["val_loss"]), values["best_epoch"]) for values in histories])
    symptom = recognised(cases, [seen for seen, _ in outcomes])
    if symptom and charged.issuperset(symptom.split("; ")):
        return
    for (losses, arguments), (seen, wanted) in zip(cases, outcomes, strict=True):
        late = "never stopped" if seen[0] == arguments.get("max_epochs", len(losses)) else "late"
        expect(
            seen == wanted,
            expected=f"{wanted[0]} epochs and best_epoch={wanted[1]:g}, with {call(arguments)[2:] or 'no further arguments'}",
            seen=f"{seen[0]} epochs and " + ("no best_epoch" if math.isnan(seen[1]) else f"best_epoch={seen[1]:g}"),
            why=why,
            where=where,
            symptom=symptom
            or ("early" if seen[0] < wanted[0] else late if seen[0] > wanted[0] else "best_epoch: another"),
            series=losses_of(
                losses,
                best=wanted[1],
                epochs=wanted[0],
                returned=int(seen[1]) if seen[1] in range(len(losses)) else None,
                ran=seen[0],
            ),
            reproduce=lines(losses, 'len(history["val_loss"]), history["best_epoch"]', **arguments),
        )


@pytest.mark.points(3)
@pytest.mark.needs("test_history")
def test_patience_to_the_epoch(submission, reference, rng):
    """Patience counts epochs in a row: an improvement starts the count anew, and `max_epochs` ends it all."""
    why = "patience is the number of epochs without improvement that you are willing to wait, no more and no less"
    cases = []
    for patience in (1, 2, 3):
        losses, best = [], 1.0
        for _ in range(3):  # each improvement comes in the last epoch that patience leaves
            losses += [best + 0.1 + 0.1 * rng.random() for _ in range(patience - 1)] + [best := best - 0.08]
        losses = [1.02, *losses, *(best + 0.1 + 0.1 * rng.random() for _ in range(patience + 3))]
        cases.append((rounded(losses), {"max_epochs": len(losses), "patience": patience}))
    losses = [0.9 - 0.05 * i for i in range(4)] + [1.0, 1.1]
    cases.append((rounded(losses), {"max_epochs": rng.choice([3, 4]), "patience": 5}))
    # what the signature says where nothing is said: patience of 5, 30 epochs at most
    cases.append((rounded([0.9, *(1.0 + 0.1 * rng.random() for _ in range(9))]), {}))
    cases.append((rounded([2.0 - 0.05 * i for i in range(33)]), {}))
    # whatever the first loss is, it is the best so far
    high = 11 + 4 * rng.random()
    cases.append((rounded([high, high - 0.5, high + 0.2, high + 0.1, high + 0.3]), {"max_epochs": 5, "patience": 2}))
    compare(submission, reference, cases, rng, why=why, charged=IN_STOPPING)


def rounded(losses):
    """Losses as a report shows them, so that what is shown is what was laid down."""
    return [round(loss, 3) for loss in losses]


@pytest.mark.points(3)
@pytest.mark.needs("test_history")
def test_min_delta(submission, reference, rng):
    """An epoch improves only when it is better than the best so far by more than `min_delta`."""
    delta = round(0.1 + 0.05 * rng.random(), 3)
    # steps of little more than half a min_delta: measured against the best so far they add up, against the last epoch never
    steps = [1.2 - 0.55 * delta * i for i in range(8)]
    # the lowest loss comes in an epoch that is no improvement
    too_small = [0.9, *(0.9 - (0.2 + 0.4 * rng.random()) * delta for _ in range(7))]
    too_small[2] = 0.9 - 0.8 * delta
    # worse than the best by less than min_delta, but better than the epoch before by more
    worse = [0.9, 0.9 + 1.8 * delta, 0.9 + 0.3 * delta, *(0.9 + (0.2 + 0.6 * rng.random()) * delta for _ in range(5))]
    cases = [
        (rounded(losses), {"max_epochs": len(losses), "patience": 3, "min_delta": delta})
        for losses in (steps, too_small, worse)
    ]
    equal = [1.0, 0.8, 0.8, 0.8, 0.8, 0.8, round(0.5 + 0.1 * rng.random(), 3)]
    cases.append((equal, {"max_epochs": len(equal), "patience": 3}))
    why = "min_delta keeps noise from passing for progress; it is measured against the best loss, not the last"
    compare(submission, reference, cases, rng, why=why, charged=IN_PATIENCE)


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_nan_is_no_improvement(submission, reference, rng):
    """A validation loss that is NaN is no improvement: it uses up patience, and never becomes the best."""
    nan, a = math.nan, 0.7 + 0.1 * rng.random()
    cases = [
        (rounded(losses), {"max_epochs": len(losses), "patience": min(3, len(losses) - 1)})
        for losses in (
            [nan, 0.5],  # no loss is a number: of one epoch, the first is the best there is
            [nan, nan, 1.0, a, nan, nan, nan, 0.1],
            [1.0, nan, a, nan, 1.1, nan, 1.2, 1.3, 1.4, 1.5],
            [
                1.0,
                1.1,
                a,
                nan,
                1.2,
                nan,
                1.3,
                1.4,
            ],  # who stops at NaN is told from who stops at the first epoch that is worse
        )
    ]
    why = "every comparison with NaN is false: depending on how it is written, that reads as progress or as none"
    compare(submission, reference, cases, rng, why=why, where=HINT_5, charged=IN_PATIENCE)


def trained(submission, rng, *, patience=3):
    """A run whose best epoch is neither among the first two nor the last. Three epochs follow it.

    Returns:
        Script, journal, history, the best epoch, and losses and arguments as :func:`lines` takes them.
    """
    best = rng.randint(2, 3)
    losses = rounded([1.0 - 0.1 * i for i in range(best + 1)] + [1.1, 1.2, 1.3])
    while True:
        script = make_script(losses, rng, train_sizes=(4, 4), val_sizes=(3, 3), in_each_batch=True)
        if _pile_up(script) and _tells_losses_apart(script):
            break
    arguments = {"max_epochs": len(losses), "patience": patience, "lr": 0.05}
    _, journal, values = run_script(submission, script, losses, **arguments)
    return script, journal, values, best, losses, arguments


def _pile_up(script):
    """Whether the gradients of the training batches grow where they are added: two that cancel would hide that they are."""
    train = script["train"]
    logits = train["images"][:, 1, 0, :CLASSES]
    by_example = logits.softmax(1) - F.one_hot(train["labels"], CLASSES)
    batches = [part.mean(0) for part in by_example.split(train["sizes"])]
    return sum(batches).norm() > 1.2 * max(batch.norm() for batch in batches)


def _tells_losses_apart(script):
    """Whether smoothed labels, a likely other loss, give a gradient in another direction."""
    train = script["train"]
    logits, labels = train["images"][:, 1, 0, :CLASSES], train["labels"]
    probabilities = logits.softmax(1)
    own, smoothed = (probabilities - ((1 - e) * F.one_hot(labels, CLASSES) + e / CLASSES) for e in (0.0, 0.1))
    parts = zip(own.split(train["sizes"]), smoothed.split(train["sizes"]), strict=True)
    likeness = min(F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item() for a, b in parts)
    # surer of a label than smoothing lets it be, the model is pushed away from it: another mistake to the journal
    return likeness < 0.999 and probabilities.gather(1, labels[:, None]).max() < 0.9


@pytest.mark.points(4)
@pytest.mark.needs("test_history")
def test_ends_with_the_best_epoch(submission, rng):
    """The model ends with the weights and the buffers of the best epoch."""
    for patience in (3, 4):  # training stops early, and is ended by max_epochs
        _ends_with_the_best(*trained(submission, rng, patience=patience))


def _ends_with_the_best(script, journal, values, best, losses, arguments):
    states, final = journal.states(), journal.got["final"]
    kinds = {"weights": ("head.weight",), "buffers": ("steps", "noise")}
    alike = {
        kind: [e for e, state in states.items() if all(same(state.get(n), final[n]) for n in names)]
        for kind, names in kinds.items()
    }
    at_start = {kind: all(same(script["state"][n], final[n]) for n in names) for kind, names in kinds.items()}
    symptom = symptoms.join(*(_restored(kind, epochs, best, states, at_start[kind]) for kind, epochs in alike.items()))
    if symptom and arguments["patience"] > 3:
        symptom += "; where max_epochs ends it"
    for kind, epochs in alike.items():
        of = epochs[0] if len(epochs) == 1 else None
        shown = series(
            "val_loss",
            losses[: len(values["val_loss"])],
            best=best,
            **{f"{kind}_at_the_end": of if of != best else None},
        )
        name = kinds[kind][0]
        expect(
            # buffers that no batch has moved were not trained in train mode, which is charged where that is checked
            best in epochs and (len(epochs) < len(states) or kind == "buffers"),
            expected=f"{kind} of epoch {best}, the best of {len(states)}",
            seen=f"{kind} as they were before the training"
            if at_start[kind]
            else f"{kind} of epoch {', '.join(map(str, epochs))}"
            if epochs
            else f"{kind} of no epoch that was validated",
            why="the best epoch is what you report; a reference to the weights goes on changing with them, a copy does not"
            if kind == "weights"
            else "BatchNorm's running statistics are buffers: weights of one epoch with statistics of another fit no data",
            where=HINT_3,
            symptom=symptom,
            series=shown,
            reproduce=lines(
                losses,
                f'end = model.state_dict()["{name}"]\n'
                f'[epoch for epoch, state in model.states.items() if torch.equal(state["{name}"], end)]',
                **arguments,
            ),
        )


def _restored(kind, epochs, best, states, at_start):
    """What became of the weights or the buffers; empty where they are those of the best epoch."""
    if len(epochs) == len(states):
        return "weights: never moved" if kind == "weights" else ""
    if best in epochs:
        return ""
    usual = {
        best + 1: "epoch after the best",
        best - 1: "epoch before the best",
        max(states): "last epoch",
        0: "first epoch",
    }
    if not epochs:
        return f"{kind}: as before the training" if at_start else f"{kind}: of no epoch"
    return f"{kind}: {usual.get(epochs[0], 'another epoch')}"


SIZES = {"train_sizes": (5, 5, 1), "val_sizes": (4, 4, 2)}
MANY = {"train_sizes": (64, 64, 64, 8), "val_sizes": (50, 50, 20)}  # sums that are held in too few digits show here


@pytest.mark.points(3)
@pytest.mark.needs("test_history")
def test_means_over_examples(submission, rng):
    """Losses and accuracies are means over examples, also when the last batch is smaller."""
    losses = rounded([1.0 - 0.1 * rng.random(), 0.8, 0.7])
    while True:
        script = make_script(losses, rng, **SIZES)
        means = _means(script)
        if all(_apart(alternatives.values()) for alternatives in means.values()):
            break
    arguments = {"max_epochs": 3, "patience": 3}
    expect_means(submission, script, losses, SIZES, means, arguments)
    many = make_script(losses, rng, **MANY)
    expect_means(submission, many, losses, MANY, _means(many), arguments)


def expect_means(submission, script, losses, sizes, means, arguments):
    """Fails the check unless the lists of the history are means over examples, epoch by epoch as far as it goes."""
    _, _, values = run_script(submission, script, losses, **arguments)
    likely = {key: [name for name, seen in means[key].items() if _close(seen, values[key])] for key in means}
    symptom = symptoms.join(
        *(f"{key}: {(names or ['another number'])[0]}" for key, names in likely.items() if MEAN not in names)
    )
    for key, alternatives in means.items():
        wanted, seen = alternatives[MEAN], values[key]
        which = f", which is the {likely[key][0]}" if likely[key] else ""
        expect(
            MEAN in likely[key],
            expected=f"{key} = {table(wanted)} (batches of {', '.join(map(str, sizes['train_sizes']))} for training and "
            f"{', '.join(map(str, sizes['val_sizes']))} for validation)",
            seen=f"{table(seen)}{which}",
            why="curves and runs can be compared only where each figure is a mean over examples, whatever the sizes of the "
            "batches, and each accuracy a number between 0 and 1"
            if "mean over the batches" not in likely[key]
            else "a mean over batches counts each example of a small last batch more than the others",
            where=HINT_2,
            symptom=symptom,
            reproduce=lines(
                losses,
                f'history["{key}"], evaluate(model, {key.split("_")[0]}_loader)  # the latter: means over examples',
                sizes=f", train_sizes={sizes['train_sizes']}, val_sizes={sizes['val_sizes']}",
                **arguments,
            ),
        )


MEAN = "mean over the examples"


def _means(script):
    """For each list of a history: what it would hold, had a usual mistake been made, and what it has to."""
    train, val = script["train"], script["val"]
    train_logits = [train["images"][:, 1, 0, :CLASSES]] * len(script["val_logits"])
    found: dict[str, dict[str, list[float]]] = {}
    by_part: dict[str, dict[str, list[torch.Tensor]]] = {}
    for part, data, epochs in (("train", train, train_logits), ("val", val, list(script["val_logits"]))):
        by_part[part] = {
            "loss": [F.cross_entropy(logits, data["labels"], reduction="none").double() for logits in epochs],
            "acc": [(logits.argmax(1) == data["labels"]).double() for logits in epochs],
        }
        for key, by_example in by_part[part].items():
            found[f"{part}_{key}"] = _alternatives(by_example, data["sizes"], key)
    for key in ("loss", "acc"):
        both = [torch.cat(parts) for parts in zip(by_part["train"][key], by_part["val"][key], strict=True)]
        found[f"train_{key}"]["mean over both loaders"] = [float(values.mean()) for values in both]
    return found


def _alternatives(by_example, sizes, key):
    """For each usual mistake: what it makes of the values of the examples, one number an epoch."""

    def of(make):
        return [float(make(values, torch.stack([v.mean() for v in values.split(sizes)]))) for values in by_example]

    found = {
        MEAN: of(lambda values, means: values.mean()),
        "mean over the batches": of(lambda values, means: means.mean()),
        "sum over the examples": of(lambda values, means: values.sum()),
        "sum over the batches": of(lambda values, means: means.sum()),
        "sum over the examples, divided by the number of batches": of(lambda values, means: values.sum() / len(sizes)),
        "sum over the batches, divided by the number of examples": of(lambda values, means: means.sum() / len(values)),
        "mean of the last batch": of(lambda values, means: means[-1]),
    }
    if key == "acc":
        found["percent"] = of(lambda values, means: 100 * values.mean())
        found["share of errors"] = of(lambda values, means: 1 - values.mean())
    return found


def _apart(alternatives):
    """Whether each differs from each other in some epoch, by more than two numbers may that are taken for the same."""
    return all(
        max(abs(a - b) for a, b in zip(*pair, strict=True)) > 5e-3 for pair in itertools.combinations(alternatives, 2)
    )


def _close(wanted, seen):
    # how many epochs there are is checked elsewhere
    return all(abs(a - b) < 1e-3 for a, b in zip(wanted, seen, strict=False))


# batches of 4 images for training, of 3 for validation
PASSES = lines([1.0, 0.9], "", before=WATCH, max_epochs=2, patience=2)


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_modes(submission, rng):
    """Every epoch trains in train mode, then validates in eval mode and without gradients."""
    script, journal, values, *_ = trained(submission, rng)
    epochs, images = len(values["val_loss"]), len(script["train"]["labels"])
    in_train, in_eval = (journal.count(~journal.is_val & mode) for mode in (journal.train_mode, ~journal.train_mode))
    validated = {
        "in train mode": int((journal.is_val & journal.train_mode).sum()),
        "with gradients": int((journal.is_val & journal.with_gradients).sum()),
    }
    # an optimizer that looks several times at a batch passes it several times
    images = round(images * journal.looks)
    training = {
        0: "never in train mode",
        images: "train mode in the first epoch alone",
        (epochs - 1) * images: "first epoch in eval mode",
    }
    symptom = symptoms.join(
        training.get(in_train, "training partly in eval mode") if in_train < epochs * images else "",
        *(f"validation {how}" for how, count in validated.items() if count),
    )
    expect(
        in_train >= epochs * images,
        expected=f"{epochs * images} training images in train mode ({epochs} epochs of {images})",
        seen=f"{in_train} in train mode, {in_eval} in eval mode",
        why="after a validation the model is still in eval mode: unless it is set back to train mode, dropout and BatchNorm "
        "do not train",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES,
    )
    expect(
        not validated["in train mode"],
        expected="validation in eval mode alone",
        seen=f"{validated['in train mode']} validation batches in train mode",
        why="in train mode BatchNorm learns its statistics from the validation data, and the loss depends on the batch",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES,
    )
    expect(
        not validated["with gradients"],
        expected="validation without gradients",
        seen=f"{validated['with gradients']} validation batches with gradients switched on",
        why="gradients cost memory and time, and nothing learned from validation data may reach the weights",
        where=HINT_1,
        symptom=symptom,
        reproduce=PASSES,
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_gradients_of_one_batch(submission, rng):
    """Each step uses the gradient of its own training batch alone, and moves the trainable weights."""
    script, journal, _, _, losses, arguments = trained(submission, rng)
    on_validation = int((journal.examples < 0).sum())
    expect(
        on_validation == 0,
        expected="backward passes for training batches alone",
        seen=f"some for {on_validation} validation images as well",
        why="validation data must not train the model: what it is for is to tell how the model does on new data",
        where=HINT_1,
        symptom="on validation",
        reproduce=PASSES,
    )
    expect_own_gradients(journal)
    expect(
        # by an optimizer that needs several looks for one step, or in several steps
        journal.looks == 1 or journal.got["steps"] < len(journal.got["batches"]),
        expected="one step for each batch, however often the optimizer looks at it",
        seen=f"{journal.got['steps']} steps for {len(journal.got['batches']) / journal.looks:g} batches, each differentiated "
        f"{journal.looks:g} times",
        why="more steps on the same batch are more training than the history says, and they fit that batch alone",
        where=HINT_1,
        symptom="several steps on each batch",
        reproduce=PASSES,
    )
    last = max(journal.states())
    moved = not same(script["state"]["head.weight"], journal.states()[last]["head.weight"])
    frozen_moved = differing(
        {name: script["state"][name] for name in ("body.weight", "body.bias")}, journal.got["final"]
    )
    trainable = journal.got["trainable"]
    expect(
        moved and not frozen_moved and trainable == ["head.weight"],
        expected="the trainable weights move, the frozen ones stay, and which is which stays too",
        seen=f"trainable weights {'moved' if moved else 'did not move'}, frozen ones "
        f"{'moved' if frozen_moved else 'stayed'}; trainable afterwards: {some(trainable)}",
        why="the optimizer gets the trainable parameters, all of them and no others",
        where=HINT_1,
        symptom=symptoms.join(
            "" if moved else "weights do not move",
            "frozen weights move" if frozen_moved else "",
            "" if trainable == ["head.weight"] else "thaws" if "head.weight" in trainable else "freezes",
        ),
        reproduce=lines(
            losses,
            "first, last = model.states[0], model.states[max(model.states)]\n"
            "{name: torch.equal(first[name], last[name]) for name, p in model.named_parameters()}  # True: has not moved",
            **arguments,
        ),
    )
    steps = {}
    for lr in (1e-4, 1e-3, 1e-2, None):
        rate = {} if lr is None else {"lr": lr}
        _, journal, _ = run_script(submission, script, losses, max_epochs=2, patience=2, **rate)
        first, last = script["state"]["head.weight"], journal.states()[max(journal.states())]["head.weight"]
        steps[lr] = (last.float() - first).norm().item()
    expect(
        steps[1e-2] > 5 * steps[1e-4],
        expected="larger steps with lr=0.01 than with lr=0.0001",
        seen=f"weights moved by {steps[1e-2]:.2g} and {steps[1e-4]:.2g} in two epochs",
        why="a learning rate that is passed and not used turns every search for a good one into noise",
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


def expect_own_gradients(journal: Journal) -> None:
    """Fails the check unless each gradient is that of cross-entropy on its batch, and none was added to the one before."""
    parts = [part.split(journal.got["batches"]) for part in (journal.gradients, journal.wanted_gradients())]
    # a sum over the batch in place of a mean is the same method with another learning rate
    likeness = [F.cosine_similarity(g.flatten(), w.flatten(), dim=0).item() for g, w in zip(*parts, strict=True)]
    expect(
        min(likeness) > 0.9995,  # what bfloat16 rounds off is many times smaller
        expected="the gradient of the cross-entropy of each batch",
        seen=f"a gradient in another direction (cosine {min(likeness):.3f})",
        why="a loss that is not the one reported is minimised in its place",
        where=HINT_1,
        symptom="another direction",
    )
    # loops that never fill `grad` cannot pile it up
    ratios = [seen / (own + 1e-6) for seen, own in zip(journal.got["accumulated"], journal.own_norms(), strict=True)]
    # of the first batch of each epoch, where there is one gradient for each batch
    per_epoch = len(journal.script["train"]["sizes"])
    within = max(ratios[::per_epoch], default=1) < 1.05
    expect(
        max(ratios, default=1) < 1.05,
        expected="gradients of the size of that of their batch alone",
        seen=f"gradients up to {max(ratios, default=1):.1f} times as large",
        why="a backward pass adds to the gradients that are there: those of all batches so far pile up unless they are cleared",
        where=HINT_1,
        symptom="piled up within an epoch" if within else "piled up",
        reproduce=lines(
            [1.0, 0.9, 0.8, 0.7],
            "# the same two batches in each epoch: the same two numbers, unless something is added to the gradients",
            before="model.head.weight.register_post_accumulate_grad_hook(lambda p: print(p.grad.norm().item()))\n",
            max_epochs=4,
            patience=4,
        ),
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_history")
def test_frozen_layers_stay(submission, rng):
    """A frozen layer comes out of training as it went in, its BatchNorm statistics included."""
    n, state = rng.randint(2, 4), random_state("net6", rng.getrandbits(63))
    try:
        (own,) = freeze(submission, "net6", n, state=state)
    except (SubmissionError, CheckFailure):
        own = {}
    sound = own.get("trainable") and not differing(state, own["state"])
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    got = submission.ask(
        "train_frozen",
        backbone="net6",
        state=state,
        images=torch.randn(24, 3, 32, 32, generator=generator) * 2 + 1,
        labels=torch.randint(5, (24,), generator=generator),
        n_trainable=n,
        epochs=2,
        # a freeze_layers that fails, changes values, or leaves nothing to train, is charged in its own cell, and replaced here
        layers=None if sound else layer_names("net6"),
    )
    changed = set(differing(state, got["state"]))
    frozen = frozen_tensors("net6", got["trainable"])
    # where the best weights are those of the first epoch, restoring them hides what drifted: each validation is looked at too
    drifted = changed.union(*(differing(state, seen) for seen in got["validated"]))
    moved = [name for name in frozen if name in drifted]
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
        "changed()"
    )
    expect(
        not moved,
        expected=f"{len(frozen)} frozen tensors unchanged after two epochs, with n_trainable={n} of net6",
        seen=f"{len(moved)} changed, {len(statistics)} of them BatchNorm statistics: {some(moved)}",
        why="a parameter that asks for no gradient is left alone by the optimizer, but BatchNorm is not: in train mode its "
        "running statistics follow the new data, and the frozen features are no longer the pretrained ones"
        if statistics
        else "frozen weights are the pretrained features: an optimizer that moves them trains another model",
        where=HINT_4 if statistics else IDEA_2,
        symptom=symptoms.join(
            "statistics drift" if statistics else "", "frozen weights move" if len(moved) > len(statistics) else ""
        ),
        reproduce=reproduce,
    )
    # gradients of biases may be too small to change them in a few steps
    trainable = [name for name in got["trainable"] if name in state and state[name].ndim > 1]
    still = [name for name in trainable if name not in changed]
    expect(
        changed & set(got["trainable"]) and not still,
        expected=f"weights of all {n} trainable layers that have moved after two epochs",
        seen=f"unchanged: {some(still)}",
        why="that frozen layers stay means something only where the others learn, all of them",
        symptom="nothing learns" if not changed & set(got["trainable"]) else "some trainable layers never learn",
        reproduce=reproduce,
    )
