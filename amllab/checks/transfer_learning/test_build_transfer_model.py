"""Public checks of exercise 2, ``build_transfer_model``."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning.models import first_layers, last_layers
from amllab.checks.transfer_learning.test_freeze_layers import raised

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")


def build(submission, rng, backbone, num_classes, n_trainable, **arguments):
    """The answer to a call of ``build_transfer_model``; its ``freeze_layers`` is given."""
    return submission.ask(
        "build",
        backbone=backbone,
        num_classes=num_classes,
        n_trainable=n_trainable,
        images=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(rng.getrandbits(63))),
        frozen=first_layers(backbone, n_trainable),
        **arguments,
    )


def expect_model(got, call, why):
    """Fails the check unless the answer is a model."""
    expect(
        "output" in got,
        expected=f"`build_transfer_model({call})` returns a model",
        seen=raised(got) if "error" in got else f"a {got.get('type')}",
        why=why,
    )


@pytest.mark.points(4)
def test_new_head(submission, rng):
    """The model has a head with `num_classes` outputs."""
    for backbone, num_classes in (("net12", rng.randint(3, 9)), ("net6", rng.randint(11, 30))):
        got = build(submission, rng, backbone, num_classes, 1)
        expect_model(got, f"{backbone!r}, {num_classes}, 1", "everything that follows trains this model")
        expect(
            got["output"] == [2, num_classes],
            expected=f"logits of shape (2, {num_classes}) for 2 images and {num_classes} classes",
            seen=f"shape {tuple(got['output'])}",
            why="the pretrained head tells the classes of CIFAR-10 apart: the new task has classes of its own",
        )


@pytest.mark.points(4)
@pytest.mark.needs("test_new_head")
def test_freezes_all_but_the_last(submission, rng):
    """All but the last `n_trainable` layers of the finished model are frozen."""
    for backbone, n in (("net6", 0), ("net6", rng.randint(2, 5)), ("net12", rng.randint(2, 11))):
        wanted = set(last_layers(backbone, n))
        got = build(submission, rng, backbone, 5, n)
        expect_model(got, f"{backbone!r}, 5, {n}", "every number of layers from 0 to all is an experiment of this lab")
        seen = set(got["trainable"])
        expect(
            seen == wanted,
            expected=f"{len(wanted)} trainable parameters with n_trainable={n} of {backbone}",
            seen=f"{len(seen)}: {len(seen - wanted)} too many, {len(wanted - seen)} missing",
            why="a head that is put in after freezing is trainable whatever was asked for, and one that is frozen never learns",
        )


@pytest.mark.points(2)
def test_refuses_fewer_than_two_classes(submission, rng):
    """`ValueError` for `num_classes < 2`."""
    for num_classes in (1, 0, -rng.randint(1, 9)):
        got = build(submission, rng, "net6", num_classes, 1)
        expect(
            "ValueError" in got.get("error", []),
            expected=f"ValueError for num_classes={num_classes}",
            seen=raised(got) if "error" in got else "no error",
            why="with one class the cross-entropy is always zero: nothing can be learned, and nothing would say so",
        )
