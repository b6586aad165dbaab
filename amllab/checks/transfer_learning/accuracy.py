"""The accuracy check of exercise 4: its data, the training under a budget, and the evaluation of the result.

Images and labels are sampled again in every run, from a seed that never leaves the grader, and so is the assignment of
labels to classes: neither a table of answers nor a head trained in advance fits. The submission gets the test images
once its training is over, without their labels and with further random changes.

A submission may use any optimizer, and one learning rate does not suit all. If the first does not reach the accuracy
for full points, the next ones are tried, each with a separate training, and the best counts. The thresholds and their
error rates were measured with ``autograder calibrate`` (``thresholds.json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.checks import expect
from amllab.checks.transfer_learning.accuracy_task import OURS, TransferTask
from amllab.image_folders import class_folder
from amllab.images import LabelledImages, stratified_split
from amllab.kit.accuracy import agreement, joined, percent, perturbed
from amllab.kit.state_dicts import differing, first_layers, layer_names, misshapen, pretrained, without_counts
from amllab.numerics import same_numbers
from amllab.protocol.submission import Submission, SubmissionError
from amllab.reptiles import HELD_OUT, HELD_OUT_SEED, reptile_arrays
from amllab.seeds import derive
from amllab.synthetic_images import draw

# numbers that a model may have beyond those of the backbone: enough for a head, not for a second network
MOST_IN_HEAD = 100_000
# Share of predictions that must follow from the backbone's features. Measured with net6 over two seeds and three
# optimizers: at least 0.92 for a linear layer, dropout before it, two layers, or the maximum over the image.
AGREEING = 0.8
AT_ONCE = 25  # images whose features the grader computes together
PREDICTED_AT_ONCE = 100  # images per question: more would take more memory than the training did


def data_seed(seed: int) -> int:
    """Return the seed of the images, derived from the seed of the run."""
    return derive(seed, "accuracy", "images")


def key(seed: int, attempt: int) -> str:
    """Return the key that the trained model is stored under."""
    return f"{derive(seed, 'accuracy', 'key', str(attempt)):x}"


@dataclass(frozen=True)
class Part:
    """Images uint8 ``(n, 3, h, w)`` and labels int64 ``(n,)``."""

    images: Tensor
    labels: Tensor


@lru_cache(maxsize=1)
def images_of(
    seed: int, sizes: tuple[int, int, int], source: str = "drawn", side: int = OURS["side"], digest: str = ""
) -> tuple[Part, Part, Part]:
    """Return the training, validation and test images of a run; ``digest`` tells versions of a folder apart."""
    ours = source in ("drawn", "cifar100")
    data = draw(sum(sizes), seed=data_seed(seed)) if source == "drawn" else _sampled(seed, sizes, source, side, digest)
    generator = torch.Generator().manual_seed(derive(seed, "accuracy", "labels"))
    labels = torch.randperm(len(data.classes), generator=generator)[data.labels]
    train, val, test = map(Part, data.images.split(sizes), labels.split(sizes))
    # an instructor's classes may differ in nothing but left and right
    return train, val, Part(perturbed(test.images, generator, mirror=ours), test.labels)


def _sampled(seed: int, sizes: tuple[int, int, int], source: str, side: int, digest: str) -> LabelledImages:
    """Sample as many images as needed from the training and the test part of a folder or of CIFAR-100.

    If the test part of a folder is too small, its images are used several times, each with other random changes.
    """
    generator = torch.Generator().manual_seed(data_seed(seed))
    if source == "cifar100":
        learning, test = (reptile_arrays(part, source) for part in ("train", "test"))
    else:
        learning, test = own_images(source, side, digest)
    chosen = []
    for part, n in ((learning, sizes[0] + sizes[1]), (test, sizes[2])):
        if len(part) < n and (part is learning or source == "cifar100"):
            raise ValueError(f"{source}: {len(part)} images in a part of which {n} are asked for")
        rounds = [torch.randperm(len(part), generator=generator) for _ in range(-(-n // len(part)))]
        chosen.append(part.subset(torch.cat(rounds)[:n]))
    images, labels = (torch.cat([getattr(part, name) for part in chosen]) for name in ("images", "labels"))
    return LabelledImages(images, labels, learning.classes, learning.source)


@lru_cache(maxsize=1)
def own_images(folder: str, side: int, digest: str = "") -> tuple[LabelledImages, LabelledImages]:
    """Return the part of a folder to learn from and the part to test on, which are always the same."""
    data = class_folder(Path(folder)).read(side)
    learning, test = stratified_split(data.labels, HELD_OUT, HELD_OUT_SEED)
    return data.subset(learning), data.subset(test)


def normalization(backbone: str) -> dict[str, list[float]]:
    """Return mean and standard deviation of the channels that a backbone was pretrained with."""
    known = timm.get_pretrained_cfg(backbone)
    return {"mean": list(known.mean), "std": list(known.std)}


@dataclass(frozen=True)
class Trained:
    """A training: the answers of the probes ``fit`` and ``predict``, and the images and labels to predict."""

    fitted: dict[str, Any]
    predicted: dict[str, Any]
    test: Part


def verify(trained: Trained, budget: dict[str, Any], *, earns: bool) -> None:
    """Fail the check if the training exceeded its budget, or if the predictions are not those of its model."""
    state = trained.predicted["state"]
    _keeps_to_the_budget(trained.fitted, budget)
    _keeps_the_frozen_layers(state, budget)
    _trained_the_others(state, budget)
    if earns:  # logits of a model that has learned nothing need not follow from its features
        _predicts_from_its_features(trained.predicted, trained.test.images, budget["backbone"])


def builds_the_backbone(submission: Submission, task: TransferTask) -> bool:
    """Return whether the submission builds the requested backbone, with a head for the classes.

    If not, that loses points in the exercise on building, and another model is trained here.

    Raises:
        SubmissionError: Building does not finish, or there is no function. This comes before images are sampled.
    """
    backbone = task.budget["backbone"]
    try:
        got = submission.ask(
            "build",
            backbone=backbone,
            num_classes=task.classes,
            n_trainable=task.budget["n_trainable"],
            images=torch.zeros(1, 3, task.side, task.side),
            layers=layer_names(backbone),
        )
    except SubmissionError as error:
        if error.kind in ("missing", "timeout", "died"):
            raise
        return False
    classifier = layer_names(backbone)[-1]
    wanted = {n: v for n, v in without_counts(pretrained(backbone)).items() if n not in classifier}
    return (
        got.get("place") == "returned"
        and got["output"] == [1, task.classes]
        and not got["probabilities"]
        and not misshapen(wanted, got["shapes"])
    )


def fit_and_predict(
    submission: Submission, task: TransferTask, seed: int, attempt: int = 0, *, with_own_model: bool = True
) -> Trained:
    """Train with one learning rate, and predict; fail the check unless there are logits for every image."""
    budget = task.budget
    sizes = (budget["train_images"], budget["val_images"], budget["test_images"])
    train, val, test = images_of(seed, sizes, task.source, task.side, task.budget.get("digest", ""))
    numbers: dict[str, Any] = normalization(budget["backbone"])
    fitted = submission.ask(
        "fit",
        key=key(seed, attempt),
        train_images=train.images,
        train_labels=train.labels,
        val_images=val.images,
        val_labels=val.labels,
        **numbers,
        **{name: budget[name] for name in ("backbone", "n_trainable", "max_epochs", "batch_size")},
        lr=budget["learning_rates"][attempt],
        num_classes=task.classes,
        seed=derive(seed, "accuracy", "training", str(attempt)),
        layers=layer_names(budget["backbone"]),
        with_own_model=with_own_model,
    )
    parts = test.images.split(PREDICTED_AT_ONCE)
    answers = [submission.ask("predict", key=key(seed, attempt), images=images, **numbers) for images in parts]
    logits = joined([answered["logits"] for answered in answers], parts)
    return Trained(fitted, {**answers[-1], "logits": logits}, test)


def _keeps_to_the_budget(fitted: dict[str, Any], budget: dict[str, Any]) -> None:
    """Fail the check if the training exceeded its budget.

    A separate pass for the training figures is allowed, and so is an optimizer that evaluates each batch twice.
    """
    passes = 2 * budget["max_epochs"] + 1
    batches = -(-budget["train_images"] // budget["batch_size"])
    expect(
        fitted["batches"] <= passes * batches
        and fitted["steps"] <= passes * batches
        and fitted["examples"] <= passes * budget["train_images"],
        expected=f"max_epochs={budget['max_epochs']}: at most {budget['max_epochs'] * batches} batches to train on, and as many "
        "again to measure on",
        seen=f"{fitted['batches']} batches taken from the loader, {fitted['examples']} images seen in training, "
        f"{fitted['steps']} steps of the optimizer",
        why="everyone trains under the same budget: what is compared is what the pretrained weights are worth",
    )


def _keeps_the_frozen_layers(state: dict[str, Tensor], budget: dict[str, Any]) -> None:
    """Fail the check if frozen layers have changed, or if the head is too large.

    BatchNorm statistics do not matter here: exercise 3 is about them.
    """
    backbone = pretrained(budget["backbone"])
    frozen = first_layers(budget["backbone"], budget["n_trainable"])
    different = differing({name: backbone[name] for name in frozen}, state)
    expect(
        not different,
        expected=f"{len(frozen)} tensors of the frozen layers as {budget['backbone']} was pretrained, when training is over",
        seen=f"{len(different)} differ, the first of them {different[0] if different else ''}",
        why="the frozen layers are what is transferred: only the last ones learn the new task",
    )
    extra = sum(value.numel() for value in state.values()) - sum(value.numel() for value in backbone.values())
    expect(
        extra <= MOST_IN_HEAD,
        expected=f"the backbone with a head of at most {MOST_IN_HEAD:,} numbers",
        seen=f"{extra:,} numbers beyond those of the backbone",
        why="the head tells classes apart by the features of the backbone; a network of its own would not need them",
    )


def _trained_the_others(state: dict[str, Tensor], budget: dict[str, Any]) -> None:
    backbone = pretrained(budget["backbone"])
    frozen = set(first_layers(budget["backbone"], budget["n_trainable"]))
    weights = [name for name, value in backbone.items() if name not in frozen and value.ndim > 1]
    still = [name for name in weights if name in state and not differing({name: backbone[name]}, state)]
    expect(
        not still,
        expected=f"weights of the {budget['n_trainable']} trainable layers that have learned",
        seen=f"{len(still)} of {len(weights)} as they were pretrained, the first of them {still[0] if still else ''}",
        why="fine-tuning changes the last layers; a new head on untouched features is a linear probe",
    )


def _predicts_from_its_features(predicted: dict[str, Any], images: Tensor, backbone: str) -> None:
    """Fail the check unless the predictions follow from the features of the trained backbone.

    The grader computes the features with the returned weights. A linear map from features to logits is fitted on some
    images and must give the classes of the others, however the head is built. A network of another origin, hidden in
    the head or in ``forward``, sees what the backbone does not.
    """
    state, logits = predicted["state"], predicted["logits"].double().nan_to_num(0, 0, 0)
    model = timm.create_model(backbone).eval()
    known = {n: v for n, v in model.state_dict().items() if n in state and state[n].shape == v.shape}
    model.load_state_dict({name: state[name] for name in known}, strict=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in normalization(backbone).values())
    parts: list[list[Tensor]] = []
    with torch.no_grad(), same_numbers():
        # in parts: all at once they would take memory that grading another submission could use
        for part in images.split(AT_ONCE):
            # convolutions are faster in this memory format
            inputs = ((part.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            parts.append(pooled(model, model.forward_features(inputs)))
    agreeing = max(agreement(torch.cat(features), logits) for features in zip(*parts, strict=True))
    expect(
        agreeing >= AGREEING,
        expected="predictions that follow from the features of the trained backbone",
        seen=f"the same class for {percent(agreeing)} of the images",
        why="what is measured is the model that was trained, in eval mode, and no other network",
    )


def pooled(model: nn.Module, features: Tensor) -> list[Tensor]:
    """Return the features of each image in the ways in which a head may take them, each ``(n, number)``.

    These are mean and maximum over the image, the class token of a transformer, and what the model's own head takes.

    Args:
        model: A timm model.
        features: What its ``forward_features`` returned: maps, with channels first or last, or tokens.
    """
    values = features.double().nan_to_num(0, 0, 0)
    if features.ndim == 4:
        last = features.shape[1] != model.num_features and features.shape[3] == model.num_features
        area = (1, 2) if last else (2, 3)
        found = [values.mean(area), values.amax(area)]
    elif features.ndim == 3:
        found = [values.mean(1), values.amax(1), values[:, 0]]
    else:
        found = [values.flatten(1)]
    own = model.forward_head(features, pre_logits=True).double().nan_to_num(0, 0, 0).flatten(1)
    same = any(own.shape == other.shape and torch.allclose(own, other, rtol=1e-4, atol=1e-5) for other in found)
    return found if same else [*found, own]
