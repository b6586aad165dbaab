"""Hidden checks of exercise 1: other architectures, other orders of calls, compared with the reference."""

import pytest

from amllab.checks import expect
from amllab.checks.transfer_learning.models import differing, random_state
from amllab.checks.transfer_learning.test_freeze_layers import freeze, raised

pytestmark = pytest.mark.cell("check_freeze_layers", section="Exercise 1: freeze layers")

# timm's models for tests: small, and unlike each other; the transformer has parameters that live on the model itself
ARCHITECTURES = {"net12": 12, "test_resnet": 6, "test_vit": 8, "test_efficientnet": 7, "test_convnext": 11}


def compare(submission, reference, *, backbone, calls, why):
    """Puts the same calls to both, and fails where other parameters are trainable."""
    answers = zip(calls, freeze(submission, backbone, *calls), freeze(reference, backbone, *calls), strict=True)
    for n, got, wanted in answers:
        expect(
            "error" not in got,
            expected=f"`freeze_layers(model, {n})` returns, for {backbone}",
            seen=raised(got) if "error" in got else "",
            why="any timm model can be the backbone",
        )
        too_many = sorted(set(got["trainable"]) - set(wanted["trainable"]))
        too_few = sorted(set(wanted["trainable"]) - set(got["trainable"]))
        expect(
            not too_many and not too_few,
            expected=f"{len(wanted['trainable'])} trainable parameters for {backbone} after n_trainable = "
            f"{', then '.join(map(str, calls[: calls.index(n) + 1]))}",
            seen=f"{len(got['trainable'])}; not frozen: {', '.join(too_many[:3]) or 'none'}; "
            f"not thawed: {', '.join(too_few[:3]) or 'none'}",
            why=why,
        )


@pytest.mark.points(5)
@pytest.mark.needs("test_last_layers_are_trainable")
def test_every_architecture(submission, reference, rng):
    """Works for every architecture: residual and mobile networks, transformers, parameters on the model itself."""
    for backbone, layers in ARCHITECTURES.items():
        compare(
            submission,
            reference,
            backbone=backbone,
            calls=[rng.randint(1, layers - 1)],
            why="a layer that is missed goes on training: the experiment is not the one that you report",
        )


@pytest.mark.points(3)
@pytest.mark.needs("test_last_layers_are_trainable")
def test_thaws(submission, reference, rng):
    """Can be called again with another number: layers are thawed as well as frozen."""
    few, more = sorted(rng.sample(range(1, 7), 2))
    compare(
        submission,
        reference,
        backbone="net6",
        calls=[few, more, 0, 6],
        why="training often starts with the head alone and goes on with more layers",
    )


@pytest.mark.points(2)
@pytest.mark.needs("test_returns_the_model")
def test_changes_no_values(submission, rng):
    """Freezing changes no weight and no statistic: it only decides what may change later."""
    calls, state = [rng.randint(1, 5), rng.randint(1, 5)], random_state("net6", rng.getrandbits(63))
    for n, got in zip(calls, freeze(submission, "net6", *calls, state=state), strict=True):
        expect(
            "error" not in got,
            expected=f"`freeze_layers(model, {n})` returns",
            seen=raised(got) if "error" in got else "",
            why="any number of layers from 0 to all may be asked for",
        )
        changed = differing(state, got["state"])
        expect(
            not changed,
            expected="all parameters and buffers as they were before the call",
            seen=f"changed by `freeze_layers(model, {n})`: {', '.join(changed[:3])}",
            why="the pretrained weights are what is to be transferred",
        )
