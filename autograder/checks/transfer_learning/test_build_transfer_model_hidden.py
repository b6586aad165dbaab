"""Hidden checks of exercise 2: what is kept, what is fresh, what is shared."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning.models import differing, first_layers, pretrained
from amllab.checks.transfer_learning.test_build_transfer_model import build, expect_model

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")

HEAD = ("head.fc.weight", "head.fc.bias")


def body(backbone):
    """The pretrained state without the classifier."""
    return {name: value for name, value in pretrained(backbone).items() if name not in HEAD}


def built(submission, rng, backbone, num_classes):
    """The state of a model with two trainable layers."""
    got = build(submission, rng, backbone, num_classes, 2, with_state=True)
    why = "any number of classes from 2 on is a possible task, that of the pretraining included"
    expect_model(got, f"{backbone!r}, {num_classes}, 2", why)
    return got["state"]


@pytest.mark.points(5)
@pytest.mark.needs("test_new_head")
def test_keeps_the_pretrained_weights(submission, rng):
    """Every weight and statistic but the head's is that of the pretrained backbone."""
    for backbone in ("net12", "net6"):
        wanted = body(backbone)
        different = differing(wanted, built(submission, rng, backbone, rng.randint(2, 9)))
        expect(
            not different,
            expected=f"{len(wanted)} tensors of {backbone} as they were pretrained",
            seen=f"{len(different)} differ, the first of them {different[0] if different else ''}",
            why="without the pretrained weights this is training from scratch under another name",
        )


@pytest.mark.points(2)
@pytest.mark.needs("test_new_head")
def test_fresh_head(submission, rng):
    """The head is fresh, also when the new task has as many classes as the old one."""
    old = pretrained("net6")[HEAD[0]]
    state = built(submission, rng, "net6", len(old))
    # whatever a head is made of: none of its tensors may have a row of the old one
    heads = [
        v.float() for n, v in state.items() if n not in body("net6") and v.ndim == 2 and v.shape[1] == old.shape[1]
    ]
    kept = sum(int((torch.cat([*heads, old[:0]]) == row).all(1).any()) for row in old)
    expect(
        kept == 0,
        expected=f"{len(old)} new rows of weights for {len(old)} classes",
        seen=f"{kept} rows are those of the pretrained classifier",
        why="row k of the old head answers to class k of CIFAR-10, which is another class in your task",
    )


@pytest.mark.points(3)
@pytest.mark.needs("test_new_head")
def test_shares_no_tensors(submission, rng):
    """Two calls give two models that share no memory: training one leaves the other as it was."""
    num_classes = rng.randint(3, 8)
    got = submission.ask("build_twice", backbone="net6", num_classes=num_classes, frozen=first_layers("net6", 1))
    whole = all(len(got[key]) == 2 for key in ("storages", "before", "after"))
    first = got["before"][0] if whole else {}
    expect(
        whole and first.keys() >= body("net6").keys() and got["storages"][0].keys() >= body("net6").keys(),
        expected="two models, each with all the tensors of net6",
        seen=f"{len(got['before'])} models, the first with {len(first)} tensors",
        why="experiments need a model each",
    )
    untouched = [
        name for name, value in got["before"][1].items() if not raised_by_one(value, got["after"][1].get(name))
    ]
    moved = differing(first, got["after"][0])
    shared = [name for name, place in got["storages"][0].items() if place in set(got["storages"][1].values())]
    expect(
        not got["same_object"] and not shared and not moved and not untouched,
        expected="two separate models, of which the second can be changed and the first stays as it was",
        seen="the same object twice"
        if got["same_object"]
        else f"{len(shared)} tensors in common memory, {len(moved)} changed with the other model, "
        f"{len(untouched)} that could not be changed",
        why="experiments that share weights influence each other, and the second starts from the end of the first",
    )


def raised_by_one(before, after):
    """Whether a tensor is by 1 larger than it was."""
    if after is None or after.shape != before.shape:
        return False
    return torch.allclose(after.double(), before.double() + 1, equal_nan=True)
