"""The probe of exercise 3: a linear layer that is trained on the outputs of a small encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from amllab.checks.self_supervised_learning.probe_encoder import (
    EACH,
    SPARE,
    Journal,
    ListedBatches,
    Loader,
    Shown,
    hooks_of,
    prepared,
    settings_of,
)
from amllab.kit.probing import Raised, State, backward_passes, raised, type_name
from amllab.kit.snapshots import Snapshot, snapshot
from amllab.numerics import same_numbers, without_compiling
from amllab.protocol.schema import FloatMatrix
from amllab.protocol.submission import Functions, capture_error

MOST = 100  # steps whose gradients are recorded, so that an answer stays small


class Taken(TypedDict):
    """The training of a layer with ``outputs`` rows and ``features`` columns, as optimizers and autograd saw it.

    Attributes:
        steps: Number of steps of all optimizers.
        evaluations: Number of backward passes.
        rate: Largest learning rate of a step; 0 if there was none.
        line_search: Whether an optimizer chooses the sizes of its steps by itself.
        gradients: ``(steps, outputs * features)``, gradients of the weight at the first ``MOST`` steps.
        weight: ``(outputs, features)``, the weight at the first step, or ``(0, 0)``.
        bias: ``(1, outputs)``, the bias at the first step, or ``(0, 0)``.
    """

    steps: int
    evaluations: int
    rate: float
    line_search: bool
    gradients: FloatMatrix
    weight: FloatMatrix
    bias: FloatMatrix


class Probed(TypedDict):
    """A layer that was trained on an encoder, and the encoder afterwards.

    Attributes:
        type: Type of what was returned.
        linear: Whether it is an ``nn.Linear``.
        shape: ``[outputs, features]`` of its weight; empty if it is none.
        dtype: Dtype of its weight.
        state: Its state.
        outputs: Its outputs for the further features, in its own precision, under the name ``"further"``; empty if it
            raised an error.
        unusable: That error, as text.
        encoder: The encoder after the call.
        settings: Description of all modules of the encoder, after the call.
        hooks: Number of hooks on its modules, after the call.
        shown: What the encoder was shown.
        passes: Number of passes over the loader.
        changed: Whether images or labels of the loader were changed in place.
        taken: The training.
        gradients_enabled: Whether gradients were recorded after the call.
        default_dtype: PyTorch's default dtype after the call.
    """

    type: str
    linear: bool
    shape: list[int]
    dtype: str
    state: State
    outputs: State
    unusable: str
    encoder: Snapshot
    settings: str
    hooks: int
    shown: Shown
    passes: int
    changed: bool
    taken: Taken
    gradients_enabled: bool
    default_dtype: str


@contextmanager
def _taken(outputs: int, features: int) -> Iterator[Taken]:
    """Yield what a training of a layer with these numbers of outputs and features does; complete at the end."""
    seen: Taken = {
        "steps": 0,
        "evaluations": 0,
        "rate": 0.0,
        "line_search": False,
        "gradients": torch.zeros(0, max(outputs, 0) * features),
        "weight": torch.zeros(0, 0),
        "bias": torch.zeros(0, 0),
    }
    gradients: list[Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen["steps"] += 1
        for group in optimizer.param_groups:
            seen["rate"] = max(seen["rate"], float(group.get("lr") or 0.0))
            seen["line_search"] |= bool(group.get("line_search_fn"))
        owned = [p for group in optimizer.param_groups for p in group["params"]]
        weight = next((p for p in owned if p.shape == (outputs, features) and p.grad is not None), None)
        if weight is None or len(gradients) >= MOST:
            return
        gradients.append(weight.grad.detach().flatten().float().cpu().clone())
        if len(gradients) == 1:
            seen["weight"] = weight.detach().float().cpu().clone()
            bias = next((p for p in owned if p.shape == (outputs,)), None)
            seen["bias"] = torch.zeros(0, 0) if bias is None else bias.detach().float().cpu().clone()[None]

    handle = register_optimizer_step_post_hook(note)
    try:
        with backward_passes() as evaluations:
            yield seen
    finally:
        handle.remove()
        seen["evaluations"] = len(evaluations)
        if gradients:
            seen["gradients"] = torch.stack(gradients)


def _applied(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return the outputs of a layer, float32 ``(n, classes)``."""
    with torch.no_grad():
        outputs = layer(features.to(layer.weight))
    if outputs.ndim != 2 or len(outputs) != len(features):
        raise ValueError(f"outputs of shape {tuple(outputs.shape)} for features of shape {tuple(features.shape)}")
    found: Tensor = outputs.detach().float().cpu().clone()
    return found


def probed(
    functions: Functions,
    *,
    encoder: dict[str, Tensor],
    training: list[str],
    trainable: list[str],
    images: Tensor,
    labels: Tensor,
    sizes: list[int],
    num_classes: int,
    further: Tensor,
    seed: int,
    arguments: dict[str, Any],
    shuffled: bool = False,
    as_list: bool = False,
) -> Probed | Raised:
    """Call ``linear_probe``.

    Args:
        functions: Functions of the notebook.
        encoder: State of the encoder.
        training: Names of its modules in train mode; ``""`` is the encoder itself.
        trainable: Names of its parameters that require a gradient.
        images: Watermarked images from number ``FIRST`` on, float ``(n, 3, h, w)``.
        labels: Labels, int64 ``(n,)``.
        sizes: Sizes of the batches.
        num_classes: Number of classes.
        further: Features to which the returned layer is applied, float ``(m, features)``.
        seed: Seed of the global random numbers, and of the order of the images.
        arguments: Further arguments of ``linear_probe``.
        shuffled: Whether the order of the images differs in each pass over the loader.
        as_list: Whether the loader is a list of batches.
    """
    journal = Journal(len(images))
    model = prepared(encoder, training, trainable, journal)
    data = {"images": images.clone(), "labels": labels.clone(), "sizes": sizes}
    loader: Loader | ListedBatches = Loader({**data, "shuffle_seed": seed if shuffled else None})
    if as_list:
        parts = zip(images.split(sizes), labels.split(sizes), strict=True)
        loader = ListedBatches((part.clone(), of.clone()) for part, of in parts)
    loader.most = SPARE + EACH * int(arguments.get("epochs", 50))
    with (
        torch.random.fork_rng(devices=[]),
        same_numbers(),
        without_compiling(),
        _taken(num_classes, further.shape[1]) as taken,
    ):
        torch.manual_seed(seed)
        got = capture_error(lambda: functions.linear_probe(model, loader, num_classes, **arguments))
        gradients_enabled, default_dtype = torch.is_grad_enabled(), str(torch.get_default_dtype())
    if "error" in got:
        return raised(got)
    layer = got["value"]
    linear = isinstance(layer, nn.Linear)
    weight = layer.weight if linear else torch.zeros(0)
    applied = capture_error(lambda: _applied(layer, further)) if linear else {}
    return {
        "type": type_name(layer),
        "linear": linear,
        "shape": list(weight.shape),
        "dtype": str(weight.dtype),
        "state": {name: value.detach().cpu().clone() for name, value in layer.state_dict().items()} if linear else {},
        "outputs": {"further": applied["value"]} if "value" in applied else {},
        "unusable": f"{applied['error'][0][:100]}: {applied['message']}" if "error" in applied else "",
        "encoder": snapshot(model),
        "settings": settings_of(model),
        "hooks": hooks_of(model),
        "shown": journal.shown(),
        "passes": loader.passes,
        "changed": not loader.holds(images, labels),
        "taken": taken,
        "gradients_enabled": gradients_enabled,
        "default_dtype": default_dtype,
    }
