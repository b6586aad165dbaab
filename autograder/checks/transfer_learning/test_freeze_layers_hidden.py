"""Hidden checks of exercise 1: other architectures, other orders of calls, values.

What lost points in the public checks does not lose them again: other architectures are compared with the rule that net6
was frozen by, and a second call with what the same call does to a new model.
"""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning import freezing
from amllab.checks.transfer_learning.test_freeze_layers import (
    MODEL,
    TRAINABLE,
    cases,
    every_number,
    freeze,
    on_new_models,
    rules,
)
from amllab.kit import symptoms
from amllab.kit.expectations import Call, returns, unchanged
from amllab.kit.state_dicts import random_state, values_changed, without_counts

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")

# timm's test models: small and different from each other; the transformer has parameters on the model itself
ARCHITECTURES = {"net12": 12, "test_resnet": 6, "test_vit": 8, "test_efficientnet": 7, "test_convnext": 11}
IDLE = "nothing is frozen, whatever is asked for: there is nothing to look at"


def expect_trainable(got, wanted, backbone, call, *, why, symptom):
    """Fail the check if a call raised an error, or if the trainable parameters are not those of ``wanted``."""
    returns(
        got,
        call,
        expected=f"{call.short} returns",
        why="any timm model can be the backbone, with any number of its layers",
        symptom=symptom,
    )
    seen = set(got["trainable"])
    expect(
        seen == wanted,
        expected=f"{freezing.layers_in_words(backbone, wanted)} trainable after {call.short}",
        seen=f"trainable: {freezing.layers_in_words(backbone, seen)}; {freezing.wrong_in_words(seen, wanted)}",
        why=why,
        where=call.where,
        symptom=symptom,
        reproduce=call.lines + TRAINABLE,
    )


@pytest.mark.points(4)
def test_every_architecture(submission, rng):
    """Works the same way for every architecture: residual and mobile networks, transformers, parameters on the model itself."""
    on_net6 = every_number(submission)
    possible = rules(submission)
    if not possible or not cases("net6", on_net6):
        pytest.skip("the layers of net6")
    if possible[0] in freezing.IDLE:  # a function that has no effect there may still work for another network
        possible = [freezing.RIGHT]
    # the head alone, all layers, and all but one distinguish the usual mistakes; one random number is added
    numbers = {
        backbone: [1, rng.randint(2, layers - 2), layers - 1, layers, *([0] if backbone == "test_vit" else [])]
        for backbone, layers in ARCHITECTURES.items()
    }
    # 0 and all layers are included only if net6 accepts them: another check is about that
    for backbone, layers in ARCHITECTURES.items():
        refused = [edge for edge, of_net6 in ((0, 0), (layers, 6)) if "error" in on_net6[of_net6]]
        numbers[backbone] = [n for n in numbers[backbone] if n not in refused]
    answers = {backbone: on_new_models(submission, backbone, asked) for backbone, asked in numbers.items()}
    errors = sorted({symptoms.raised(got) for found in answers.values() for got in found.values() if "error" in got})
    asked = [case for backbone, found in answers.items() for case in cases(backbone, found)]
    fits = [r for r in possible if all(seen == freezing.by_rule(r, backbone, n) for backbone, n, seen in asked)]
    followed = (fits or possible)[0]
    symptom = symptoms.join(*errors, "" if fits else freezing.symptom(asked))
    for backbone, found in answers.items():
        for n, got in found.items():
            expect_trainable(
                got,
                freezing.by_rule(followed, backbone, n),
                backbone,
                Call(
                    f"freeze_layers(model, {n})",
                    f'model = timm.create_model("{backbone}")',
                    short=f"`freeze_layers(model, {n})` of timm's `{backbone}`, which has {ARCHITECTURES[backbone]} layers",
                ),
                why=freezing.reason(symptom),
                symptom=symptom,
            )


@pytest.mark.points(4)
def test_thaws(submission, rng):
    """Can be called again with another number: layers are thawed as well as frozen."""
    calls = [2, 4, 1, rng.randint(5, 9), 3, 12]
    alone = on_new_models(submission, "net12", calls)
    calls = [n for n in calls if "error" not in alone[n]]
    expected = {n: set(alone[n]["trainable"]) for n in calls}
    if len(set(map(frozenset, expected.values()))) < 2:
        pytest.skip(IDLE)
    answers = freeze(submission, "net12", *calls)
    for i, got in enumerate(answers):
        *before, last = (f"freeze_layers(model, {n})" for n in calls[: i + 1])
        symptom = called_again([expected[n] for n in calls], answers)
        why = {
            "never thaws": "a layer that was frozen once stays frozen; training often starts with the head alone and goes on "
            "with more layers",
            "never freezes again": "a layer that was thawed once stays trainable: the next experiment has more layers to train "
            "than you ask for",
        }
        expect_trainable(
            got,
            expected[calls[i]],
            "net12",
            Call(
                last,
                "\n".join(['model = load_backbone("net12")  # 12 layers', *before]),
                "Exercise 1, Hint 3: thawing",
                short="`freeze_layers` on one and the same net12 with n_trainable = "
                f"{', then '.join(map(str, calls[: i + 1]))} (the last call alone gives that, on a new model)",
            ),
            why=why.get(symptom, "training often starts with the head alone and goes on with more layers"),
            symptom=symptom,
        )


def called_again(wanted, answers):
    """Describe how consecutive calls on one model went wrong, if each does ``wanted`` to a new model."""
    errors = [got for got in answers if "error" in got]
    if errors:
        return symptoms.raised(errors[0])
    seen = [set(got["trainable"]) for got in answers]
    before = [freezing.net("net12").all(), *seen]
    if all(s == w & b for s, w, b in zip(seen, wanted, before, strict=False)):
        return "never thaws"
    if all(s == w | b for s, w, b in zip(seen[1:], wanted[1:], seen, strict=False)):
        return "never freezes again"
    if all(s == seen[0] for s in seen):
        return "second call does nothing"
    return "depends on the calls before"


@pytest.mark.points(2)
def test_changes_no_values(submission, rng):
    """Freezing changes no weight and no statistic: it only decides what may change later."""
    calls, state = [3, rng.randint(1, 2), rng.randint(4, 5)], random_state("net6", rng.getrandbits(63))
    answers = [
        (n, got)
        for n, got in zip(calls, freeze(submission, "net6", *calls, state=state), strict=True)
        if "error" not in got
    ]
    everything = freezing.net("net6").all()
    if all(everything <= set(got["trainable"]) for _, got in answers):
        pytest.skip(IDLE)
    for n, got in answers:
        changed = values_changed(state, got["state"])
        statistics = [name for name in changed if "running" in name]
        zeroed = (
            ", all of them zero now"
            if all(not got["state"][name].any() for name in changed if name in got["state"])
            else ""
        )
        symptom = (
            "tensors gone"
            if not without_counts(state).keys() <= got["state"].keys()
            else "statistics changed"
            if len(statistics) == len(changed)
            else "weights and statistics changed"
            if statistics
            else "weights changed"
        )
        unchanged(
            changed,
            Call(
                "[name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]",
                f"{MODEL}before = {{name: value.clone() for name, value in model.state_dict().items()}}\n"
                f"freeze_layers(model, {n})",
            ),
            expected=f"all {len(state)} parameters and statistics as they were before `freeze_layers(model, {n})`",
            more=zeroed,
            why="BatchNorm's running statistics belong to the pretrained weights: with others, the features are others"
            if symptom == "statistics changed"
            else "the pretrained weights are what is to be transferred",
            symptom=symptom,
        )
