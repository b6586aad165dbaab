"""Probes of lab 1: what the checks can ask a submission. Each calls its functions and returns plain data.

Models, images and losses are made from the arguments alone; nothing here knows which answer is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn

from amllab import backbones  # noqa: F401  (registers net12 and net6)
from amllab.checks.submission import Functions, attempt
from amllab.checks.transfer_learning.scripted import Batches, ScriptedModel
from amllab.numerics import fast_math


def _trainable(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _new_model(backbone: str, num_classes: int, seed: int) -> nn.Module:
    """A model with random weights and random BatchNorm statistics, none of them at the values models start with."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(backbone, num_classes=num_classes)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model


def freeze(functions: Functions, *, backbone: str, seed: int, calls: list[int]) -> list[dict[str, Any]]:
    """Calls ``freeze_layers`` on one model, once for each number of ``calls``.

    Returns for each call: ``error`` and ``message`` where it raised, else ``same_object``, ``trainable`` (names of
    parameters), ``changed`` (names of parameters and buffers whose values changed).
    """
    model = _new_model(backbone, 5, seed)
    answers = []
    for n_trainable in calls:
        before = _state(model)
        got = attempt(lambda n=n_trainable: functions.freeze_layers(model, n))  # type: ignore[misc]
        if "error" in got:
            answers.append(got)
            continue
        after = model.state_dict()
        changed = [name for name in before if name not in after or not torch.equal(before[name], after[name])]
        answers.append({"same_object": got["value"] is model, "trainable": _trainable(model), "changed": changed})
    return answers


@contextmanager
def _freezing_by_name(functions: Functions, trainable: list[str] | None) -> Iterator[None]:
    """Replaces the notebook's ``freeze_layers`` by one that sets the given parameters trainable and all others not.

    What another exercise is about is then judged by itself, whatever became of this one.
    """
    if trainable is None:
        yield
        return

    def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trainable)
        return model

    own = functions.namespace.get("freeze_layers")
    functions.namespace["freeze_layers"] = freeze_layers
    try:
        yield
    finally:
        if own is None:
            del functions.namespace["freeze_layers"]
        else:
            functions.namespace["freeze_layers"] = own


def build(
    functions: Functions,
    *,
    backbone: str,
    num_classes: int,
    n_trainable: int,
    seed: int,
    freezing: list[str] | None = None,
    with_state: bool = False,
) -> dict[str, Any]:
    """Calls ``build_transfer_model`` once.

    Returns ``error`` and ``message`` where it raised; else ``is_model``, ``output`` (shape of the logits of two images),
    ``trainable``, and on demand ``state`` (all parameters and buffers).
    """
    torch.manual_seed(seed)
    with _freezing_by_name(functions, freezing):
        got = attempt(lambda: functions.build_transfer_model(backbone, num_classes, n_trainable))
    if "error" in got:
        return got
    model = got["value"]
    if not isinstance(model, nn.Module):
        return {"is_model": False, "type": type(model).__name__}
    model.eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 32, 32))
    state = dict(model.state_dict()) if with_state else {}
    return {"is_model": True, "output": list(logits.shape), "trainable": _trainable(model), "state": state}


def build_twice(functions: Functions, *, backbone: str, num_classes: int, freezing: list[str]) -> dict[str, Any]:
    """Builds two models and changes every tensor of the second.

    Returns ``same_object``, ``shared`` (names of tensors of the first that lie in memory of the second), ``moved`` (names whose values in
    the first changed with the second) and ``heads``: the classifier weights of both as they were built.
    """
    with _freezing_by_name(functions, freezing):
        torch.manual_seed(1)
        first = functions.build_transfer_model(backbone, num_classes, 1)
        torch.manual_seed(2)
        second = functions.build_transfer_model(backbone, num_classes, 1)
    heads = [model.get_classifier().weight.detach().clone() for model in (first, second)]
    before = _state(first)
    storages = {value.untyped_storage().data_ptr() for value in second.state_dict().values()}
    shared = [n for n, v in first.state_dict().items() if v.numel() and v.untyped_storage().data_ptr() in storages]
    with torch.no_grad():
        for value in second.state_dict().values():
            value.add_(1)
    moved = [name for name, value in first.state_dict().items() if not torch.equal(value, before[name])]
    return {"same_object": first is second, "shared": shared, "moved": moved, "heads": heads}


def train_scripted(functions: Functions, *, script: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Calls ``train_with_early_stopping`` on a model whose losses are laid down in ``script``.

    Returns ``error`` and ``message`` where it raised; else ``history`` (what it returned, with the types of its values),
    ``model`` (what the model recorded, see ``ScriptedModel.record``) and ``weights`` (per epoch, and at the end).
    """
    torch.manual_seed(0)
    model = ScriptedModel(script)
    train, val = Batches(script["train"]), Batches(script["val"])
    got = attempt(lambda: functions.train_with_early_stopping(model, train, val, **arguments))
    if "error" in got:
        return got
    return {"history": _plain_history(got["value"]), **model.record()}


def _plain_history(history: Any) -> dict[str, Any]:
    """The returned dictionary as plain data; ``types`` tells what each value is, as the contract asks for floats."""
    if not isinstance(history, dict):
        return {"type": type(history).__name__}
    values: dict[str, Any] = {}
    types: dict[str, str] = {}
    for key, value in history.items():
        is_list = isinstance(value, list)
        kinds = {type(item).__name__ for item in value} if is_list else {type(value).__name__}
        types[str(key)] = ("list of " if is_list else "") + "/".join(sorted(kinds))
        try:
            values[str(key)] = [float(item) for item in value] if is_list else float(value)
        except (TypeError, ValueError):
            values[str(key)] = None
    return {"type": "dict", "values": values, "types": types}


def train_frozen(
    functions: Functions, *, backbone: str, n_trainable: int, seed: int, freezing: list[str] | None, epochs: int = 2
) -> dict[str, Any]:
    """Freezes with ``freeze_layers``, trains with ``train_with_early_stopping`` on noise.

    Which parameters are frozen is read off the model, so that *which* layers were frozen plays no part here. A
    ``freeze_layers`` that cannot be called is replaced (``freezing``).

    Returns ``frozen`` (names of frozen parameters before training), ``before`` and ``after``: the tensors of every module
    whose own parameters were all frozen, and ``trained``: whether some trainable parameter moved.
    """
    model = _new_model(backbone, 5, seed)
    with _freezing_by_name(functions, freezing):
        functions.freeze_layers(model, n_trainable)
    frozen_modules = [
        (prefix, module)
        for prefix, module in model.named_modules()
        if (own := list(module.parameters(recurse=False))) and not any(p.requires_grad for p in own)
    ]
    names = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in frozen_modules
        for name in (*module._parameters, *module._buffers)
        if not name.endswith("num_batches_tracked")
    }
    before = _state(model)
    names &= before.keys()
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(48, 3, 32, 32, generator=generator) * 2 + 1
    labels = torch.randint(0, 5, (48,), generator=generator)
    batches = list(zip(images.split(16), labels.split(16), strict=True))
    functions.train_with_early_stopping(model, batches, batches[:1], max_epochs=epochs, patience=epochs)
    after = model.state_dict()
    rest = [name for name in before if name not in names and before[name].is_floating_point()]
    return {
        "frozen": sorted(names),
        "before": {name: before[name] for name in names},
        "after": {name: after[name].clone() for name in names if name in after},
        "trained": any(not torch.equal(before[name], after[name]) for name in rest),
    }


def fit(
    functions: Functions,
    *,
    train_images: Tensor,
    train_labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    test_images: Tensor,
    mean: list[float],
    std: list[float],
    backbone: str,
    num_classes: int,
    n_trainable: int,
    max_epochs: int,
    batch_size: int,
    seed: int,
    freezing: list[str],
) -> dict[str, Any]:
    """Builds with ``build_transfer_model``, trains with ``train_with_early_stopping``; ``freeze_layers`` is given.

    Images are uint8 ``(n, 3, h, w)``. Returns ``history``, and the logits ``(n, num_classes)`` of the trained model on the
    validation and the test images.
    """
    torch.manual_seed(seed)

    def normalised(images: Tensor) -> Tensor:
        m, s = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
        return ((images / 255 - m) / s).contiguous(memory_format=torch.channels_last)

    train = Batches(
        {"images": normalised(train_images), "labels": train_labels, "batch_size": batch_size, "shuffle_seed": seed}
    )
    val = Batches({"images": normalised(val_images), "labels": val_labels, "batch_size": 250})
    with fast_math(torch.device("cpu")):
        with _freezing_by_name(functions, freezing):
            model = functions.build_transfer_model(backbone, num_classes, n_trainable)
        history = functions.train_with_early_stopping(model, train, val, max_epochs=max_epochs, patience=max_epochs)
    model.eval()

    def logits(images: Tensor) -> Tensor:
        device = next(model.parameters()).device
        with torch.no_grad(), fast_math(torch.device("cpu")):
            return torch.cat([model(part.to(device)).float().cpu() for part in normalised(images).split(250)])

    return {"history": _plain_history(history), "val_logits": logits(val_images), "test_logits": logits(test_images)}
