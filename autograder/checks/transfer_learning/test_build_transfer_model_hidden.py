"""Hidden checks of exercise 2: what is kept, what is fresh, what is shared."""

import pytest
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning.models import differing, first_layers, last_layers, layer_names, pretrained
from amllab.checks.transfer_learning.test_build_transfer_model import HEAD, build, expect_model
from amllab.checks.transfer_learning.test_freeze_layers import some

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")


def body(backbone):
    """The pretrained state without the classifier."""
    return {name: value for name, value in pretrained(backbone).items() if name not in HEAD}


def built(submission, rng, backbone, num_classes):
    """The state of a model with two trainable layers."""
    got = build(submission, rng, backbone, num_classes, 2, with_state=True)
    why = "any number of classes from 2 on is a possible task, that of the pretraining included"
    expect_model(got, f'"{backbone}", {num_classes}, 2', why)
    return got["state"]


@pytest.mark.points(5)
@pytest.mark.needs("test_new_head")
def test_keeps_the_pretrained_weights(submission, rng):
    """Every weight and statistic but the head's is that of the pretrained backbone."""
    states = {backbone: built(submission, rng, backbone, rng.randint(2, 9)) for backbone in ("net12", "net6")}
    symptom = next(filter(None, (lost(backbone, state) for backbone, state in states.items())), "")
    for backbone, state in states.items():
        wanted = body(backbone)
        different = differing(wanted, state)
        expect(
            not different,
            expected=f"{len(wanted)} tensors of {backbone} as they were pretrained",
            seen=f"{len(different)} differ or are missing: {some(different)}",
            why="without the pretrained weights this is training from scratch under another name",
            symptom=symptom,
            reproduce=f'pretrained = load_backbone("{backbone}").state_dict()\n'
            f'state = build_transfer_model("{backbone}", 5, 2).state_dict()\n'
            "[name for name, value in pretrained.items() if name not in state or not torch.equal(state[name], value)]",
        )


def lost(backbone, state):
    """Which of the pretrained tensors are others."""
    wanted = body(backbone)
    different = set(differing(wanted, state))
    if not different:
        return ""
    if not wanted.keys() <= state.keys() or any(state[name].shape != value.shape for name, value in wanted.items()):
        return "another architecture"
    buffers = {name for name in wanted if "running" in name or "num_batches" in name}
    parts = {
        "not pretrained": set(wanted),
        "weights not pretrained": set(wanted) - buffers,
        "statistics not pretrained": {name for name in buffers if "running" in name},
        "buffers not pretrained": buffers,
        "trainable layers not pretrained": set(last_layers(backbone, 2)) & set(wanted),
        "frozen layers not pretrained": set(first_layers(backbone, 2)),
    }
    return next((name for name, part in parts.items() if part == different), "some tensors not pretrained")


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
        symptom="old head kept" if kept == len(old) else "rows of the old head kept",
        reproduce='old = load_backbone("net6").get_classifier().weight\n'
        f'new = build_transfer_model("net6", {len(old)}, 2).get_classifier().weight\n'
        "(new == old).all(1)  # for each class: is it the old row?",
    )


@pytest.mark.points(3)
@pytest.mark.needs("test_new_head")
def test_shares_no_tensors(submission, rng):
    """Two calls give two models that share no memory: training one leaves the other as it was."""
    num_classes = rng.randint(3, 8)
    got = submission.ask("build_twice", backbone="net6", num_classes=num_classes, layers=layer_names("net6"))
    whole = all(len(got[key]) == 2 for key in ("storages", "before", "after"))
    first = got["before"][0] if whole else {}
    expect(
        whole and first.keys() >= body("net6").keys() and got["storages"][0].keys() >= body("net6").keys(),
        expected="two models, each with all the tensors of net6",
        seen=f"{len(got['before'])} models, the first with {len(first)} tensors",
        why="experiments need a model each",
        symptom="another architecture",
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
        symptom=common(got["same_object"], set(shared) | set(moved)),
        reproduce=f'first, second = (build_transfer_model("net6", {num_classes}, 1) for _ in range(2))\n'
        "before = {name: value.clone() for name, value in first.state_dict().items()}\n"
        "with torch.no_grad():\n"
        "    for value in second.state_dict().values():\n"
        "        value += 1\n"
        "[name for name, value in first.state_dict().items() if not torch.equal(value, before[name])]",
    )


def common(same_object, shared):
    """What two models have in common."""
    if same_object:
        return "one model for all"
    if not shared:
        return "tensors that cannot be changed"
    return "head shared" if shared <= set(HEAD) else "body shared" if not shared & set(HEAD) else "all tensors shared"


def raised_by_one(before, after):
    """Whether a tensor is by 1 larger than it was."""
    if after is None or after.shape != before.shape:
        return False
    return torch.allclose(after.double(), before.double() + 1, equal_nan=True)
