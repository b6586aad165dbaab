"""Evaluation of a model: mean loss and accuracy, and predictions with their images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]


def evaluate(model: nn.Module, loader: Batches) -> dict[str, float]:
    """Return the mean cross-entropy and the accuracy of a model on the examples of ``loader``.

    The model runs in eval mode and without gradients, on its own device, and in the precision that the caller has
    set: float32, or that of an enclosing ``fast_math()``. Afterwards, each module is in the mode (train or eval) that
    it was in before. Means are over examples, not over batches, so that a smaller last batch does not count more.

    Args:
        model: module that returns logits ``(batch, num_classes)``.
        loader: iterable over batches: images, float ``(batch, 3, height, width)``, and labels, int64 ``(batch,)``.

    Returns:
        ``{"loss": float, "accuracy": float}``; the loss is in nats, the accuracy in [0, 1].

    Raises:
        ValueError: the loader is empty.

    >>> import torch, amllab
    >>> batch = torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    >>> sorted(amllab.evaluate(amllab.load_backbone("net6"), [batch]))
    ['accuracy', 'loss']
    """
    loss, correct, examples = 0.0, 0, 0
    with measuring(model):
        for logits, labels, _ in _outputs(model, loader):
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
            examples += len(labels)
    if examples == 0:
        raise ValueError("evaluate() needs at least one example, but the loader is empty")
    return {"loss": loss / examples, "accuracy": correct / examples}


def predict(model: nn.Module, loader: Batches) -> tuple[Tensor, Tensor, Tensor]:
    """Return the class probabilities, the label and the image of each example of ``loader``.

    The model runs as in :func:`evaluate`: in eval mode and without gradients; each module's mode is restored
    afterwards.

    Args:
        model: module that returns logits ``(batch, num_classes)``.
        loader: iterable over batches: images, float ``(batch, 3, height, width)``, and labels, int64 ``(batch,)``.

    Returns:
        Three tensors on the CPU: probabilities, float32 ``(n, num_classes)``; labels, int64 ``(n,)``; images, float32
        ``(n, 3, height, width)``, normalised as in the batches.

    Raises:
        ValueError: the loader is empty.
    """
    parts = []
    with measuring(model):
        for logits, labels, images in _outputs(model, loader):
            parts.append((logits.softmax(1).cpu(), labels.cpu(), images.float().cpu()))
    if not parts:
        raise ValueError("predict() needs at least one example, but the loader is empty")
    probabilities, labels, images = (torch.cat(part) for part in zip(*parts, strict=True))
    return probabilities, labels, images


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Set eval mode without gradients, then restore the mode of each module (frozen BatchNorm may be in eval mode)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Not inference_mode: tensors that a model stores during such a pass could not be used in training later.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _outputs(model: nn.Module, loader: Batches) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield logits in float32, labels and images of each non-empty batch, all on the device of the model."""
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    for images, labels in loader:
        if len(labels) == 0:
            continue
        images = images.to(device)
        if images.ndim == 4:  # faster for convolutions, on CPUs and GPUs
            images = images.contiguous(memory_format=torch.channels_last)
        with _caller_precision(device):
            logits = model(images)
        yield logits.float(), labels.to(device), images


def _caller_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the caller's autocast, if any, without its cache of weights.

    Within an autocast context, PyTorch caches the weights that it has cast, and keeps using them after an optimizer
    step has changed the weights: an old model would be evaluated.
    """
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.get_autocast_dtype(device.type), cache_enabled=False)
