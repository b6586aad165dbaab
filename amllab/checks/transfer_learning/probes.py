"""Probes of lab 1: the questions that checks can ask a submission.

Each probe calls the submission's functions and returns plain data. A probe observes and does not judge: it returns
tensors, names and counts. The check compares them where it runs, with values that were never in the submission's
process. Weights, images and losses come with the question.
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
from amllab.kit.lending import head_of, lent_weights, model_in, recorded
from amllab.kit.scripted_model import Batches, ScriptedModel
from amllab.loading import load_backbone
from amllab.numerics import same_numbers, without_compiling
from amllab.protocol.schema import AnyTensor, Floats, Integers, Table
from amllab.protocol.submission import Functions, attempt

State = dict[str, AnyTensor]
_STATES = 8  # at most, recorded of one training
_PASSES = 30  # over a loader, after which a training counts as endless


class Raised(TypedDict):
    """An error that the call raised.

    Attributes:
        error: Names of its classes, its own first.
        message: Its message.
        line: The line of the submission's code that raised it.
    """

    error: list[str]
    message: str
    line: str


def _raised(got: dict[str, Any]) -> Raised:
    return {"error": got["error"], "message": got["message"], "line": got["line"]}


def _trainable(model: nn.Module) -> list[str]:
    return [name for name, p in nn.Module.named_parameters(model) if p.requires_grad]


def _state(model: nn.Module) -> dict[str, Tensor]:
    # torch's own method, because a class of the submission may show a state that it does not compute with
    return {name: value.detach().cpu().clone() for name, value in nn.Module.state_dict(model).items()}


def _device(model: nn.Module) -> torch.device:
    """Return the device of the model's parameters: a notebook may have moved the model to a GPU."""
    return next((p.device for p in nn.Module.parameters(model)), torch.device("cpu"))


def _model(backbone: str, state: dict[str, Tensor] | None) -> nn.Module:
    """Create a model for five classes, with the weights of the question if there are any."""
    model = timm.create_model(backbone, num_classes=5)
    if state is not None:
        model.load_state_dict(state)
    return model


class Frozen(TypedDict):
    """The result of a call of ``freeze_layers``.

    Attributes:
        returned: ``"model"`` (the same object), ``"copy"`` (another model, while the original is unchanged), or the
            type of what was returned. The other attributes describe the copy if there is one.
        flagged: ``"modules"`` where ``requires_grad`` was set on modules, where it has no effect; else the name of an
            unknown attribute that was set on parameters; empty where there is none.
        trainable: Names of the trainable parameters.
        state: State of the model, if the question came with one.
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
    """Call ``freeze_layers`` once for each number in ``calls``, on one model or each time on a new one."""
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
    """Replace the notebook's ``freeze_layers`` by one that knows the layers from the question.

    Other exercises are then judged independently of this one. The replacement freezes as many layers as it is told to:
    the caller is responsible for the number. It works only until the question ends, so that a stored reference to it,
    in whatever form, is of no use in another exercise.

    Args:
        functions: Functions of the notebook.
        layers: Names of the parameters of each layer; ``None`` replaces nothing.

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
    """Leave the last layers trainable.

    Parameters under names that the backbone does not have belong to the head, which may be built in any way.
    """
    body = {name for layer in layers[:-1] for name in layer}
    frozen = {name for layer in layers[: len(layers) - n_trainable] for name in layer}
    model.requires_grad_(n_trainable > 0)
    inner, _ = model_in(model, [])
    for name, parameter in (inner or model).named_parameters():
        parameter.requires_grad_(name not in frozen if name in body else n_trainable > 0)
    return model


class NoModel(TypedDict):
    """The call returned something of this type instead of a model, and no model was loaded either."""

    type: str


class Built(TypedDict):
    """A model that was built.

    Attributes:
        type: Type of what was returned.
        place: Where the model is: ``"returned"``, ``"inside"`` of what was returned, or ``"not returned"``.
        architecture: Name of the architecture, according to the model itself.
        loaded: Number of models that ``load_backbone`` returned.
        output: Shape of the logits; empty if the model raised an error.
        probabilities: Whether each row of the logits is a distribution of probabilities.
        error: The error that the model raised, as text.
        shapes: Shapes of all tensors.
        trainable: Names of the trainable parameters.
        head: Names of the parameters of the classifier.
        called: Whether ``freeze_layers`` was called.
        state: State of the model, on demand.
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
    """Call ``build_transfer_model`` once, and apply the model to ``images``.

    Args:
        functions: Functions of the notebook.
        backbone: Name of the backbone.
        num_classes: Number of classes.
        n_trainable: Number of trainable layers.
        images: Float ``(n, 3, h, w)``.
        layers: Names of the parameters of each layer, for a replacement of ``freeze_layers``.
        weights: Weights that ``load_backbone`` finds for this backbone, if it cannot have its own.
        with_state: Whether to return the state of the model.
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
    """Two models, before and after all tensors of the second were increased by 1.

    Attributes:
        same_object: Whether both are the same object.
        storages: For each model, addresses of the storages of its tensors.
        before: States of both models before the change.
        after: States of both models after it.
    """

    same_object: bool
    storages: list[dict[str, int]]
    before: list[State]
    after: list[State]


def build_twice(
    functions: Functions, *, backbone: str, num_classes: int, layers: list[list[str]]
) -> Raised | NoModel | Twice:
    """Build two models and change every tensor of the second."""
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
    """An error that a training raised: see :class:`Raised`.

    Attributes:
        error: Names of its classes, its own first.
        message: Its message.
        line: The line of the submission's code that raised it.
        epochs: Number of epochs that were validated before.
    """

    error: list[str]
    message: str
    line: str
    epochs: int


class History(TypedDict):
    """What a training returned.

    Attributes:
        type: Type of what was returned.
        is_dict: Whether it is a dict.
        values: The numbers in each entry of the dict in it; ``None`` for entries without numbers.
        types: Types of these entries, such as ``"list of float"``.
    """

    type: str
    is_dict: bool
    values: dict[str, list[float] | float | None]
    types: dict[str, str]


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
    with _steps(model.why_idle) as steps, _backward_passes() as backwards, without_compiling():
        got = attempt(lambda: functions.train_with_early_stopping(model, *loaders, **arguments))
    if "error" in got:
        return {**_raised(got), "epochs": len(model.states)}
    answer: Any = {"history": _plain_history(got["value"]), "steps": len(steps), "idle": next(filter(None, steps), "")}
    answer["backwards"] = len(backwards)
    answer |= model.record()
    return answer  # type: ignore[no-any-return]


def _plain_history(returned: Any) -> History:
    """Convert the returned dictionary to plain data.

    ``types`` describes each value, because the contract asks for lists of floats.
    """
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
    """Return the dict that a training returned; empty if there is none.

    It may come alone, with other values, or as the attributes of an object.
    """
    for part in [returned, *(returned if isinstance(returned, (tuple, list)) else ())]:
        if isinstance(part, dict):
            return part
    if isinstance(returned, nn.Module):
        return {}
    attributes = getattr(returned, "_asdict", lambda: getattr(returned, "__dict__", {}))()
    return attributes if isinstance(attributes, dict) else {}


def _items(value: Any) -> list[Any] | None:
    """Return the items of a sequence of any type; ``None`` for anything else."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except Exception:  # such as an array without dimensions, or a custom class
        return None


def _container(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__


def _kind(value: Any) -> str:
    """Return the type of a value, with ``"float"`` for any float and ``"int"`` for any integer except booleans.

    NumPy's float64 is a float, and NumPy's integers are valid indices.
    """
    if isinstance(value, float):
        return "float"
    return "int" if isinstance(value, Integral) and not isinstance(value, bool) else type(value).__name__


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
    model = _model(backbone, state)
    with _freezing_by_name(functions, layers):
        functions.freeze_layers(model, n_trainable)
    trainable = _trainable(model)
    train = _Counted({"images": images, "labels": labels, "batch_size": 8})
    val = _Watched({"images": images[:8], "labels": labels[:8]})
    val.model, val.names = model, list(state)
    # an endless training is penalised where max_epochs is checked; this probe is about the layers
    with same_numbers(), without_compiling(), suppress(_WithoutEndError):
        functions.train_with_early_stopping(model, train, val, max_epochs=epochs, patience=epochs)
    return {
        "trainable": trainable,
        "trainable_after": _trainable(model),
        "validated": val.states,
        "state": _effective(model, list(state)),
    }


def _effective(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """Return the tensors of these names as the model computes with them, also in parametrised layers.

    Tensors that are gone are left out.
    """
    found = {}
    for name in names:
        value: Any = model
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, Tensor):
            found[name] = value.detach().cpu().clone()
    return found


class _WithoutEndError(Exception):
    """The training continues long after ``max_epochs``."""


class _Counted(Batches):
    """Batches that end a training after more passes over them than a training of a few epochs ever makes."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        if self.passes > _PASSES:
            raise _WithoutEndError
        return super().__iter__()


class _Watched(_Counted):
    """Batches that record the state of a model at the beginning of each pass over them."""

    model: nn.Module
    names: list[str]

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.states: list[dict[str, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # one state per epoch, and some more for trainings that validate more often, within the size limit of an answer
        if len(self.states) < _STATES:
            self.states.append(_effective(self.model, self.names))
        return super().__iter__()


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
    """Build with ``build_transfer_model`` and train with ``train_with_early_stopping``, with given frozen layers.

    Images are uint8 ``(n, 3, h, w)``. The model is stored under ``key`` for :func:`predict`. Computes with
    :func:`amllab.numerics.same_numbers`.

    With ``with_own_model``, the notebook builds the model. Otherwise it is built according to the contract, so that a
    model of another architecture loses points only in its own exercise.
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
    """Count the examples that a model sees in train mode with gradients, and the steps of all optimizers."""
    effort, kind = {"examples": 0, "steps": 0}, type(model)

    def forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is kind and torch.is_grad_enabled() and inputs and any(m.training for m in module.modules()):
            effort["examples"] += len(inputs[0])

    # a hook for all modules, because the model can be copied or saved to a file, and its copies count too
    handle = register_module_forward_pre_hook(forward)
    try:
        with _steps() as steps, without_compiling():
            yield effort
    finally:
        handle.remove()
        effort["steps"] = len(steps)


@contextmanager
def _backward_passes() -> Iterator[list[None]]:
    """Yield a list that grows by one entry with each backward pass, whatever it reaches."""
    calls: list[None] = []
    own = torch.autograd.backward

    def counted(*arguments: Any, **more: Any) -> Any:
        calls.append(None)
        return own(*arguments, **more)

    torch.autograd.backward = counted
    try:
        yield calls
    finally:
        torch.autograd.backward = own


@contextmanager
def _steps(note: Callable[[torch.optim.Optimizer], str] = lambda optimizer: "") -> Iterator[list[str]]:
    """Yield a list that grows by one note with each step of any optimizer."""
    steps: list[str] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(note(optimizer)))
    try:
        yield steps
    finally:
        handle.remove()


class Predicted(TypedDict):
    """Logits ``(n, num_classes)`` of the model that :func:`fit` stored, and its state."""

    logits: Floats
    state: State


def predict(functions: Functions, *, key: str, images: Tensor, mean: list[float], std: list[float]) -> Predicted:
    """Apply the model that was trained under ``key`` to new images, uint8 ``(n, 3, h, w)``."""
    model = functions.kept(key)
    model.eval()
    device = _device(model)
    with torch.no_grad(), same_numbers():
        parts = _normalised(images, mean, std).split(250)
        logits = torch.cat([model(part.to(device)).float().cpu() for part in parts])
    return {"logits": logits, "state": _state(model)}
