"""What probes use to call functions of a submission and to observe models."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TypedDict

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.kit.batches import Batches
from amllab.kit.lending import model_in
from amllab.numerics import without_compiling
from amllab.protocol.schema import AnyTensor
from amllab.protocol.submission import Functions

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


def raised(got: dict[str, Any]) -> Raised:
    """Return the part of an answer that describes the error of the call."""
    return {"error": got["error"], "message": got["message"], "line": got["line"]}


def trainable_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters that require a gradient."""
    return [name for name, p in nn.Module.named_parameters(model) if p.requires_grad]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state on the CPU."""
    # torch's own method, because a class of the submission may show a state that it does not compute with
    return {name: value.detach().cpu().clone() for name, value in nn.Module.state_dict(model).items()}


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's parameters: a notebook may have moved the model to a GPU."""
    return next((p.device for p in nn.Module.parameters(model)), torch.device("cpu"))


def new_model(backbone: str, state: dict[str, Tensor] | None) -> nn.Module:
    """Create a model for five classes, with the weights of the question if there are any."""
    model = timm.create_model(backbone, num_classes=5)
    if state is not None:
        model.load_state_dict(state)
    return model


def type_name(value: Any) -> str:
    """Return the name of a value's class, cut off after 100 characters."""
    return type(value).__name__[:100]


@contextmanager
def freezing_by_name(functions: Functions, layers: list[list[str]] | None) -> Iterator[list[int]]:
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
        return freeze_by_name(model, layers, n_trainable)

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


def freeze_by_name(model: nn.Module, layers: list[list[str]], n_trainable: int) -> nn.Module:
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


def effective_tensors(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
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


def printed_by(call: Callable[[], Any]) -> str:
    """Return what a call prints, on one line of at most 200 characters; an error only ends the call."""
    with redirect_stdout(io.StringIO()) as text, suppress(Exception):
        call()
    return " ".join(text.getvalue().split())[:200].encode(errors="replace").decode()


class EndlessTrainingError(Exception):
    """The training continues long after ``max_epochs``."""


class CountedBatches(Batches):
    """Batches that end a training after more passes over them than a training of a few epochs ever makes."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        if self.passes > _PASSES:
            raise EndlessTrainingError
        return super().__iter__()


class WatchedBatches(CountedBatches):
    """Batches that record the state of a model at the beginning of each pass over them."""

    model: nn.Module
    names: list[str]

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.states: list[dict[str, Tensor]] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # one state per epoch, and some more for trainings that validate more often, within the size limit of an answer
        if len(self.states) < _STATES:
            self.states.append(effective_tensors(self.model, self.names))
        return super().__iter__()


def normalized(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Scale uint8 images to [0, 1], then normalise each channel."""
    m, s = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (mean, std))
    return ((images.float() / 255 - m) / s).contiguous(memory_format=torch.channels_last)


@contextmanager
def effort_of(model: nn.Module) -> Iterator[dict[str, int]]:
    """Count the examples that a model sees in train mode with gradients, and the steps of all optimizers."""
    effort, kind = {"examples": 0, "steps": 0}, type(model)

    def forward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is kind and torch.is_grad_enabled() and inputs and any(m.training for m in module.modules()):
            effort["examples"] += len(inputs[0])

    # a hook for all modules, because the model can be copied or saved to a file, and its copies count too
    handle = register_module_forward_pre_hook(forward)
    try:
        with optimizer_steps() as steps, without_compiling():
            yield effort
    finally:
        handle.remove()
        effort["steps"] = len(steps)


@contextmanager
def backward_passes() -> Iterator[list[None]]:
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
def optimizer_steps(note: Callable[[torch.optim.Optimizer], str] = lambda optimizer: "") -> Iterator[list[str]]:
    """Yield a list that grows by one note with each step of any optimizer."""
    steps: list[str] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(note(optimizer)))
    try:
        yield steps
    finally:
        handle.remove()
