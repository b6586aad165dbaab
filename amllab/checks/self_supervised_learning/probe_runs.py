"""Questions about ``linear_probe`` for the checks of exercise 3, and what they have in common.

The encoder of a question is built so that the classes are clusters in its features. Their centres are far from the
origin, as behind a ReLU: a layer that was trained on standardised features is wrong for the features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.checks.self_supervised_learning.probe_encoder import (
    FIRST,
    SmallEncoder,
    prepared,
    settings_of,
)
from amllab.kit.expectations import Call, returns
from amllab.kit.snapshots import Snapshot, snapshot
from amllab.kit.state_dicts import differing
from amllab.kit.watermarks import watermarked
from amllab.protocol.submission import Submission
from amllab.seeds import derive

LEARNS = "The layer recognises the classes of new images from the encoder's features."
SIDE = 8  # of the images, in pixels
NOISE = 0.4  # of a pixel, of images whose class is a pattern with standard deviation 1
# of the clusters in feature space: distance of a centre from the point that they share, distance of that point from the
# origin, and how many radii further it is in the direction of one class
RADIUS, OFFSET, AHEAD = 10.0, 10.0, 2.0
FEATURES = 26, 32  # bounds of half of the number of features, which is odd: that of a layer before or of images is even
CLASSES = 8  # labels in a wrong order then put the right class into 3 of 4 clusters less than once in 10,000 times
FURTHER = 6  # images of each class to recognise
LEAST = 0.75  # accuracy
DEFAULTS = {"epochs": 50, "lr": 1e-2}  # of the signature
CERTAIN = 0.99  # accuracy of the nearest centre, without which a case is drawn again

WATCH = (
    "encoder.register_forward_hook(lambda m, inputs, features: print(\n"
    '    len(features), "images,", "train" if m.training else "eval", "mode, gradients:", features.requires_grad))\n'
)
SHOWN = (
    "encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    "loader = [(torch.randn(n, 3, 8, 8), torch.randint({classes}, (n,))) for n in {sizes}]\n"
)


@dataclass(frozen=True)
class Case:
    """Images of several classes, and an encoder whose features tell them apart.

    Attributes:
        encoder: State of the encoder.
        images: Watermarked images from number ``FIRST`` on, float ``(n, 3, SIDE, SIDE)``.
        labels: Their classes, int64 ``(n,)``.
        further: Features of other images, float ``(m, features)``.
        classes: The classes of these, int64 ``(m,)``.
    """

    encoder: dict[str, Tensor]
    images: Tensor
    labels: Tensor
    further: Tensor
    classes: Tensor

    @cached_property
    def features(self) -> Tensor:
        """The encoder's outputs for the images, float ``(n, features)``."""
        with torch.no_grad():
            features: Tensor = prepared(self.encoder, [], [])(self.images)
        return features

    def question(
        self, seed: int, sizes: Sequence[int], *, num_classes: int = 0, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a question: an encoder in eval mode with frozen weights, and a loader with the images in their order.

        Args:
            seed: Seed of the global random numbers.
            sizes: Sizes of the batches.
            num_classes: Number of classes; 0 for those of the case.
            arguments: Further arguments of ``linear_probe``.
        """
        return {
            "encoder": self.encoder,
            "training": [],
            "trainable": [],
            "images": self.images,
            "labels": self.labels,
            "sizes": list(sizes),
            "num_classes": num_classes or int(self.labels.max()) + 1,
            "further": self.further,
            "seed": seed,
            "arguments": dict(arguments or {}),
        }


def drawn(seed: int, labels: Sequence[int]) -> Case:
    """Draw a case.

    Args:
        seed: Seed of everything.
        labels: Class of each image.
    """
    generator = torch.Generator().manual_seed(seed)
    features = 2 * int(torch.randint(*FEATURES, (1,), generator=generator)) + 1
    kinds = max(labels) + 1
    while True:
        case = _drawn(generator, torch.tensor(labels), kinds, features)
        centres = torch.stack([case.further[case.classes == kind].mean(0) for kind in range(kinds)])
        nearest = torch.cdist(case.features, centres).argmin(1)
        if (nearest == case.labels).double().mean() >= CERTAIN:
            return case


def _drawn(generator: torch.Generator, labels: Tensor, kinds: int, features: int) -> Case:
    classes = torch.arange(kinds).repeat(FURTHER)
    patterns = torch.randn(kinds, 3, SIDE, SIDE, generator=generator)
    noise_seed = int(torch.randint(1 << 30, (1,), generator=generator))
    marked = watermarked(len(labels) + len(classes), size=SIDE, first=FIRST, seed=noise_seed)
    images = patterns[torch.cat([labels, classes])] + NOISE * marked
    images[:, 0, 0, :2] = marked[:, 0, 0, :2]
    encoder = prepared(_random_state(generator, features, images), [], [])
    with torch.no_grad():
        activations = encoder.activations(images).double()
        every = torch.cat([labels, classes])
        means = torch.stack([activations[every == kind].mean(0) for kind in range(kinds)])
        centres = _centres(generator, kinds, features)
        # the last layer maps the mean activations of each class to the centre of its cluster
        weight = (centres - centres.mean(0)).T @ torch.linalg.pinv((means - means.mean(0)).T)
        encoder.embed.weight.copy_(weight)
        encoder.embed.bias.copy_(centres.mean(0) - weight @ means.mean(0))
        further = encoder(images[len(labels) :])
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    return Case(state, images[: len(labels)], labels, further, classes)


def _centres(generator: torch.Generator, kinds: int, features: int) -> Tensor:
    """Return the centres of the clusters, float64 ``(kinds, features)``."""
    directions, _ = torch.linalg.qr(torch.randn(features, features, generator=generator, dtype=torch.float64))
    shared, own = directions[0], directions[1 : kinds + 1]
    ahead = own[int(torch.randint(kinds, (1,), generator=generator))]
    centres: Tensor = OFFSET * shared + RADIUS * own + AHEAD * RADIUS * ahead
    return centres


def _random_state(generator: torch.Generator, features: int, images: Tensor) -> dict[str, Tensor]:
    """Return a random state whose BatchNorm statistics are near those of the images, and none of them the same."""
    encoder = SmallEncoder(features)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in encoder.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        for norm in norms:
            norm.weight.copy_(0.8 + 0.4 * torch.rand(norm.weight.shape, generator=generator))
            norm.momentum = None
        encoder.train()
        encoder.activations(images)
        for norm in norms:
            spread = norm.running_var.sqrt()
            norm.running_mean.add_(spread * (0.2 + 0.2 * torch.rand(spread.shape, generator=generator)))
            norm.running_var.mul_(1.2 + 0.4 * torch.rand(spread.shape, generator=generator))
            norm.num_batches_tracked.fill_(100)
    state: dict[str, Tensor] = encoder.state_dict()
    return state


def modules_of(case: Case) -> list[str]:
    """Return the names of all modules of an encoder; ``""`` is the encoder itself."""
    return [name for name, _ in prepared(case.encoder, [], []).named_modules()]


def parameters_of(case: Case) -> list[str]:
    """Return the names of all parameters of an encoder."""
    return [name for name, _ in prepared(case.encoder, [], []).named_parameters()]


def before(asked: Mapping[str, Any]) -> tuple[Snapshot, str]:
    """Return the encoder of a question as it was before the call, and the description of its modules."""
    model = prepared(asked["encoder"], asked["training"], asked["trainable"])
    return snapshot(model), settings_of(model)


def call(asked: Mapping[str, Any], *, setup: str = "", short: str = "") -> Call:
    """Return a call as a student can repeat it, on a random encoder and random images; ``setup`` are further lines."""
    named = "".join(f", {name}={value:g}" for name, value in asked["arguments"].items())
    classes = asked["num_classes"]
    lines = SHOWN.format(classes=int(asked["labels"].max()) + 1, sizes=tuple(asked["sizes"]))
    return Call(f"linear_probe(encoder, loader, {classes}{named})", lines + setup, short=short)


def answer(submission: Submission, asked: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    """Return the answer to a question; fail the check if the call raised an error."""
    return returns(submission.ask("probed", **asked), call(asked), **more)


# Learning


def learning(run_seed: int) -> tuple[Case, dict[str, Any]]:
    """Return a case that a layer learns, and the question: each pass over the loader has another order."""
    seed = derive(run_seed, "learning")
    case = drawn(seed, [kind for _ in range(8) for kind in range(CLASSES)])
    # a first batch that cannot show all classes, and a small last one
    asked = case.question(seed, (4, 18, 16, 14, 10, 2), arguments=DEFAULTS)
    return case, {**asked, "shuffled": True}


def accuracy_of(got: Mapping[str, Any], classes: Tensor) -> float:
    """Return the share of the further images that a layer recognises; 0 if it was not applied to them."""
    outputs = got["outputs"].get("further")
    if outputs is None:
        return 0.0
    return float((outputs.nan_to_num(float("-inf")).argmax(1) == classes).double().mean())


def was_trained(got: Mapping[str, Any]) -> bool:
    """Return whether anything in a training depends on a gradient."""
    return bool(got["taken"]["steps"] or got["taken"]["evaluations"])


def known_mistake(submission: Submission, run_seed: int) -> str:
    """Return a mistake that explains why a layer is worse than it should be; empty if none is known.

    It is charged by the check of what a layer learns, whatever the accuracy is, which depends on chance.
    """
    case, asked = learning(run_seed)
    got = submission.ask("probed", **asked)
    if "error" in got or not was_trained(got):
        return ""
    if mistake := mistake_of(submission, run_seed):
        return mistake
    if got["shown"]["in_train_mode"]:
        return TRAIN_MODE
    return ANOTHER_ENCODER if weights_changed(case, got) else ""


def weights_changed(case: Case, got: Mapping[str, Any]) -> list[str]:
    """Return the names of the encoder's parameters that are not what they were before the call."""
    wanted = {name: case.encoder[name] for name in parameters_of(case)}
    return differing(wanted, got["encoder"]["state"])


def wait_until_learned(submission: Submission, run_seed: int) -> None:
    """Skip a check that can say nothing new about a layer that has not learned."""
    case, asked = learning(run_seed)
    got = submission.ask("probed", **asked)
    if "error" in got or not (known_mistake(submission, run_seed) or accuracy_of(got, case.classes) >= LEAST):
        pytest.skip(f"waits for this check: {LEARNS}")


# What the steps show

EPOCHS, PER_CLASS, BATCH = 6, 24, 16  # of the training whose steps are looked at
# how much larger the last third of gradients is than the first if they add up, over a training or in each epoch, and
# how much the middle one of an epoch: at least 2.5 and 1.7 times; others differ by chance, or as a last batch is small
PILED, MIDDLE = 2.0, 1.4
ALIKE = 0.1  # relative distance of a gradient from the one that it is; those of correct losses are 0.28 apart at least


# what people minimise instead of the cross-entropy of the outputs
LOSSES = {
    "softmax before the cross-entropy": lambda z, y: F.cross_entropy(z.softmax(1), y),
    "sigmoid before the cross-entropy": lambda z, y: F.cross_entropy(z.sigmoid(), y),
    "ReLU before the cross-entropy": lambda z, y: F.cross_entropy(z.relu(), y),
    "probabilities without a logarithm": lambda z, y: F.nll_loss(z.softmax(1), y),
    "outputs without a softmax": F.nll_loss,
}
NORMALISED = "features of length 1"
SCALED = "features scaled over the images"
TRAIN_MODE = "encoder in train mode"
ANOTHER_ENCODER = "encoder changed"
PILES_UP = "gradients pile up"


def steps_question(run_seed: int) -> tuple[Case, dict[str, Any]]:
    """Return a case and a question with a learning rate so small that the layer stays what it was."""
    seed = derive(run_seed, "steps")
    case = drawn(seed, [kind for _ in range(PER_CLASS) for kind in range(CLASSES)])
    sizes = [BATCH] * (PER_CLASS * CLASSES // BATCH)
    return case, case.question(seed, sizes, arguments={"epochs": EPOCHS, "lr": 1e-12})


def mistake_of(submission: Submission, run_seed: int) -> str:
    """Return the mistake that the gradients of a training show; empty if they show none."""
    case, asked = steps_question(run_seed)
    got = submission.ask("probed", **asked)
    taken = got.get("taken")
    if "error" in got or not len(taken["gradients"]):
        return ""
    if piled_up(taken["gradients"], taken["steps"]):
        return PILES_UP
    seen = taken["gradients"].double().mean(0)
    own = gradient(case, taken, F.cross_entropy)
    candidates = {name: gradient(case, taken, loss) for name, loss in LOSSES.items()}
    candidates[NORMALISED] = gradient(case, taken, F.cross_entropy, normalised=1)
    candidates[SCALED] = gradient(case, taken, F.cross_entropy, normalised=0)
    found = {name: _distance(seen, other) for name, other in candidates.items()}
    nearest = min(found, key=lambda name: found[name])
    return nearest if found[nearest] < min(ALIKE, _distance(seen, own) / 2) else ""


def gradient(case: Case, taken: Mapping[str, Any], loss: Any, *, normalised: int | None = None) -> Tensor:
    """Return the gradient of a loss of all images for the weight that the training began with, float64, flat.

    Args:
        case: The images.
        taken: The training.
        loss: The loss, a function of outputs and labels.
        normalised: Dimension over which the features are scaled to length 1, if any.
    """
    features = case.features.double()
    features = features if normalised is None else F.normalize(features, dim=normalised)
    weight = taken["weight"].double().requires_grad_()
    outputs = features @ weight.T + (taken["bias"].double() if taken["bias"].numel() else 0.0)
    found: Tensor = torch.autograd.grad(loss(outputs, case.labels), [weight])[0]
    return found.flatten()


def _distance(seen: Tensor, wanted: Tensor) -> float:
    return float((seen - wanted).norm() / wanted.norm().clamp_min(1e-12))


def piled_up(gradients: Tensor, steps: int) -> bool:
    """Return whether each step, or each one of an epoch, also used the gradients of the steps before it."""
    sizes = gradients.double().norm(dim=1)
    if _growth(sizes) > PILED:
        return True
    each, rest = divmod(steps, EPOCHS)
    if rest or not 3 <= each <= len(sizes):
        return False
    positions = sizes[: len(sizes) // each * each].view(-1, each).mean(0)
    return _growth(positions) > PILED and bool(positions[each // 2] > MIDDLE * positions[0])


def _growth(sizes: Tensor) -> float:
    """Return how many times the first third of some numbers the last third is, on average."""
    third = max(1, len(sizes) // 3)
    return float(sizes[-third:].mean() / sizes[:third].mean().clamp_min(1e-30))
