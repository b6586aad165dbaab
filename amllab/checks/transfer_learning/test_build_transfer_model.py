"""Public checks of exercise 2, ``build_transfer_model``.

Checks find a model wherever it is: a function that forgets its ``return``, or wraps what it returns, loses points for
that once. If a model has another architecture than requested, the check of the backbone says so; the other checks use
the backbones that are as requested.
"""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning import freezing
from amllab.checks.transfer_learning.test_freeze_layers import TRAINABLE
from amllab.kit import symptoms
from amllab.kit.expectations import Call, printed, refuses, returned, returns
from amllab.kit.state_dicts import layer_names, misshapen, pretrained, without_counts
from amllab.protocol.submission import error_text

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")

HEAD = ("head.fc.weight", "head.fc.bias")
NO_MODEL = "a model to look at"


def question(rng, backbone, num_classes, n_trainable, *, side=32, **arguments):
    """Return the arguments of the probe ``build``, which provides a ``freeze_layers``."""
    return {
        "backbone": backbone,
        "num_classes": num_classes,
        "n_trainable": n_trainable,
        "images": torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(rng.getrandbits(63))),
        "layers": layer_names(backbone),
        **arguments,
    }


def build(submission, rng, *call, **arguments):
    """Return the answer to a call of ``build_transfer_model``; see :func:`question`."""
    return submission.ask("build", **question(rng, *call, **arguments))


def body(backbone):
    """Return the pretrained state without the classifier and the counts of batches, which affect nothing."""
    return {name: value for name, value in without_counts(pretrained(backbone)).items() if name not in HEAD}


def is_backbone(got, wanted):
    """Return whether a model with all these tensors under their own names was built: the requested architecture."""
    shapes = got.get("shapes", {})
    return bool(shapes) and not misshapen(wanted, shapes)


def no_model(got):
    """Describe what was returned instead of a model, and return this with its symptom."""
    if "error" in got:
        return error_text(got), symptoms.raised(got)
    return returned(got["type"], "model"), "nothing returned" if got["type"] == "NoneType" else "no model returned"


def expect_model(got, call, why, *, expected="a model"):
    """Fail the check unless there is a model, in what was returned if ``expected`` says so."""
    there = "shapes" in got
    if expected != "a model":
        there = got["place"] == "returned" or (got["place"] == "inside" and got["output"])
    seen, symptom = ("", "") if there else no_model(got)
    expect(
        there,
        expected=f"`build_transfer_model({call})` returns {expected}",
        seen=seen,
        why=why,
        symptom=symptom,
        reproduce=f"type(build_transfer_model({call}))",
    )


@pytest.mark.points(4)
def test_new_head(submission, rng):
    """The model is returned, and has a head with `num_classes` outputs."""
    # one output more or less than requested must not give the 10 of the pretrained head
    for backbone, num_classes in (("net12", rng.randint(3, 8)), ("net6", rng.randint(12, 30))):
        got = build(submission, rng, backbone, num_classes, 1)
        call = f'"{backbone}", {num_classes}, 1'
        for what in ("a model", "the model that it builds"):
            expect_model(got, call, "everything that follows trains this model", expected=what)
        symptom = outputs(backbone, got["output"], num_classes)
        old = len(pretrained(backbone)[HEAD[0]])
        expect(
            got["output"] == [2, num_classes],
            expected=f"logits of shape (2, {num_classes}) for 2 images and {num_classes} classes",
            seen=(f"shape {tuple(got['output'])}" if got["output"] else got["unusable"] or "no tensor")
            + (
                ": the features themselves, as there is no head with weights"
                if symptom == "no head" and not got["head"]
                else _unused(got, backbone, num_classes)
            ),
            why=f"{old} outputs are those of the pretrained head, for the classes of CIFAR-10: the new task has classes of its own"
            if symptom == "old head kept"
            else "the loss compares one logit for each class with the labels",
            symptom=symptom,
            reproduce=f"build_transfer_model({call})(torch.randn(2, 3, 32, 32)).shape",
        )
        expect(
            not got["probabilities"],
            expected="logits: any numbers, one for each class",
            seen="probabilities: each row is positive and adds up to 1",
            why="the cross-entropy applies softmax itself: twice is too much, and the loss cannot fall far",
            symptom="probabilities instead of logits",
            reproduce=f"build_transfer_model({call})(torch.randn(2, 3, 32, 32)).sum(1)",
        )


def _unused(got, backbone, num_classes):
    """Return a hint if a model has a new tensor of the right size that its forward pass does not use."""
    new = [
        name
        for name, shape in got["shapes"].items()
        if name not in pretrained(backbone) and len(shape) == 2 and shape[0] == num_classes
    ]
    if not new or not got["output"]:
        return ""
    return f": the new `{new[0]}` is not used by the model. Its head is `model.get_classifier()`"


def outputs(backbone, shape, num_classes):
    """Describe how the shape of the logits of two images is wrong."""
    old, features = pretrained(backbone)[HEAD[0]].shape
    usual = {
        num_classes + 1: "one output too many",
        num_classes - 1: "one output too few",
        old: "old head kept",
        1: "one output",
        features: "no head",
    }
    return usual.get(shape[1], "another number of outputs") if len(shape) == 2 else "no logits"


@pytest.mark.points(4)
def test_freezes_all_but_the_last(submission, rng):
    """All but the last `n_trainable` layers of the finished model are frozen."""
    # none, the head alone and all layers distinguish the usual mistakes; two other numbers are added
    asked = [("net6", 3), ("net6", 0), ("net6", 1), ("net6", 6), ("net12", rng.randint(2, 11))]
    answers = [(backbone, n, build(submission, rng, backbone, 5, n)) for backbone, n in asked]
    for backbone, n, got in answers:
        if "error" in got and any("shapes" in other for _, _, other in answers):
            expect_model(
                got, f'"{backbone}", 5, {n}', "every number of layers from 0 to all is an experiment of this lab"
            )
    cases = [(b, n, trainable(b, n, got)) for b, n, got in answers if is_backbone(got, body(b))]
    if not cases:
        pytest.skip(NO_MODEL)
    symptom = freezing.symptom(cases)
    reasons = {
        "head always trainable": "a head that is put in after freezing is trainable, whatever was asked for",
        "nothing frozen": "where nothing is frozen, training changes every pretrained weight",
    }
    counted = freezing.count_in_words("net6", [case for case in cases if case[0] == "net6"])
    cause = ""
    if symptom == "nothing frozen":
        called = any(got.get("called") for _, _, got in answers)
        cause = ". `freeze_layers` was called, and " if called else ". `freeze_layers` was not called, and "
        cause += "everything is trainable in the end: what thaws it?" if called else "nothing else froze a layer"
    for backbone, n, seen in cases:
        wanted = freezing.net(backbone).last(n)
        expect(
            seen == wanted,
            expected=f'`build_transfer_model("{backbone}", 5, {n})` leaves {freezing.layers_in_words(backbone, wanted)} '
            f"trainable, of {backbone}'s layers 0 ... {len(layer_names(backbone)) - 1}",
            seen=f"trainable: {freezing.layers_in_words(backbone, seen)}; {counted or freezing.wrong_in_words(seen, wanted)}"
            + cause,
            why=reasons.get(symptom) or freezing.reason(symptom),
            where="Exercise 2, Why the order matters" if symptom == "head always trainable" else "",
            symptom=symptom,
            reproduce=f'model = build_transfer_model("{backbone}", 5, {n}){TRAINABLE}',
        )


def trainable(backbone, n, got):
    """Return the names of the trainable parameters under the names of the pretrained backbone.

    The head is one layer, however it is built.
    """
    seen, head = set(got["trainable"]), set(got["head"])
    of_body = {name for name in seen if name in freezing.net(backbone).ndim and name not in HEAD}
    if not head:  # there is no head to freeze
        return of_body | (set(HEAD) & freezing.net(backbone).last(n))
    return of_body | (set(HEAD) if head <= seen else set(HEAD[:1]) if head & seen else set())


@pytest.mark.points(2)
def test_refuses_fewer_than_two_classes(submission, rng):
    """`ValueError` for `num_classes < 2`."""
    numbers = {"1 class": 1, "0 classes": 0, "negative numbers": -rng.randint(1, 9)}
    questions = {name: question(rng, "net6", n, 1) for name, n in numbers.items()}
    refuses(
        {name: submission.ask("build", **asked) for name, asked in questions.items()},
        {name: Call(f'build_transfer_model("net6", {n}, 1)', short=f"num_classes={n}") for name, n in numbers.items()},
        why="with one class the cross-entropy is always zero: nothing can be learned, and nothing would say so",
        printed=lambda name: printed(submission, "build", **questions[name]),
    )
    more, got = (build(submission, rng, "net6", n, 1) for n in (3, 2))
    returns(
        got,
        Call('build_transfer_model("net6", 2, 1)'),
        expected='`build_transfer_model("net6", 2, 1)` returns a model',
        why="two classes are the smallest task there is",
        symptom=f"2 classes: {symptoms.raised(got)}" if "error" in got else "",
    )
    expect(
        got.get("output") == [2, 2]
        or more.get("output") != [2, 3],  # wrong for any number of classes: loses points with the head
        expected="logits of shape (2, 2) for 2 images and 2 classes",
        seen=f"shape {tuple(got.get('output') or ())}, though 3 classes give (2, 3)",
        why="the cross-entropy wants a logit for each class, also where there are two",
        symptom="2 classes: another number of outputs",
        reproduce='build_transfer_model("net6", 2, 1)(torch.randn(2, 3, 32, 32)).shape',
    )
