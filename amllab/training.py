"""Measuring a model: mean loss and accuracy, and predictions with the images they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]


def evaluate(model: nn.Module, loader: Batches) -> dict[str, float]:
    """Mean cross-entropy and accuracy over the examples of ``loader``, in eval mode and without gradients.

    Means are over examples, not over batches, so that a smaller last batch does not weigh more. The model runs on its
    own device and in the precision that the caller has set: float32, or that of a surrounding ``fast_math()``.
    Afterwards every module is back in the mode, train or eval, that it was in before.

    Args:
        model: gives logits ``(batch, num_classes)``.
        loader: batches of images ``(batch, 3, height, width)`` float and labels ``(batch,)`` int64.

    Returns:
        ``{"loss": float, "accuracy": float}``; the loss in nats, the accuracy in [0, 1].

    Raises:
        ValueError: the loader is empty.

    >>> import torch, amllab
    >>> batch = torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    >>> sorted(amllab.evaluate(amllab.load_backbone("net6"), [batch]))
    ['accuracy', 'loss']
    """
    loss, correct, examples = 0.0, 0, 0
    with _measuring(model):
        for logits, labels, _ in _outputs(model, loader):
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
            examples += len(labels)
    if examples == 0:
        raise ValueError("evaluate() needs at least one example, but the loader is empty")
    return {"loss": loss / examples, "accuracy": correct / examples}


def predict(model: nn.Module, loader: Batches) -> tuple[Tensor, Tensor, Tensor]:
    """Class probabilities of every example of ``loader``, with its label and its image.

    Runs like :func:`evaluate` and takes the same arguments.

    Returns:
        On the CPU: probabilities ``(n, num_classes)`` float32, labels ``(n,)`` int64, and images
        ``(n, 3, height, width)`` float32, normalised as the loader gives them.

    Raises:
        ValueError: the loader is empty.
    """
    parts = []
    with _measuring(model):
        for logits, labels, images in _outputs(model, loader):
            parts.append((logits.softmax(1).cpu(), labels.cpu(), images.float().cpu()))
    if not parts:
        raise ValueError("predict() needs at least one example, but the loader is empty")
    probabilities, labels, images = (torch.cat(part) for part in zip(*parts, strict=True))
    return probabilities, labels, images


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; each module gets its own mode back, frozen BatchNorm in eval mode included."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Not inference_mode: what a model keeps of such a pass could not take part in training later.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _outputs(model: nn.Module, loader: Batches) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Logits in float32, labels and images of each batch that is not empty, all on the device of the model."""
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    for images, labels in loader:
        if len(labels) == 0:
            continue
        images = images.to(device)
        if images.ndim == 4:  # convolutions are faster so on CPUs and GPUs alike
            images = images.contiguous(memory_format=torch.channels_last)
        with _caller_precision(device):
            logits = model(images)
        yield logits.float(), labels.to(device), images


def _caller_precision(device: torch.device) -> AbstractContextManager[object]:
    """The caller's autocast, if any, with weights cast afresh.

    Within one autocast context PyTorch keeps the weights that it has cast, and would go on using them after an
    optimizer step has changed the weights: the model measured would be an old one.
    """
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.get_autocast_dtype(device.type), cache_enabled=False)
