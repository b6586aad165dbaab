"""Public checks of exercise 2, ``build_transfer_model``."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning import symptoms
from amllab.checks.transfer_learning.models import last_layers, layer_names, pretrained
from amllab.checks.transfer_learning.test_freeze_layers import TRAINABLE, raised, some

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")

HEAD = ("head.fc.weight", "head.fc.bias")


def build(submission, rng, backbone, num_classes, n_trainable, **arguments):
    """The answer to a call of ``build_transfer_model``; its ``freeze_layers`` is given."""
    return submission.ask(
        "build",
        backbone=backbone,
        num_classes=num_classes,
        n_trainable=n_trainable,
        images=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(rng.getrandbits(63))),
        layers=layer_names(backbone),
        **arguments,
    )


def expect_model(got, call, why):
    """Fails the check unless the answer is a model."""
    expect(
        "output" in got,
        expected=f"`build_transfer_model({call})` returns a model",
        seen=raised(got) if "error" in got else f"a {got.get('type')}",
        why=why,
        symptom=symptoms.raised(got)
        if "error" in got
        else "nothing returned"
        if got.get("type") == "NoneType"
        else "no model returned",
        reproduce=f"type(build_transfer_model({call}))",
    )


@pytest.mark.points(4)
def test_new_head(submission, rng):
    """The model has a head with `num_classes` outputs."""
    for backbone, num_classes in (("net12", rng.randint(3, 9)), ("net6", rng.randint(11, 30))):
        got = build(submission, rng, backbone, num_classes, 1)
        call = f'"{backbone}", {num_classes}, 1'
        expect_model(got, call, "everything that follows trains this model")
        expect(
            got["output"] == [2, num_classes],
            expected=f"logits of shape (2, {num_classes}) for 2 images and {num_classes} classes",
            seen=f"shape {tuple(got['output'])}",
            why="the pretrained head tells the classes of CIFAR-10 apart: the new task has classes of its own",
            symptom=outputs(backbone, got["output"], num_classes),
            reproduce=f"build_transfer_model({call})(torch.randn(2, 3, 32, 32)).shape",
        )


def outputs(backbone, shape, num_classes):
    """How the shape of the logits of two images is wrong."""
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
@pytest.mark.needs("test_new_head")
def test_freezes_all_but_the_last(submission, rng):
    """All but the last `n_trainable` layers of the finished model are frozen."""
    asked = (("net6", 0), ("net6", rng.randint(2, 5)), ("net12", rng.randint(2, 11)))
    answers = [build(submission, rng, backbone, 5, n) for backbone, n in asked]
    for (backbone, n), got in zip(asked, answers, strict=True):
        expect_model(got, f'"{backbone}", 5, {n}', "every number of layers from 0 to all is an experiment of this lab")
    symptom = symptoms.freezing([(*call, set(got["trainable"])) for call, got in zip(asked, answers, strict=True)])
    for (backbone, n), got in zip(asked, answers, strict=True):
        wanted, seen = set(last_layers(backbone, n)), set(got["trainable"])
        expect(
            seen == wanted,
            expected=f"{len(wanted)} trainable parameters with n_trainable={n} of {backbone}",
            seen=f"{len(seen)} trainable; trainable but should be frozen: {some(sorted(seen - wanted))}; "
            f"frozen but should be trainable: {some(sorted(wanted - seen))}",
            why="a head that is put in after freezing is trainable whatever was asked for, and one that is frozen never learns",
            where="Exercise 2, Why the order matters",
            symptom=symptom,
            reproduce=f'model = build_transfer_model("{backbone}", 5, {n}){TRAINABLE}',
        )


@pytest.mark.points(2)
def test_refuses_fewer_than_two_classes(submission, rng):
    """`ValueError` for `num_classes < 2`."""
    numbers = {"1 class": 1, "0 classes": 0, "negative numbers": -rng.randint(1, 9)}
    answers = {name: build(submission, rng, "net6", n, 1) for name, n in numbers.items()}
    for name, got in answers.items():
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for num_classes={numbers[name]}",
            seen=raised(got) if "error" in got else "no error",
            why="with one class the cross-entropy is always zero: nothing can be learned, and nothing would say so",
            symptom=symptoms.accepted(answers),
            reproduce=f'build_transfer_model("net6", {numbers[name]}, 1)  # raises ValueError where the number is checked',
        )
    got = build(submission, rng, "net6", 2, 1)
    expect(
        "error" not in got,
        expected='`build_transfer_model("net6", 2, 1)` returns a model',
        seen=raised(got) if "error" in got else "",
        why="two classes are the smallest task there is",
        symptom=f"2 classes: {symptoms.raised(got)}" if "error" in got else "",
        reproduce='build_transfer_model("net6", 2, 1)',
    )
