"""Hidden checks of exercise 2: which backbone it is, and what is kept, new, or shared."""

import pytest
import timm
import torch

from amllab.checks import expect
from amllab.checks.transfer_learning.test_build_transfer_model import (
    HEAD,
    NO_MODEL,
    body,
    build,
    expect_model,
    is_backbone,
    no_model,
)
from amllab.kit.expectations import Call, some, unchanged
from amllab.kit.state_dicts import (
    first_layers,
    last_layers,
    layer_names,
    misshapen,
    near,
    pretrained,
    random_state,
    same,
    values_changed,
    without_counts,
)

pytestmark = pytest.mark.cell("check_build_transfer_model", section="Exercise 2: build the transfer model")

# timm's test models: each has another name for its head
OTHERS = ("test_vit", "test_efficientnet", "test_resnet")


@pytest.mark.points(3)
def test_any_backbone(submission, rng):
    """The model is the timm model that was asked for, not wrapped, whatever its head is called."""
    of_net6 = built(submission, rng, "net6", 5)
    for backbone in ("net6", "net12"):
        got = of_net6 if backbone == "net6" else build(submission, rng, backbone, 5, 2)
        if "shapes" not in got:
            pytest.skip(NO_MODEL)
        call = f'"{backbone}", 5, 2'
        expect_architecture(got, backbone, body(backbone), call=call)
        expect(
            not got["unusable"],
            expected=f"the model that `build_transfer_model({call})` returns takes images",
            seen=got["unusable"],
            why="a model that cannot be called cannot be trained",
            symptom="no logits",
            where="Exercise 2, Hint 1: the head of any architecture",
            reproduce=f"build_transfer_model({call})(torch.randn(2, 3, 32, 32))",
        )
    for backbone in OTHERS:
        weights = random_state(backbone, rng.getrandbits(31), num_classes=10)
        side = timm.get_pretrained_cfg(backbone).input_size[-1]
        got = build(submission, rng, backbone, 5, 2, side=side, weights=weights, with_state=True)
        call = f'"{backbone}", 5, 2'
        expect(
            "shapes" in got,
            expected=f"`build_transfer_model({call})` returns a model: `{backbone}` is a timm model like net12",
            seen=no_model(got)[0] if "shapes" not in got else "",
            why="each architecture calls its head by another name: what works for net12's `head.fc` alone is no answer for the others",
            symptom="other heads: " + no_model(got)[1] if "shapes" not in got else "",
            where="Exercise 2, Hint 1: the head of any architecture",
            reproduce=f"build_transfer_model({call})  # its weights, some 1 MB, are downloaded once",
        )
        classifier = {n for n in weights if n.startswith(timm.get_pretrained_cfg(backbone).classifier + ".")}
        wanted = {n: v for n, v in without_counts(weights).items() if n not in classifier}
        expect_architecture(got, backbone, wanted, call=call)
        expect(
            got["output"] == [2, 5]
            # a head that is wrong for every backbone has already lost points
            or of_net6["output"] != [2, 5],
            expected=f"logits of shape (2, 5) for 2 images, from `{backbone}`",
            seen=f"shape {tuple(got['output'])}" if got["output"] else got["unusable"] or "no tensor",
            why="each architecture calls its head by another name: one that is put in under net12's `head.fc` is not used by others",
            symptom="other heads: not replaced",
            where="Exercise 2, Hint 1: the head of any architecture",
            reproduce=f"build_transfer_model({call})(torch.randn(2, 3, {side}, {side})).shape"
            "  # its weights, some 1 MB, are downloaded once",
        )
        if values_changed(body("net6"), of_net6["state"]):
            continue  # wrong for every backbone: loses points elsewhere
        unchanged(
            values_changed(wanted, got["state"]),
            Call(
                "[name for name, value in pretrained.state_dict().items() if not torch.equal(state.get(name), value)]",
                f'pretrained = load_backbone("{backbone}")  # its weights, some 1 MB, are downloaded once\n'
                f"state = build_transfer_model({call}).state_dict()",
                "Exercise 2, Hint 1: the head of any architecture",
            ),
            expected=f"{len(wanted)} tensors of `{backbone}` as they were pretrained",
            more="; net6 keeps its own",
            why="what is not the head stays, whatever its layers are called: `model.get_classifier()` knows which one is the head",
            symptom="other weights not kept",
        )


def expect_architecture(got, backbone, wanted, *, call):
    """Fail the check unless the model is the requested backbone, as timm builds it."""
    is_it = is_backbone(got, wanted)
    missing = misshapen(wanted, got["shapes"])
    ours = pretrained(backbone) if backbone in ("net6", "net12") else {}
    others = sorted(without_counts(got["shapes"]).keys() - wanted.keys() - ours.keys())
    other = got["architecture"] not in ("", backbone)
    wrapped = got["place"] == "inside"
    lines = f"model = build_transfer_model({call})\n" + (
        'model.pretrained_cfg["architecture"]'
        if other
        else f'[name for name in timm.create_model("{backbone}").state_dict() if name not in model.state_dict()]'
    )
    expect(
        is_it and not wrapped,
        expected=f"`build_transfer_model({call})` returns the timm model `{backbone}`, with its tensors under their own names",
        seen=f'a {got["architecture"]} was returned for backbone="{backbone}"'
        if other and not is_it
        else f"a {got['type']} that holds the model"
        if wrapped
        else f"{len(missing)} of {len(wanted)} tensors are not there, or have another shape: {some(missing)}"
        + (f"; there are others: {some(others)}" if others else ""),
        why="the name says which pretrained network is taken"
        if other and not is_it
        else "`layers_of`, saved weights and every later exercise know the model by timm's own names",
        symptom="another backbone" if other and not is_it else "wrapped" if wrapped else "tensors under other names",
        reproduce=lines,
    )


def built(submission, rng, backbone, num_classes):
    """Return the answer for a model with two trainable layers, including its state."""
    return build(submission, rng, backbone, num_classes, 2, with_state=True)


@pytest.mark.points(4)
def test_keeps_the_pretrained_weights(submission, rng):
    """Every weight and statistic but the head's is that of the pretrained backbone."""
    answers = {b: built(submission, rng, b, rng.randint(3, 6)) for b in ("net12", "net6")}
    for backbone, got in answers.items():
        if "error" in got and any("shapes" in other for other in answers.values()):
            expect_model(got, f'"{backbone}", 5, 2', "any number of classes from 2 on is a possible task")
    # a model that is not this backbone may still contain the pretrained tensors, under any names
    states = {
        b: got["state"] if is_backbone(got, body(b)) else renamed(b, got)
        for b, got in answers.items()
        if "shapes" in got
    }
    states = {b: state for b, state in states.items() if state}
    if not states:
        pytest.skip(NO_MODEL)
    symptom = next(filter(None, (lost(backbone, state) for backbone, state in states.items())), "")
    loaded = symptom == "not pretrained" and any(got.get("loaded") for got in answers.values())
    for backbone, state in states.items():
        wanted = body(backbone)
        different = values_changed(wanted, state)
        unchanged(
            different,
            Call(
                "[name for name, value in pretrained.state_dict().items()\n"
                ' if not name.startswith("head.") and not torch.equal(state[name], value)]',
                f'pretrained = load_backbone("{backbone}")\n'
                f'state = build_transfer_model("{backbone}", 5, 2).state_dict()',
            ),
            expected=f"{len(wanted)} tensors of {backbone} as they were pretrained",
            more=f"{_new_statistics(different, state)}{_rounded(different, wanted, state)}"
            + ("; `load_backbone` was called" if loaded else ""),
            why=_LOST.get(symptom, "what differs is no longer what was learned on CIFAR-10"),
            symptom="not pretrained, though loaded" if loaded else symptom,
        )


def _new_statistics(names, state):
    """Return a hint if tensors are the running statistics of a new BatchNorm."""
    values = [state[name].float() for name in names if name in state]
    new = values and all("running" in n for n in names) and all(bool((v == v.flatten()[0]).all()) for v in values)
    return ", and are those of a new BatchNorm: 0 and 1" if new else ""


def _rounded(names, wanted, state):
    """Return a hint if tensors differ by no more than the rounding of a lower precision."""
    pairs = [(wanted[name], state[name]) for name in names if name in state]
    close = pairs and all(near(a, b, rtol=1e-2, atol=1e-4) for a, b in pairs)
    return ". All differ by rounding alone: did the model go through half precision?" if close else ""


_STATISTICS = "BatchNorm's running statistics were learned with the weights: with others, the features are others"
_LOST = {
    "not pretrained": "with random weights in the body this is training from scratch: nothing is transferred",
    "weights not pretrained": "the weights are what was learned on CIFAR-10",
    "statistics not pretrained": _STATISTICS,
    "trainable layers not pretrained": "fine-tuning starts from the pretrained weights, in the trainable layers too",
}


def renamed(backbone, got):
    """Return the pretrained tensors that the state contains, under their own names; empty if most are missing."""
    values = list(got["state"].values())
    found = {n: v for n, v in body(backbone).items() if any(same(v, other) for other in values)}
    return found if 2 * len(found) > len(body(backbone)) else {}


def lost(backbone, state):
    """Describe which of the pretrained tensors have changed; empty if none have."""
    wanted = body(backbone)
    different = set(values_changed(wanted, state))
    if not different:
        return ""
    statistics = {name for name in wanted if "running" in name}
    weights = different - statistics
    parts = {
        "not pretrained": set(wanted),
        "weights not pretrained": set(wanted) - statistics,
        "statistics not pretrained": statistics,
    }
    layers = {
        "trainable layers not pretrained": set(last_layers(backbone, 2)) & set(wanted),
        "frozen layers not pretrained": set(first_layers(backbone, 2)),
    }
    named = [name for name, part in parts.items() if part == different]
    return [*named, *(name for name, part in layers.items() if part == weights), "some tensors not pretrained"][0]


@pytest.mark.points(1)
def test_fresh_head(submission, rng):
    """The head is fresh, also when the new task has as many classes as the old one."""
    old = pretrained("net6")[HEAD[0]]
    got = built(submission, rng, "net6", len(old))
    if "shapes" not in got:
        pytest.skip(NO_MODEL)
    expect(
        got["state"].keys() - body("net6").keys(),
        expected="a head with weights of its own",
        seen=f"a model with {len(got['state'])} tensors, none of them a head's",
        why="without weights of its own a head cannot learn the new classes",
        symptom="no head",
    )
    kept = rows_kept(got, old)
    elsewhere = kept and rows_kept(built(submission, rng, "net6", 5), old)
    expect(
        kept == 0,
        expected=f"{len(old)} new rows of weights for {len(old)} classes",
        seen=f"{kept} rows are those of the pretrained classifier"
        + (f", and {elsewhere} are with 5 classes: does the new head start from the old one?" if elsewhere else "")
        + (
            ". Is the head replaced only where the number of classes differs?"
            if kept == len(old) and not elsewhere
            else ""
        ),
        why="row k of the old head stands for class k of CIFAR-10, which is another class in your task",
        symptom="old head kept" if kept == len(old) else "rows of the old head kept",
        reproduce='old = load_backbone("net6").get_classifier().weight\n'
        f'head = build_transfer_model("net6", {len(old)}, 2).get_classifier()\n'
        "[name for name, p in head.named_parameters() if p.shape == old.shape and (p == old).all(1).any()]",
    )


def rows_kept(got, old):
    """Return how many rows of the old head are in any tensor of the new one, however it is built."""
    own = [v for n, v in got.get("state", {}).items() if n not in body("net6")]
    heads = [v.float() for v in own if v.ndim == 2 and v.shape[1] == old.shape[1]]
    return sum(int((torch.cat([*heads, old[:0]]) == row).all(1).any()) for row in old)


@pytest.mark.points(2)
def test_shares_no_tensors(submission, rng):
    """Two calls give two models that share no memory: training one leaves the other as it was."""
    num_classes = rng.randint(3, 6)
    got = submission.ask("build_twice", backbone="net6", num_classes=num_classes, layers=layer_names("net6"))
    if "error" in got or "before" not in got:
        pytest.skip(NO_MODEL)
    whole = all(len(got[key]) == 2 for key in ("storages", "before", "after"))
    first = got["before"][0] if whole else {}
    expect(
        whole and first and got["storages"][0],
        expected="two models, each with tensors",
        seen=f"{len(got['before'])} models, the first with {len(first)} tensors",
        why="experiments need a model each",
        symptom="no tensors",
    )
    untouched = [
        name
        for name, value in got["before"][1].items()
        if not near(got["after"][1].get(name), value.double() + 1, rtol=1e-5, atol=1e-8)
    ]
    moved = values_changed(first, got["after"][0])
    shared = [name for name, place in got["storages"][0].items() if place in set(got["storages"][1].values())]
    symptom = common(got["same_object"], set(shared) | set(moved))
    expect(
        not got["same_object"] and not shared and not moved and not untouched,
        expected="two separate models, of which the second can be changed and the first stays as it was",
        seen="the same object twice"
        if got["same_object"]
        else f"{len(shared)} tensors in common memory, {len(moved)} changed with the other model, "
        f"{len(untouched)} that could not be changed",
        why="experiments that share weights influence each other, and the second starts from the end of the first"
        if shared or moved or got["same_object"]
        else "a tensor that cannot be changed cannot be trained",
        symptom=symptom,
        reproduce=f'first, second = (build_transfer_model("net6", {num_classes}, 1) for _ in range(2))\n'
        "before = {name: value.clone() for name, value in first.state_dict().items()}\n"
        "with torch.no_grad():\n"
        "    for value in second.state_dict().values():\n"
        "        value += 1\n"
        "[name for name, value in first.state_dict().items() if not torch.equal(value, before[name])]",
    )


def common(same_object, shared):
    """Describe what two models have in common."""
    if same_object:
        return "one model for all"
    if not shared:
        return "tensors that cannot be changed"
    return "head shared" if shared <= set(HEAD) else "body shared" if not shared & set(HEAD) else "all tensors shared"
