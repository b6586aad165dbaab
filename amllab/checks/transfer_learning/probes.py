"""Probes of lab 1: what the checks can ask a submission. Each calls its functions and returns plain data.

A probe observes and does not judge: it returns tensors, names and counts, and the check compares them where it runs, with
values that never were in the submission's process. Weights, images and losses come with the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypedDict

import timm
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.checks.declared import AnyTensor, Floats, Integers, Table
from amllab.checks.submission import Functions, attempt
from amllab.checks.transfer_learning.scripted import Batches, ScriptedModel
from amllab.numerics import same_numbers

State = dict[str, AnyTensor]
_STATES = 8  # at most, of one training


class Raised(TypedDict):
    """The call raised an error: the names of its classes, its own first, and its message."""

    error: list[str]
    message: str


def _trainable(model: nn.Module) -> list[str]:
    return [name for name, p in nn.Module.named_parameters(model) if p.requires_grad]


def _state(model: nn.Module) -> dict[str, Tensor]:
    # torch's own method: a class of the submission's may show another state than it computes with
    return {name: value.clone() for name, value in nn.Module.state_dict(model).items()}


def _model(backbone: str, state: dict[str, Tensor] | None) -> nn.Module:
    """A model for five classes, with the weights of the question."""
    model = timm.create_model(backbone, num_classes=5)
    if state is not None:
        model.load_state_dict(state)
    return model


class Frozen(TypedDict):
    """After a call of ``freeze_layers``: names of trainable parameters; the state, where one was given."""

    same_object: bool
    trainable: list[str]
    state: State


def freeze(
    functions: Functions, *, backbone: str, calls: list[int], state: dict[str, Tensor] | None = None
) -> list[Raised | Frozen]:
    """Calls ``freeze_layers`` on one model, once for each number of ``calls``."""
    model = _model(backbone, state)
    answers: list[Any] = []
    for n_trainable in calls:
        got = attempt(lambda n=n_trainable: functions.freeze_layers(model, n))  # type: ignore[misc]
        if "error" in got:
            answers.append(got)
            continue
        seen = {} if state is None else _state(model)
        answers.append({"same_object": got["value"] is model, "trainable": _trainable(model), "state": seen})
    return answers


@contextmanager
def _freezing_by_name(functions: Functions, layers: list[list[str]] | None) -> Iterator[None]:
    """Replaces the notebook's ``freeze_layers`` by one that knows the layers from the question.

    What another exercise is about is then judged by itself, whatever became of this one. The replacement freezes as many
    layers as it is told to: which number it gets is the caller's affair.

    Args:
        functions: of the notebook.
        layers: names of the parameters of each layer; ``None`` replaces nothing.
    """
    if layers is None:
        yield
        return

    def freeze_layers(model: nn.Module, n_trainable: int, *_: Any, **more: Any) -> nn.Module:
        if not 0 <= n_trainable <= len(layers):
            raise ValueError(f"n_trainable={n_trainable} of {len(layers)} layers")
        return _freeze(model, [name for layer in layers[: len(layers) - n_trainable] for name in layer])

    own = functions.namespace.get("freeze_layers")
    functions.namespace["freeze_layers"] = freeze_layers
    try:
        yield
    finally:
        if own is None:
            del functions.namespace["freeze_layers"]
        else:
            functions.namespace["freeze_layers"] = own


def _freeze(model: nn.Module, frozen: list[str]) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return model


class NoModel(TypedDict):
    """What was returned is no model, but of this type."""

    type: str


class Built(TypedDict):
    """A model: shape of its logits, names of trainable parameters, and on demand its state."""

    output: list[int]
    trainable: list[str]
    state: State


def build(
    functions: Functions,
    *,
    backbone: str,
    num_classes: int,
    n_trainable: int,
    images: Tensor,
    layers: list[list[str]] | None = None,
    with_state: bool = False,
) -> Raised | NoModel | Built:
    """Calls ``build_transfer_model`` once, and the model on ``images``, float ``(n, 3, h, w)``."""
    with _freezing_by_name(functions, layers):
        got = attempt(lambda: functions.build_transfer_model(backbone, num_classes, n_trainable))
    if "error" in got:
        return {"error": got["error"], "message": got["message"]}
    model = got["value"]
    if not isinstance(model, nn.Module):
        return {"type": type(model).__name__}
    model.eval()
    with torch.no_grad():
        logits = model(images)
    state = _state(model) if with_state else {}
    return {"output": list(logits.shape), "trainable": _trainable(model), "state": state}


class Twice(TypedDict):
    """Two models: addresses of their storages, and states before and after all tensors of the second were raised by 1."""

    same_object: bool
    storages: list[dict[str, int]]
    before: list[State]
    after: list[State]


def build_twice(functions: Functions, *, backbone: str, num_classes: int, layers: list[list[str]]) -> Twice:
    """Builds two models and changes every tensor of the second."""
    with _freezing_by_name(functions, layers):
        first, second = (functions.build_transfer_model(backbone, num_classes, 1) for _ in range(2))
    both = (first, second)
    storages = [{n: v.untyped_storage().data_ptr() for n, v in m.state_dict().items() if v.numel()} for m in both]
    before = [_state(model) for model in both]
    with torch.no_grad():
        for value in second.state_dict().values():
            value.add_(1)
    after = [_state(model) for model in both]
    return {"same_object": first is second, "storages": storages, "before": before, "after": after}


class History(TypedDict):
    """What a training returned: its type, and of each entry of a dict the numbers (where it holds any) and their types."""

    type: str
    values: dict[str, list[float] | float | None]
    types: dict[str, str]


class Epoch(TypedDict):
    """The state of the scripted model when it was last validated in an epoch."""

    epoch: int
    state: State


class Trained(TypedDict):
    """A training of the scripted model, and the model's journal.

    Attributes:
        forwards: one row for each forward pass: is it of validation images, is the model in train mode, are gradients
            switched on, number of images, epoch.
        batches: number of examples of each backward pass through logits.
        examples: their numbers, in order; of validation examples ``-1 - number``.
        gradients: ``(len(examples), CLASSES)``: of the loss with respect to their logits.
        accumulated: norm of the weight's ``grad`` whenever a backward pass had reached it.
        accumulated_after: number of ``batches`` until then.
        epochs: states.
        final: the state at the end.
        trainable: names of trainable parameters at the end.
        steps: taken by optimizers.
    """

    history: History
    steps: int
    forwards: Table
    batches: list[int]
    examples: Integers
    gradients: Floats
    accumulated: list[float]
    accumulated_after: list[int]
    epochs: list[Epoch]
    final: State
    trainable: list[str]


def train_scripted(functions: Functions, *, script: dict[str, Any], arguments: dict[str, Any]) -> Raised | Trained:
    """Calls ``train_with_early_stopping`` on a model whose losses are laid down in ``script``."""
    # as the last evaluation left it: which mode to train in is for the training to see to
    model = ScriptedModel(script).eval()
    train, val = Batches(script["train"]), Batches(script["val"])
    with _steps() as steps:
        got = attempt(lambda: functions.train_with_early_stopping(model, train, val, **arguments))
    if "error" in got:
        return {"error": got["error"], "message": got["message"]}
    answer: Any = {"history": _plain_history(got["value"]), "steps": len(steps), **model.record()}
    return answer  # type: ignore[no-any-return]


def _plain_history(history: Any) -> History:
    """The returned dictionary as plain data; ``types`` tells what each value is, as the contract asks for floats."""
    values: dict[str, list[float] | float | None] = {}
    types: dict[str, str] = {}
    for key, value in history.items() if isinstance(history, dict) else ():
        name = str(key)[:100]
        is_list = isinstance(value, list)
        kinds = {_kind(item) for item in value} if is_list else {_kind(value)}
        types[name] = (("list of " if is_list else "") + "/".join(sorted(kinds)))[:200]
        try:
            values[name] = [float(item) for item in value] if is_list else float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            values[name] = None
    return {"type": type(history).__name__, "values": values, "types": types}


def _kind(value: Any) -> str:
    """``"float"`` and ``"int"`` for whatever is one: NumPy's float64 is a float, and its integers are indices."""
    if isinstance(value, float):
        return "float"
    return "int" if isinstance(value, Integral) and not isinstance(value, bool) else type(value).__name__


class Trainable(TypedDict):
    """Names of the parameters that were trainable in a training, the states it was validated in, and the one after it."""

    trainable: list[str]
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
    """Freezes with ``freeze_layers``, trains with ``train_with_early_stopping``, in batches of 8.

    Which parameters are frozen is read off the model, so that *which* layers were frozen plays no part here. A
    ``freeze_layers`` that cannot be called is replaced (``layers``).
    """
    model = _model(backbone, state)
    with _freezing_by_name(functions, layers):
        functions.freeze_layers(model, n_trainable)
    trainable = _trainable(model)
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    val = _Watched(batches[:1], model)
    with same_numbers():
        functions.train_with_early_stopping(model, batches, val, max_epochs=epochs, patience=epochs)
    return {"trainable": trainable, "validated": val.states, "state": _state(model)}


class _Watched:
    """Batches that take down the state of a model whenever somebody begins to go through them."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], model: nn.Module) -> None:
        self.batches, self.model = batches, model
        self.states: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # one state each epoch, and some for those who look more often: no limit of the answer's size is reached
        if len(self.states) < _STATES:
            self.states.append(_state(self.model))
        return iter(self.batches)


class Fitted(TypedDict):
    """What a training took: batches that the loader gave, examples seen in train mode with gradients, optimizer steps."""

    history: History
    batches: int
    examples: int
    steps: int


def _normalised(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    m, s = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (mean, std))
    return ((images.float() / 255 - m) / s).contiguous(memory_format=torch.channels_last)


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
) -> Fitted:
    """Builds with ``build_transfer_model``, trains with ``train_with_early_stopping``; what is frozen is given.

    Images are uint8 ``(n, 3, h, w)``. The model is kept under ``key`` for :func:`predict`. Computes with
    :func:`amllab.numerics.same_numbers`.
    """
    torch.manual_seed(seed)
    train = Batches(
        {
            "images": _normalised(train_images, mean, std),
            "labels": train_labels,
            "batch_size": batch_size,
            "shuffle_seed": seed,
        }
    )
    val = Batches({"images": _normalised(val_images, mean, std), "labels": val_labels, "batch_size": 250})
    with same_numbers():
        with _freezing_by_name(functions, layers):
            model = functions.build_transfer_model(backbone, num_classes, n_trainable)
        _freeze(model, [name for layer in layers[: len(layers) - n_trainable] for name in layer])
        with _effort(model) as effort:
            history = functions.train_with_early_stopping(
                model, train, val, max_epochs=max_epochs, patience=max_epochs, lr=lr
            )
    functions.keep(key, model)
    return {"history": _plain_history(history), "batches": train.given, **effort}  # type: ignore[typeddict-item]


@contextmanager
def _effort(model: nn.Module) -> Iterator[dict[str, int]]:
    """Counts the examples that a model sees in train mode with gradients, and the steps of all optimizers."""
    effort = {"examples": 0, "steps": 0}

    def forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and torch.is_grad_enabled() and inputs:
            effort["examples"] += len(inputs[0])

    handle = model.register_forward_pre_hook(forward)
    try:
        with _steps() as steps:
            yield effort
    finally:
        handle.remove()
        effort["steps"] = len(steps)


@contextmanager
def _steps() -> Iterator[list[None]]:
    """A list that grows by one with each step of any optimizer."""
    steps: list[None] = []
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    try:
        yield steps
    finally:
        handle.remove()


class Predicted(TypedDict):
    """Logits ``(n, num_classes)`` of the model that :func:`fit` kept, and its state."""

    logits: Floats
    state: State


def predict(functions: Functions, *, key: str, images: Tensor, mean: list[float], std: list[float]) -> Predicted:
    """Applies the model that was trained under ``key`` to images uint8 ``(n, 3, h, w)`` that it has not seen before."""
    model = functions.kept(key)
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad(), same_numbers():
        parts = _normalised(images, mean, std).split(250)
        logits = torch.cat([model(part.to(device)).float().cpu() for part in parts])
    return {"logits": logits, "state": _state(model)}
