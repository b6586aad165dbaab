"""Hidden checks of exercise 1: other architectures, other orders of calls, compared with the reference."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning import symptoms
from amllab.checks.transfer_learning.models import differing, layer_names, random_state
from amllab.checks.transfer_learning.test_freeze_layers import MODEL, TRAINABLE, freeze, raised, some

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")

# timm's models for tests: small, and unlike each other; the transformer has parameters that live on the model itself
ARCHITECTURES = {"net12": 12, "test_resnet": 6, "test_vit": 8, "test_efficientnet": 7, "test_convnext": 11}


def expect_trainable(got, wanted, *, call, reproduce, why, symptom, where=""):
    """Fails the check where a call raised, or where other parameters are trainable than after the reference's."""
    expect(
        "error" not in got,
        expected=f"{call} returns",
        seen=raised(got) if "error" in got else "",
        why="any timm model can be the backbone, with any number of its layers",
        symptom=symptom,
        reproduce=reproduce,
    )
    too_many = sorted(set(got["trainable"]) - set(wanted["trainable"]))
    too_few = sorted(set(wanted["trainable"]) - set(got["trainable"]))
    expect(
        not too_many and not too_few,
        expected=f"{len(wanted['trainable'])} trainable parameters after {call}",
        seen=f"{len(got['trainable'])} trainable; trainable but should be frozen: {some(too_many)}; "
        f"frozen but should be trainable: {some(too_few)}",
        why=why,
        where=where,
        symptom=symptom,
        reproduce=reproduce,
    )


@pytest.mark.points(5)
@pytest.mark.needs("test_last_layers_are_trainable")
def test_every_architecture(submission, reference, rng):
    """Works for every architecture: residual and mobile networks, transformers, parameters on the model itself."""
    numbers = {backbone: rng.randint(1, layers - 1) for backbone, layers in ARCHITECTURES.items()}
    answers = {backbone: freeze(submission, backbone, n)[0] for backbone, n in numbers.items()}
    errors = sorted({symptoms.raised(got) for got in answers.values() if "error" in got})
    asked = [(b, numbers[b], set(got["trainable"])) for b, got in answers.items() if "error" not in got]
    for backbone, n in numbers.items():
        expect_trainable(
            answers[backbone],
            freeze(reference, backbone, n)[0],
            call=f"`freeze_layers(model, {n})` of timm's `{backbone}`, which has {ARCHITECTURES[backbone]} layers",
            reproduce=f'model = timm.create_model("{backbone}")\nfreeze_layers(model, {n}){TRAINABLE}',
            why="a layer that is missed goes on training: the experiment is not the one that you report",
            symptom=symptoms.join(*errors, symptoms.freezing(asked)),
        )


@pytest.mark.points(3)
@pytest.mark.needs("test_last_layers_are_trainable")
def test_thaws(submission, reference, rng):
    """Can be called again with another number: layers are thawed as well as frozen."""
    # neither all layers nor none: whether these can be asked for is checked by itself
    fewest, few, more = sorted(rng.sample(range(1, 6), 3))
    calls = [few, more, fewest]
    answers, wanted = freeze(submission, "net6", *calls), freeze(reference, "net6", *calls)
    for i, got in enumerate(answers):
        made = "".join(f"\nfreeze_layers(model, {n})" for n in calls[: i + 1])
        expect_trainable(
            got,
            wanted[i],
            call=f"`freeze_layers` on one and the same net6 with n_trainable = {', then '.join(map(str, calls[: i + 1]))}",
            reproduce=f"{MODEL.strip()}{made}{TRAINABLE}",
            why="training often starts with the head alone and goes on with more layers",
            symptom=called_again(calls, answers),
            where="Exercise 1, Hint 3: thawing",
        )


def called_again(calls, answers):
    """How calls on one model, one after the other, went wrong."""
    layers = layer_names("net6")
    everything = {name for layer in layers for name in layer}
    wanted = [{name for layer in layers[len(layers) - n :] for name in layer} for n in calls]
    errors = [got for got in answers if "error" in got]
    if errors:
        return symptoms.raised(errors[0])
    seen = [set(got["trainable"]) for got in answers]
    before = [everything, *seen]
    if all(s == w & b for s, w, b in zip(seen, wanted, before, strict=False)):
        return "never thaws"
    if all(s == w | b for s, w, b in zip(seen[1:], wanted[1:], seen, strict=False)):
        return "never freezes again"
    if all(s == seen[0] for s in seen):
        return "second call does nothing"
    return symptoms.freezing([("net6", n, s) for n, s in zip(calls, seen, strict=True)])


@pytest.mark.points(2)
@pytest.mark.needs("test_returns_the_model")
def test_changes_no_values(submission, rng):
    """Freezing changes no weight and no statistic: it only decides what may change later."""
    calls, state = [rng.randint(1, 5), rng.randint(1, 5)], random_state("net6", rng.getrandbits(63))
    for n, got in zip(calls, freeze(submission, "net6", *calls, state=state), strict=True):
        reproduce = (
            f"{MODEL}before = {{name: value.clone() for name, value in model.state_dict().items()}}\n"
            f"freeze_layers(model, {n})\n"
            "[name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]"
        )
        expect(
            "error" not in got,
            expected=f"`freeze_layers(model, {n})` returns, for net6 with its 6 layers",
            seen=raised(got) if "error" in got else "",
            why="any number of layers from 0 to all may be asked for",
            symptom=symptoms.raised(got) if "error" in got else "",
            reproduce=reproduce,
        )
        changed = differing(state, got["state"])
        statistics = [name for name in changed if "running" in name or "num_batches" in name]
        expect(
            not changed,
            expected="all parameters and buffers as they were before the call",
            seen=f"{len(changed)} of {len(state)} changed by `freeze_layers(model, {n})`: {some(changed)}",
            why="the pretrained weights are what is to be transferred",
            symptom="tensors gone"
            if not state.keys() <= got["state"].keys()
            else "statistics changed"
            if len(statistics) == len(changed)
            else "weights and statistics changed"
            if statistics
            else "weights changed",
            reproduce=reproduce,
        )
