"""Hidden checks of exercise 2: what is kept, what is fresh, what is shared."""

import pytest
import torch

from amllab import load_backbone
from amllab.checks import expect
from amllab.checks.transfer_learning.test_build_transfer_model import described
from amllab.checks.transfer_learning.test_freeze_layers import last_layers

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")

HEAD = ("head.fc.weight", "head.fc.bias")


def built(submission, rng, backbone, num_classes):
    got = submission.ask(
        "build",
        backbone=backbone,
        num_classes=num_classes,
        n_trainable=2,
        seed=rng.getrandbits(30),
        freezing=last_layers(backbone, num_classes, 2),
        with_state=True,
    )
    expect(
        got.get("is_model"),
        expected=f"`build_transfer_model({backbone!r}, {num_classes}, 2)` returns a model",
        seen=described(got),
        why="any number of classes from 2 on is a possible task, that of the pretraining included",
    )
    return got["state"]


@pytest.mark.points(5)
@pytest.mark.needs("test_new_head")
def test_keeps_the_pretrained_weights(submission, rng):
    """Every weight and statistic but the head's is that of the pretrained backbone."""
    for backbone in ("net12", "net6"):
        wanted, seen = load_backbone(backbone).state_dict(), built(submission, rng, backbone, rng.randint(2, 9))
        different = [
            name
            for name, value in wanted.items()
            if name not in HEAD and not (name in seen and torch.equal(seen[name], value))
        ]
        expect(
            not different,
            expected=f"{len(wanted) - len(HEAD)} tensors of {backbone} as they were pretrained",
            seen=f"{len(different)} differ, the first of them {different[0] if different else ''}",
            why="without the pretrained weights this is training from scratch under another name",
        )


@pytest.mark.points(2)
@pytest.mark.needs("test_new_head")
def test_fresh_head(submission, rng):
    """The head is fresh, also when the new task has as many classes as the old one."""
    old = load_backbone("net6").state_dict()[HEAD[0]]
    new = built(submission, rng, "net6", len(old))[HEAD[0]]
    kept = int((new == old).all(1).sum()) if new.shape == old.shape else 0
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
    got = submission.ask(
        "build_twice", backbone="net6", num_classes=num_classes, freezing=last_layers("net6", num_classes, 1)
    )
    expect(
        not got["same_object"] and not got["shared"] and not got["moved"],
        expected="two separate models",
        seen="the same object twice"
        if got["same_object"]
        else f"{len(got['shared'])} tensors in common memory, {len(got['moved'])} changed with the other model",
        why="experiments that share weights influence each other, and the second starts from the end of the first",
    )
