"""Probes of exercises 3 and 4: trainings of a scripted model, of a frozen backbone, and under a budget."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypedDict

import torch
from torch import Tensor

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.kit.batches import Batches
from amllab.kit.history import History, plain_history
from amllab.kit.probing import (
    CountedBatches,
    EndlessTrainingError,
    Raised,
    State,
    WatchedBatches,
    backward_passes,
    device_of,
    effective_tensors,
    effort_of,
    freeze_by_name,
    freezing_by_name,
    new_model,
    normalized,
    optimizer_steps,
    raised,
    state_of,
    trainable_names,
)
from amllab.kit.scripted_model import ScriptedModel
from amllab.loading import load_backbone
from amllab.numerics import same_numbers, without_compiling
from amllab.protocol.schema import FloatMatrix, IntMatrix, IntVector
from amllab.protocol.submission import Functions, capture_error


class Interrupted(Raised):
    """An error that a training raised.

    Attributes:
        epochs: Number of epochs that were validated before.
    """

    epochs: int


class Epoch(TypedDict):
    """Weight and buffers of the scripted model when it was last validated in an epoch."""

    epoch: int
    state: State


class Trained(TypedDict):
    """A training of the scripted model, with the model's log.

    Attributes:
        history: What the training returned.
        steps: Number of steps taken by optimizers.
        backwards: Number of backward passes, whatever they reached.
        idle: Why the first step that could not move the weight could not; see ``ScriptedModel.why_idle``.
        epochs: Number of epochs that were trained.
        forwards: One row per forward pass: whether it is of validation images; whether any module, the head, and the
            model itself are in train mode; whether gradients are enabled; how the images were changed, as an index into
            ``scripted.CHANGES``; number of images; epoch.
        batches: Number of examples of each backward pass through logits.
        examples: Numbers of these examples, in order; ``-1 - number`` for validation examples.
        gradients: ``(len(examples), CLASSES)``, gradients of the loss with respect to their logits.
        rows: One row per entry of ``batches``: epoch; whether it is the previous batch again; and if so, the sum of its
            losses and its number of hits, else zeros.
        weights: One row per entry of ``batches``: the trainable weight at that pass.
        accumulated: The weight's ``grad`` each time a backward pass has reached it, after a row of zeros.
        accumulated_after: Number of ``batches`` up to each of these times.
        states: Weight and buffers at the validation of each epoch.
        final: Weight and buffers at the end.
        loads: Calls of ``load_state_dict`` after the last forward pass, each an index into ``scripted.LOADS``.
    """

    history: History
    steps: int
    idle: str
    backwards: int
    epochs: int
    forwards: IntMatrix
    batches: list[int]
    examples: IntVector
    gradients: FloatMatrix
    rows: FloatMatrix
    weights: FloatMatrix
    accumulated: FloatMatrix
    accumulated_after: list[int]
    states: list[Epoch]
    final: State
    loads: list[int]


def train_scripted(
    functions: Functions, *, script: dict[str, Any], arguments: dict[str, Any], lists: bool = False
) -> Interrupted | Trained:
    """Call ``train_with_early_stopping`` on a model whose losses are fixed in advance.

    Args:
        functions: Functions of the notebook.
        script: Script of the model; see :func:`amllab.kit.scripted_model.make_script`.
        arguments: Further arguments of the call.
        lists: Whether the loaders are plain lists of batches.
    """
    # in eval mode, as an evaluation leaves it: the training itself must choose the mode
    model = ScriptedModel(script).eval()
    train, val = Batches(script["train"]), Batches(script["val"])
    model.follow(train, val)
    loaders: Any = (list(train), list(val)) if lists else (train, val)
    with optimizer_steps(model.why_idle) as steps, backward_passes() as backwards, without_compiling():
        got = capture_error(lambda: functions.train_with_early_stopping(model, *loaders, **arguments))
    if "error" in got:
        return {**raised(got), "epochs": len(model.states)}
    answer: Any = {"history": plain_history(got["value"]), "steps": len(steps), "idle": next(filter(None, steps), "")}
    answer["backwards"] = len(backwards)
    answer |= model.record()
    return answer  # type: ignore[no-any-return]


class Trainable(TypedDict):
    """Trainable parameters and states of a model that was trained.

    Attributes:
        trainable: Names of the trainable parameters before the training.
        trainable_after: Names of the trainable parameters after it.
        validated: States that the model was validated in.
        state: State after the training.
    """

    trainable: list[str]
    trainable_after: list[str]
    validated: list[State]
    state: State


def train_frozen(
    functions: Functions,
    *,
    backbone: str,
    state: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    n_trainable: int,
    epochs: int,
    layers: list[list[str]] | None,
) -> Trainable:
    """Freeze with ``freeze_layers`` and train with ``train_with_early_stopping``, in batches of 8.

    Which parameters are frozen is read from the model, so that it does not matter here *which* layers were frozen.
    ``layers`` replaces a ``freeze_layers`` that cannot be called.
    """
    model = new_model(backbone, state)
    with freezing_by_name(functions, layers):
        functions.freeze_layers(model, n_trainable)
    trainable = trainable_names(model)
    train = CountedBatches({"images": images, "labels": labels, "batch_size": 8})
    val = WatchedBatches({"images": images[:8], "labels": labels[:8]})
    val.model, val.names = model, list(state)
    # an endless training is penalised where max_epochs is checked; this probe is about the layers
    with same_numbers(), without_compiling(), suppress(EndlessTrainingError):
        functions.train_with_early_stopping(model, train, val, max_epochs=epochs, patience=epochs)
    return {
        "trainable": trainable,
        "trainable_after": trainable_names(model),
        "validated": val.states,
        "state": effective_tensors(model, list(state)),
    }


class Fitted(TypedDict):
    """A training under a budget, and what it used.

    Attributes:
        history: What the training returned.
        batches: Number of batches taken from the loader.
        examples: Number of examples seen in train mode with gradients.
        steps: Number of steps taken by optimizers.
    """

    history: History
    batches: int
    examples: int
    steps: int


def fit(
    functions: Functions,
    *,
    key: str,
    train_images: Tensor,
    train_labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    mean: list[float],
    std: list[float],
    backbone: str,
    num_classes: int,
    n_trainable: int,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    layers: list[list[str]],
    with_own_model: bool,
) -> Fitted:
    """Build with ``build_transfer_model`` and train with ``train_with_early_stopping``, with given frozen layers.

    Images are uint8 ``(n, 3, h, w)``. The model is stored under ``key`` for :func:`predict`. Computes with
    :func:`amllab.numerics.same_numbers`.

    With ``with_own_model``, the notebook builds the model. Otherwise it is built according to the contract, so that a
    model of another architecture loses points only in its own exercise.
    """
    torch.manual_seed(seed)
    train = Batches(
        {
            "images": normalized(train_images, mean, std),
            "labels": train_labels,
            "batch_size": batch_size,
            "shuffle_seed": seed,
        }
    )
    val = Batches({"images": normalized(val_images, mean, std), "labels": val_labels, "batch_size": 250})
    with same_numbers():
        if with_own_model:
            with freezing_by_name(functions, layers):
                model = functions.build_transfer_model(backbone, num_classes, n_trainable)
        else:
            model = load_backbone(backbone)
            model.reset_classifier(num_classes)
        freeze_by_name(model, layers, n_trainable)
        with effort_of(model) as effort:
            history = functions.train_with_early_stopping(
                model, train, val, max_epochs=max_epochs, patience=max_epochs, lr=lr
            )
    functions.store(key, model)
    return {"history": plain_history(history), "batches": train.given, **effort}  # type: ignore[typeddict-item]


class Predicted(TypedDict):
    """Logits ``(n, num_classes)`` of the model that :func:`fit` stored, and its state."""

    logits: FloatMatrix
    state: State


def predict(functions: Functions, *, key: str, images: Tensor, mean: list[float], std: list[float]) -> Predicted:
    """Apply the model that was trained under ``key`` to new images, uint8 ``(n, 3, h, w)``."""
    model = functions.load(key)
    model.eval()
    device = device_of(model)
    with torch.no_grad(), same_numbers():
        parts = normalized(images, mean, std).split(250)
        logits = torch.cat([model(part.to(device)).float().cpu() for part in parts])
    return {"logits": logits, "state": state_of(model)}
