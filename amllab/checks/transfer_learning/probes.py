"""Probes of lab 1: what the checks can ask a submission. Each calls its functions and returns plain data.

A probe observes and does not judge: it returns tensors, names and counts, and the check compares them where it runs, with
values that never were in the submission's process. Weights, images and losses come with the question.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from numbers import Integral
from typing import Any, TypedDict

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.checks.declared import AnyTensor, Floats, Integers, Table
from amllab.checks.submission import Functions, attempt
from amllab.checks.transfer_learning.lending import head_of, lent_weights, model_in, recorded
from amllab.checks.transfer_learning.scripted import Batches, ScriptedModel
from amllab.loading import load_backbone
from amllab.numerics import same_numbers, without_compiling

State = dict[str, AnyTensor]
_STATES = 8  # at most, of one training
_PASSES = 30  # over a loader, before a training counts as one without end


class Raised(TypedDict):
    """The call raised an error: the names of its classes, its own first, its message, and the line of the submission's code."""

    error: list[str]
    message: str
    line: str


def _raised(got: dict[str, Any]) -> Raised:
    return {"error": got["error"], "message": got["message"], "line": got["line"]}


def _trainable(model: nn.Module) -> list[str]:
    return [name for name, p in nn.Module.named_parameters(model) if p.requires_grad]


def _state(model: nn.Module) -> dict[str, Tensor]:
    # torch's own method: a class of the submission's may show another state than it computes with
    return {name: value.detach().cpu().clone() for name, value in nn.Module.state_dict(model).items()}


def _device(model: nn.Module) -> torch.device:
    """Of its parameters: a notebook may have moved the model to a GPU."""
    return next((p.device for p in nn.Module.parameters(model)), torch.device("cpu"))


def _model(backbone: str, state: dict[str, Tensor] | None) -> nn.Module:
    """A model for five classes, with the weights of the question."""
    model = timm.create_model(backbone, num_classes=5)
    if state is not None:
        model.load_state_dict(state)
    return model


class Frozen(TypedDict):
    """After a call of ``freeze_layers``: what it returned, names of trainable parameters; the state, where one was given.

    Attributes:
        returned: ``"model"`` (the very one), ``"copy"`` (another one, and the one that was given is as it was), or the type of
            what was returned. What else is told is of the copy, where it is one.
        flagged: what has no effect: ``"modules"`` where ``requires_grad`` was set on them, else the name of an attribute that was
            set on parameters; empty where nothing was.
    """

    returned: str
    flagged: str
    trainable: list[str]
    state: State


def freeze(
    functions: Functions,
    *,
    backbone: str,
    calls: list[int],
    state: dict[str, Tensor] | None = None,
    one_model: bool = True,
) -> list[Raised | Frozen]:
    """Calls ``freeze_layers`` once for each number of ``calls``: on one model, or each time on a new one."""
    new = _model(backbone, state)
    model = copy.deepcopy(new)
    answers: list[Any] = []
    for n_trainable in calls:
        if not one_model:
            model = copy.deepcopy(new)
        before = _trainable(model)
        got = attempt(lambda m=model, n=n_trainable: functions.freeze_layers(m, n))  # type: ignore[misc]
        if "error" in got:
            answers.append(got)
            continue
        value = got["value"]
        returned = "model" if value is model else _type(value)
        if value is not model and isinstance(value, nn.Module) and _trainable(model) == before:
            returned, model = "copy", value
        seen = {} if state is None else _state(model)
        added = sorted({name for p in model.parameters() for name in vars(p) if "grad" in name})
        flagged = "modules" if any("requires_grad" in vars(m) for m in model.modules()) else next(iter(added), "")[:100]
        answers.append({"returned": returned, "flagged": flagged, "trainable": _trainable(model), "state": seen})
    return answers


def _type(value: Any) -> str:
    return type(value).__name__[:100]


@contextmanager
def _freezing_by_name(functions: Functions, layers: list[list[str]] | None) -> Iterator[list[int]]:
    """Replaces the notebook's ``freeze_layers`` by one that knows the layers from the question.

    What another exercise is about is then judged by itself, whatever became of this one. The replacement freezes as many
    layers as it is told to: which number it gets is the caller's affair. It ends with the question: who keeps it, in whatever
    form, has nothing for another exercise.

    Args:
        functions: of the notebook.
        layers: names of the parameters of each layer; ``None`` replaces nothing.

    Yields:
        The numbers that it was called with.
    """
    called: list[int] = []
    if layers is None:
        yield called
        return

    lent = [layers]

    def freeze_layers(model: nn.Module, n_trainable: int, *_: Any, **more: Any) -> nn.Module:
        if not lent:
            raise RuntimeError("a check lent this freeze_layers for one question, which is over")
        (layers,) = lent
        if not 0 <= n_trainable <= len(layers):
            raise ValueError(f"n_trainable={n_trainable} of {len(layers)} layers")
        called.append(int(n_trainable))
        return _freeze(model, layers, n_trainable)

    own = functions.namespace.get("freeze_layers")
    functions.namespace["freeze_layers"] = freeze_layers
    try:
        yield called
    finally:
        lent.clear()
        if own is None:
            functions.namespace.pop("freeze_layers", None)
        else:
            functions.namespace["freeze_layers"] = own


def _freeze(model: nn.Module, layers: list[list[str]], n_trainable: int) -> nn.Module:
    """Leaves the last layers trainable. What has a name of its own belongs to the head: that may be made of anything."""
    body = {name for layer in layers[:-1] for name in layer}
    frozen = {name for layer in layers[: len(layers) - n_trainable] for name in layer}
    model.requires_grad_(n_trainable > 0)
    inner, _ = model_in(model, [])
    for name, parameter in (inner or model).named_parameters():
        parameter.requires_grad_(name not in frozen if name in body else n_trainable > 0)
    return model


class NoModel(TypedDict):
    """No model was returned, but something of this type, and no model was loaded either."""

    type: str


class Built(TypedDict):
    """A model that was built.

    Attributes:
        type: of what was returned.
        place: where the model is: ``"returned"``, ``"inside"`` of what was returned, or ``"not returned"``.
        architecture: its name, as the model itself says.
        loaded: number of models that ``load_backbone`` gave out.
        output: shape of its logits; none where it raised an error.
        probabilities: whether each row of them is one of probabilities.
        error: which one, in words.
        shapes: of all tensors.
        trainable, head: names of the trainable parameters, and of those of the classifier.
        called: whether ``freeze_layers`` was called.
        state: on demand.
    """

    type: str
    place: str
    architecture: str
    loaded: int
    output: list[int]
    probabilities: bool
    error: str
    shapes: dict[str, list[int]]
    trainable: list[str]
    head: list[str]
    called: bool
    state: State


def build(
    functions: Functions,
    *,
    backbone: str,
    num_classes: int,
    n_trainable: int,
    images: Tensor,
    layers: list[list[str]] | None = None,
    weights: dict[str, Tensor] | None = None,
    with_state: bool = False,
) -> Raised | NoModel | Built:
    """Calls ``build_transfer_model`` once, and the model on ``images``, float ``(n, 3, h, w)``.

    Args:
        weights: what ``load_backbone`` finds for this backbone, where it cannot have its own.
    """
    with (
        lent_weights(backbone, weights),
        _freezing_by_name(functions, layers) as called,
        recorded(functions) as given,
    ):
        got = attempt(lambda: functions.build_transfer_model(backbone, num_classes, n_trainable))
    if "error" in got:
        return _raised(got)
    value = got["value"]
    model, place = model_in(value, given)
    if model is None:
        return {"type": _type(value)}
    trainable = _trainable(model)
    model.eval()
    with torch.no_grad():
        logits = attempt(lambda: (value if isinstance(value, nn.Module) else model)(images.to(_device(model))))
    output = logits.get("value")
    state = _state(model)
    return {
        "type": _type(value),
        "place": place,
        "architecture": _architecture(model),
        "loaded": len(given),
        "output": list(output.shape) if isinstance(output, Tensor) else [],
        "probabilities": isinstance(output, Tensor) and _are_probabilities(output),
        "error": f"{logits['error'][0][:100]}: {logits['message']}" if "error" in logits else "",
        "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
        "trainable": trainable,
        "head": head_of(model),
        "called": bool(called),
        "state": state if with_state else {},
    }


def _are_probabilities(output: Tensor) -> bool:
    return output.ndim == 2 and bool((output >= 0).all()) and bool((output.double().sum(1) - 1).abs().max() < 1e-4)


def _architecture(model: nn.Module) -> str:
    configuration = getattr(model, "pretrained_cfg", None)
    name = configuration.get("architecture") if isinstance(configuration, dict) else None
    return name[:100] if isinstance(name, str) else ""


class Twice(TypedDict):
    """Two models: addresses of their storages, and states before and after all tensors of the second were raised by 1."""

    same_object: bool
    storages: list[dict[str, int]]
    before: list[State]
    after: list[State]


def build_twice(
    functions: Functions, *, backbone: str, num_classes: int, layers: list[list[str]]
) -> Raised | NoModel | Twice:
    """Builds two models and changes every tensor of the second."""
    with _freezing_by_name(functions, layers), recorded(functions) as given:
        found = []
        for _ in range(2):
            got = attempt(lambda: functions.build_transfer_model(backbone, num_classes, 1))
            if "error" in got:
                return _raised(got)
            model, _ = model_in(got["value"], given)
            if model is None:
                return {"type": _type(got["value"])}
            found.append(model)
    first, second = found
    storages = [{n: v.untyped_storage().data_ptr() for n, v in m.state_dict().items() if v.numel()} for m in found]
    before = [_state(model) for model in found]
    with torch.no_grad():
        for value in second.state_dict().values():
            value.add_(1)
    after = [_state(model) for model in found]
    return {"same_object": first is second, "storages": storages, "before": before, "after": after}


class Interrupted(TypedDict):
    """A training raised an error: as :class:`Raised`, with the number of epochs that were validated before."""

    error: list[str]
    message: str
    line: str
    epochs: int


class History(TypedDict):
    """What a training returned: its type, and of each entry of the dict in it the numbers (where it holds any) and their types."""

    type: str
    is_dict: bool
    values: dict[str, list[float] | float | None]
    types: dict[str, str]


class Epoch(TypedDict):
    """Weight and buffers of the scripted model when it was last validated in an epoch."""

    epoch: int
    state: State


class Trained(TypedDict):
    """A training of the scripted model, and the model's journal.

    Attributes:
        epochs: number of epochs that were trained.
        forwards: one row for each forward pass: is it of validation images, is any module in train mode, is the head, is the
            model itself, are gradients switched on, were the images changed, number of images, epoch.
        batches: number of examples of each backward pass through logits.
        examples: their numbers, in order; of validation examples ``-1 - number``.
        gradients: ``(len(examples), CLASSES)``: of the loss with respect to their logits.
        rows: one for each of ``batches``: epoch, is it the batch before once more, and then the sum of its losses and its hits.
        weights: one row for each of ``batches``: the trainable weight when it was passed.
        accumulated: the weight's ``grad`` whenever a backward pass had reached it, behind a row of zeros.
        accumulated_after: number of ``batches`` until then.
        states: what was validated.
        final: weight and buffers at the end.
        loads: calls of ``load_state_dict`` behind the last forward pass, each an index of ``scripted.LOADS``.
        steps: taken by optimizers.
        idle: why the first of them that could not move the weight could not; see ``ScriptedModel.why_idle``.
    """

    history: History
    steps: int
    idle: str
    epochs: int
    forwards: Table
    batches: list[int]
    examples: Integers
    gradients: Floats
    rows: Floats
    weights: Floats
    accumulated: Floats
    accumulated_after: list[int]
    states: list[Epoch]
    final: State
    loads: list[int]


def train_scripted(
    functions: Functions, *, script: dict[str, Any], arguments: dict[str, Any], lists: bool = False
) -> Interrupted | Trained:
    """Calls ``train_with_early_stopping`` on a model whose losses are laid down in ``script``.

    Args:
        lists: whether the loaders are plain lists of batches.
    """
    # as the last evaluation left it: which mode to train in is for the training to see to
    model = ScriptedModel(script).eval()
    train, val = Batches(script["train"]), Batches(script["val"])
    model.follow(train, val)
    loaders: Any = (list(train), list(val)) if lists else (train, val)
    with _steps(model.why_idle) as steps, without_compiling():
        got = attempt(lambda: functions.train_with_early_stopping(model, *loaders, **arguments))
    if "error" in got:
        return {**_raised(got), "epochs": len(model.states)}
    answer: Any = {"history": _plain_history(got["value"]), "steps": len(steps), "idle": next(filter(None, steps), "")}
    answer |= model.record()
    return answer  # type: ignore[no-any-return]


def _plain_history(returned: Any) -> History:
    """The returned dictionary as plain data; ``types`` tells what each value is, as the contract asks for lists of floats."""
    values: dict[str, list[float] | float | None] = {}
    types: dict[str, str] = {}
    for key, value in _dictionary(returned).items():
        name = str(key)[:100]
        items = _items(value)
        kinds = {_kind(item) for item in ([value] if items is None else items)}
        container = "" if items is None else f"{_container(value)} of "
        types[name] = (container + "/".join(sorted(kinds)))[:200]
        try:
            values[name] = float(value) if items is None else [float(item) for item in items]
        except (TypeError, ValueError, RuntimeError, OverflowError):
            values[name] = None
    return {"type": type(returned).__name__, "is_dict": isinstance(returned, dict), "values": values, "types": types}


def _dictionary(returned: Any) -> dict[Any, Any]:
    """The dict that was returned, alone, with other values, or as the attributes of an object; empty where there is none."""
    for part in [returned, *(returned if isinstance(returned, (tuple, list)) else ())]:
        if isinstance(part, dict):
            return part
    if isinstance(returned, nn.Module):
        return {}
    attributes = getattr(returned, "_asdict", lambda: getattr(returned, "__dict__", {}))()
    return attributes if isinstance(attributes, dict) else {}


def _items(value: Any) -> list[Any] | None:
    """The members of a sequence, whatever it is made of; ``None`` of what is none."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except Exception:  # an array without dimensions, or a class of their own
        return None


def _container(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__


def _kind(value: Any) -> str:
    """``"float"`` and ``"int"`` for whatever is one: NumPy's float64 is a float, and its integers are indices."""
    if isinstance(value, float):
        return "float"
    return "int" if isinstance(value, Integral) and not isinstance(value, bool) else type(value).__name__


class Trainable(TypedDict):
    """Names of trainable parameters before and after a training, the states it was validated in, and the one after it."""

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
    """Freezes with ``freeze_layers``, trains with ``train_with_early_stopping``, in batches of 8.

    Which parameters are frozen is read off the model, so that *which* layers were frozen plays no part here. A
    ``freeze_layers`` that cannot be called is replaced (``layers``).
    """
    model = _model(backbone, state)
    with _freezing_by_name(functions, layers):
        functions.freeze_layers(model, n_trainable)
    trainable = _trainable(model)
    train = _Counted({"images": images, "labels": labels, "batch_size": 8})
    val = _Watched({"images": images[:8], "labels": labels[:8]})
    val.model, val.names = model, list(state)
    # a training without end is charged where max_epochs is asked for; here is looked at what it did to the layers
    with same_numbers(), without_compiling(), suppress(_WithoutEndError):
        functions.train_with_early_stopping(model, train, val, max_epochs=epochs, patience=epochs)
    return {
        "trainable": trainable,
        "trainable_after": _trainable(model),
        "validated": val.states,
        "state": _effective(model, list(state)),
    }


def _effective(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """The tensors of these names as the model computes with them, of parametrised layers too; those that are gone are left out."""
    found = {}
    for name in names:
        value: Any = model
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, Tensor):
            found[name] = value.detach().cpu().clone()
    return found


class _WithoutEndError(Exception):
    """A training goes on long after max_epochs."""


class _Counted(Batches):
    """Batches that end a training after so many passes over them that no training of a few epochs comes to them."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        if self.passes > _PASSES:
            raise _WithoutEndError
        return super().__iter__()


class _Watched(_Counted):
    """Batches that take down the state of a model at the beginning of each pass over them."""

    model: nn.Module
    names: list[str]

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.states: list[dict[str, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # one state each epoch, and some for those who look more often: no limit of the answer's size is reached
        if len(self.states) < _STATES:
            self.states.append(_effective(self.model, self.names))
        return super().__iter__()


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
    with_own_model: bool,
) -> Fitted:
    """Builds with ``build_transfer_model``, trains with ``train_with_early_stopping``; what is frozen is given.

    Images are uint8 ``(n, 3, h, w)``. The model is kept under ``key`` for :func:`predict`. Computes with
    :func:`amllab.numerics.same_numbers`.

    Args:
        with_own_model: whether the model is the notebook's own; else it is one as the contract has it, so that a model of
            another architecture is charged in its own exercise alone.
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
        if with_own_model:
            with _freezing_by_name(functions, layers):
                model = functions.build_transfer_model(backbone, num_classes, n_trainable)
        else:
            model = load_backbone(backbone)
            model.reset_classifier(num_classes)  # type: ignore[operator]
        _freeze(model, layers, n_trainable)
        with _effort(model) as effort:
            history = functions.train_with_early_stopping(
                model, train, val, max_epochs=max_epochs, patience=max_epochs, lr=lr
            )
    functions.keep(key, model)
    return {"history": _plain_history(history), "batches": train.given, **effort}  # type: ignore[typeddict-item]


@contextmanager
def _effort(model: nn.Module) -> Iterator[dict[str, int]]:
    """Counts the examples that a model sees in train mode with gradients, and the steps of all optimizers."""
    effort, kind = {"examples": 0, "steps": 0}, type(model)

    def forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is kind and torch.is_grad_enabled() and inputs and any(m.training for m in module.modules()):
            effort["examples"] += len(inputs[0])

    # of all modules, and not on the model: that can be copied and written to a file, and its copies are counted too
    handle = register_module_forward_pre_hook(forward)
    try:
        with _steps() as steps, without_compiling():
            yield effort
    finally:
        handle.remove()
        effort["steps"] = len(steps)


@contextmanager
def _steps(note: Callable[[torch.optim.Optimizer], str] = lambda optimizer: "") -> Iterator[list[str]]:
    """A list that grows by one note with each step of any optimizer."""
    steps: list[str] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(note(optimizer)))
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
    device = _device(model)
    with torch.no_grad(), same_numbers():
        parts = _normalised(images, mean, std).split(250)
        logits = torch.cat([model(part.to(device)).float().cpu() for part in parts])
    return {"logits": logits, "state": _state(model)}
