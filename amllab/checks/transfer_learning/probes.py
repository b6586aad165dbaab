"""Probes of lab 1: the questions that checks can ask a submission.

Each probe calls the submission's functions and returns plain data. A probe observes and does not judge: it returns
tensors, names and counts. The check compares them where it runs, with values that were never in the submission's
process. Weights, images and losses come with the question.
"""

from __future__ import annotations

import copy
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.checks.transfer_learning.training_probes import fit, predict, train_frozen, train_scripted
from amllab.kit.lending import head_of, lent_weights, model_in, recorded
from amllab.kit.probing import (
    Raised,
    State,
    device_of,
    freezing_by_name,
    new_model,
    printed_by,
    raised,
    state_of,
    trainable_names,
    type_name,
)
from amllab.protocol.submission import Functions, capture_error

# a check asks for a probe by its name in this module
__all__ = ["build", "build_twice", "fit", "freeze", "predict", "printed", "train_frozen", "train_scripted"]


def printed(functions: Functions, *, probe: str, arguments: dict[str, Any]) -> str:
    """Return what the functions print when another probe of this module puts its question."""
    return printed_by(lambda: globals()[probe](functions, **arguments))


class Frozen(TypedDict):
    """The result of a call of ``freeze_layers``.

    Attributes:
        returned: ``"model"`` (the same object), ``"copy"`` (another model, while the original is unchanged), or the
            type of what was returned. The other attributes describe the copy if there is one.
        flagged: What was done instead of setting ``requires_grad`` on parameters: ``"modules"`` where it was set on
            modules, where it has no effect; the name of an unknown attribute that was set on parameters; ``"grad"``
            where gradients were cleared; ``"hooks"`` where hooks were registered; empty where there is none of these.
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
    new = new_model(backbone, state)
    model = copy.deepcopy(new)
    answers: list[Any] = []
    for n_trainable in calls:
        if not one_model:
            model = copy.deepcopy(new)
        before = trainable_names(model)
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        got = capture_error(lambda m=model, n=n_trainable: functions.freeze_layers(m, n))  # type: ignore[misc]
        if "error" in got:
            answers.append(got)
            continue
        value = got["value"]
        returned = "model" if value is model else type_name(value)
        if value is not model and isinstance(value, nn.Module) and trainable_names(model) == before:
            returned, model = "copy", value
        seen = {} if state is None else state_of(model)
        answers.append(
            {"returned": returned, "flagged": _flagged(model), "trainable": trainable_names(model), "state": seen}
        )
    return answers


def _flagged(model: nn.Module) -> str:
    """Return :attr:`Frozen.flagged` of a model whose parameters all had a gradient before."""
    if any("requires_grad" in vars(m) for m in model.modules()):
        return "modules"
    parameters = list(model.parameters())
    added = sorted({name for p in parameters for name in vars(p) if "grad" in name})
    if added:
        return added[0][:100]
    if any(p.grad is None for p in parameters):
        return "grad"
    return "hooks" if any(p._backward_hooks for p in parameters) else ""


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
        unusable: The error that the model raised, as text.
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
    unusable: str
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
        freezing_by_name(functions, layers) as called,
        recorded(functions) as given,
    ):
        got = capture_error(lambda: functions.build_transfer_model(backbone, num_classes, n_trainable))
    if "error" in got:
        return raised(got)
    value = got["value"]
    model, place = model_in(value, given)
    if model is None:
        return {"type": type_name(value)}
    trainable = trainable_names(model)
    model.eval()
    with torch.no_grad():
        logits = capture_error(lambda: (value if isinstance(value, nn.Module) else model)(images.to(device_of(model))))
    output = logits.get("value")
    state = state_of(model)
    return {
        "type": type_name(value),
        "place": place,
        "architecture": _architecture(model),
        "loaded": len(given),
        "output": list(output.shape) if isinstance(output, Tensor) else [],
        "probabilities": isinstance(output, Tensor) and _are_probabilities(output),
        "unusable": f"{logits['error'][0][:100]}: {logits['message']}" if "error" in logits else "",
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
    with freezing_by_name(functions, layers), recorded(functions) as given:
        found = []
        for _ in range(2):
            got = capture_error(lambda: functions.build_transfer_model(backbone, num_classes, 1))
            if "error" in got:
                return raised(got)
            model, _ = model_in(got["value"], given)
            if model is None:
                return {"type": type_name(got["value"])}
            found.append(model)
    first, second = found
    storages = [{n: v.untyped_storage().data_ptr() for n, v in m.state_dict().items() if v.numel()} for m in found]
    before = [state_of(model) for model in found]
    with torch.no_grad():
        for value in second.state_dict().values():
            value.add_(1)
    after = [state_of(model) for model in found]
    return {"same_object": first is second, "storages": storages, "before": before, "after": after}
