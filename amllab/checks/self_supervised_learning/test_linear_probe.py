"""Public checks of exercise 3, ``linear_probe``: what is returned, what it has learned, and the encoder's weights."""

import pytest

from amllab.checks import expect
from amllab.checks.self_supervised_learning.probe_modes import AFTER, SETUP, _structure, called, was_used
from amllab.checks.self_supervised_learning.probe_runs import (
    ANOTHER_ENCODER,
    CLASSES,
    LEAST,
    NORMALISED,
    PILES_UP,
    SCALED,
    TRAIN_MODE,
    accuracy_of,
    answer,
    before,
    call,
    drawn,
    known_mistake,
    learning,
    parameters_of,
    was_trained,
    weights_changed,
)
from amllab.kit.expectations import Call, printed, refuses, returned, returns, some, unchanged
from amllab.kit.snapshots import changes
from amllab.seeds import derive

pytestmark = pytest.mark.cell("check_linear_probe", section="Exercise 3: the linear probe")

SHORT = {"epochs": 2}


@pytest.mark.points(2)
def test_returns_a_linear_layer(submission, rng):
    """Returns an `nn.Linear` from features to classes."""
    most = rng.choice([5, 6, 7])
    case = drawn(rng.getrandbits(63), [kind for _ in range(4) for kind in range(most)])
    asked = case.question(rng.getrandbits(63), (10, 8, 4 * most - 18), arguments=SHORT)
    got = answer(submission, asked)
    wanted = [most, case.further.shape[1]]
    kind = returned(got["type"], "layer")
    if got["type"] == "Sequential":
        kind += ": is its last layer the one that was trained?"
    expect(
        got["linear"],
        expected="an `nn.Linear`",
        seen=kind,
        why="the layer is what is compared: it is applied to the features of other images",
        symptom="nothing returned" if got["type"] == "NoneType" else "something else returned",
        reproduce=f"{call(asked).setup}type({call(asked).text})",
    )
    shown = "layer = {}\nlayer.in_features, layer.out_features"
    expect(
        got["shape"] == wanted,
        expected=f"a layer from {wanted[1]} features, as the encoder returns, to {most} classes",
        seen=f"a layer from {got['shape'][1]} features to {got['shape'][0]} classes",
        why="the layer reads the encoder's output, and has one output for each of `num_classes` classes",
        symptom="another number of features" if got["shape"][1] != wanted[1] else "another number of classes",
        reproduce=call(asked).setup + shown.format(call(asked).text),
    )
    expect(
        got["dtype"] == "torch.float32",
        expected="a layer in float32, as the encoder's features are",
        seen=f"a layer in {got['dtype']}",
        why="a layer in another precision cannot be applied to the features",
        symptom="another precision",
        reproduce=f"{call(asked).lines}.weight.dtype",
    )
    # some labels may be missing in a small data set
    more = most + rng.randint(1, 4)
    asked = case.question(rng.getrandbits(63), (12, 4 * most - 12), num_classes=more, arguments=SHORT)
    got = answer(submission, asked)
    expect(
        got["shape"] == [more, wanted[1]],
        expected=f"{more} outputs for num_classes={more}, though the images have only {most} of the classes",
        seen=f"{(got['shape'] or ['no'])[0]} outputs",
        why="`num_classes` says how many classes there are: a class without images today may have some tomorrow",
        symptom="classes counted in the labels",
        share=0.5,
        reproduce=call(asked).setup + shown.format(call(asked).text),
    )


# mistake in the training -> how it shows
SAYS = {
    PILES_UP: "the gradients of all steps so far add up: is `optimizer.zero_grad()` missing?",
    NORMALISED: "the gradients are those for features of length 1. The layer will be applied to features as the encoder gives them",
    SCALED: "the gradients are those for features that are scaled over all images. The layer will be applied to features as the "
    "encoder gives them",
    TRAIN_MODE: "the encoder is in train mode: the features of an image depend on its batch and on chance",
    ANOTHER_ENCODER: "the encoder is changed: the layer fits other features than those of the encoder that was given",
    "outputs without a softmax": "the gradients are those of `F.nll_loss` of logits: it takes logarithms of probabilities",
    "softmax before the cross-entropy": "the gradients are those of `F.cross_entropy` of probabilities: it takes logits, and applies "
    "softmax itself",
    "sigmoid before the cross-entropy": "the gradients are those of `F.cross_entropy` behind a sigmoid: it takes logits",
    "ReLU before the cross-entropy": "the gradients are those of `F.cross_entropy` behind a ReLU: it takes logits",
    "probabilities without a logarithm": "the gradients are those of `F.nll_loss` of probabilities: it takes their logarithm",
}
# mistake in the training -> share of the points that the layer earns nevertheless; what happens to the encoder loses points
# elsewhere
SHARES = {PILES_UP: 0.6, NORMALISED: 0.6, SCALED: 0.6, TRAIN_MODE: 0.8, ANOTHER_ENCODER: 0.8}
OTHER_LOSS = 0.4


@pytest.mark.points(5)
def test_layer_learns(submission, run_seed):
    """The layer recognises the classes of new images from the encoder's features."""
    case, asked = learning(run_seed)
    got = answer(submission, asked)
    accuracy = accuracy_of(got, case.classes)
    reached = f"{accuracy:.0%} of new images are recognised"
    expect(
        got["outputs"],
        expected=f"an `nn.Linear` that recognises at least {LEAST:.0%} of new images",
        seen=got["unusable"] or returned(got["type"], "layer"),
        why="the layer is applied to the features of other images",
        symptom="cannot be applied",
        reproduce=call(asked).lines,
    )
    mistake = known_mistake(submission, run_seed)
    expect(
        not mistake,
        expected="a layer that is trained on the encoder's outputs in eval mode, each step with the gradient of the cross-entropy of "
        "its own batch (or of another loss of logits)",
        seen=f"{SAYS.get(mistake)} ({reached})",
        why="such a layer learns more slowly, or something else than it is used for",
        symptom=mistake,
        share=SHARES.get(mistake, OTHER_LOSS),
    )
    classes = sorted(set(case.classes.tolist()))
    hits = got["outputs"]["further"].argmax(1)
    constant = len(set(hits.tolist())) == 1
    untrained = not was_trained(got)
    expect(
        accuracy >= LEAST,
        expected=f"at least {LEAST:.0%} of new images recognised: the {len(classes)} classes are far apart in the features",
        seen=reached
        + (
            ", and all are put into one class. Were the features shifted or scaled for the training alone?"
            if constant
            else ". No step of an optimizer was taken"
            if untrained
            else ", hardly more than by chance. Do features and labels belong to the same images? Each pass over the loader may have "
            "another order"
            if accuracy < 2.5 / CLASSES
            else ""
        ),
        why="the accuracy of this layer is the measure of the encoder",
        symptom="not trained" if untrained else "not learned",
        reproduce=LEARN,
    )


LEARN = """\
encoder, kinds = nn.Sequential(nn.Flatten(), nn.Linear(8, 8)), 20 * torch.eye(8).view(8, 1, 2, 4) + 5
labels = torch.arange(8).repeat(12)[torch.randperm(96)]
loader = list(zip((kinds[labels] + torch.randn(96, 1, 2, 4)).split(16), labels.split(16)))
layer = linear_probe(encoder, loader, 8)
[(layer(encoder(images)).argmax(1) == labels).float().mean().item() for images, labels in loader]"""


@pytest.mark.points(1)
def test_weights_stay(submission, run_seed):
    """The encoder's weights come back with the same values."""
    seed = derive(run_seed, "weights")
    case = drawn(seed, [kind for _ in range(6) for kind in range(4)])
    names = parameters_of(case)
    asked = {**case.question(seed, (12, 8, 4), arguments={"epochs": 5, "lr": 1e-2}), "trainable": names}
    got = answer(submission, asked)
    was_used(got, asked)
    changed = weights_changed(case, got)
    gone = [name for name in changed if name not in got["encoder"]["state"]]
    kinds = {str(got["encoder"]["state"][name].dtype) for name in changed if name not in gone} - {"torch.float32"}
    unchanged(
        changed,
        call(asked),
        why="a probe measures features: if it trains the encoder too, other features are measured than those that were learned",
        expected="the same weights of the encoder after the call, bit for bit",
        more=" (gone)" if gone else f" (now {', '.join(sorted(kinds))})" if kinds else "",
        symptom="weights gone" if gone else "another precision" if kinds else "weights changed",
    )


@pytest.mark.points(2)
def test_modes_come_back(submission, run_seed):
    """Every module of the encoder is in the mode in which it came, train or eval."""
    for modes in SETUP:
        asked, got, made = called(submission, run_seed, modes)
        snapshot, settings = before(asked)
        if _structure(got["settings"]) != _structure(settings):
            return  # modules that were replaced have lost points
        other = changes(snapshot, got["encoder"]).get("modes", [])
        left = sorted({name in got["encoder"]["training"] for name in other})
        uniform = modes != "in part in train mode"
        what = "train mode" if left == [True] else "eval mode" if left == [False] else "the other mode"
        expect(
            not other,
            expected=f"an encoder that comes {modes} and goes as it came",
            seen=f"{len(other)} modules in {what} that were not: {some([name or '(the encoder)' for name in other])}"
            + ("" if uniform else ". Is the mode of the encoder set again, which sets that of all its modules?"),
            why="pretraining goes on after a probe: in eval mode BatchNorm and dropout do nothing for it, and what was frozen on "
            "purpose must not be thawed",
            symptom="one mode for all" if not uniform else f"left in {what}",
            share=0.0 if uniform else 0.5,
            reproduce=made.lines + AFTER,
        )


@pytest.mark.points(1)
def test_refuses_impossible_numbers_of_classes(submission, rng):
    """`ValueError` for `num_classes < 2`."""
    case = drawn(rng.getrandbits(63), [0, 1] * 6)
    numbers = {"one class": 1, "no class": 0, "a negative number": -rng.randint(1, 9)}
    asked = {
        # with labels that are possible for one class, nothing but the number of classes is wrong
        words: {**case.question(0, (8, 4), arguments=SHORT), "num_classes": number, "labels": 0 * case.labels}
        for words, number in numbers.items()
    }
    refuses(
        {words: submission.ask("probed", **given) for words, given in asked.items()},
        {words: _short(given) for words, given in asked.items()},
        why="with a single class there is nothing to tell apart, and the accuracy is always 1",
        printed=lambda words: printed(submission, "probed", **asked[words]),
    )
    two = case.question(rng.getrandbits(63), (8, 4), arguments=SHORT)
    got = submission.ask("probed", **two)
    if "ValueError" in got.get("error", []):
        returns(got, call(two), why="two classes can be told apart", symptom="two classes refused")


def _short(asked):
    made = call(asked)
    return Call(made.text, made.setup, short=f"num_classes={asked['num_classes']}")
