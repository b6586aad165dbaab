"""A model whose losses are laid down beforehand, so that early stopping can be checked to the last epoch.

Every example carries its own logits in its "image". For training examples they are what the model returns. For
validation examples they are looked up in the script, for the epoch that the model is in; it counts epochs by the
training batches it has seen with gradients. A loop that validates twice an epoch, that measures the training loss in
a pass of its own, or that keeps the validation batches in a list, sees the same losses.

The trainable parameter has a gradient but no effect on the loss: it enters as ``weight - weight.detach()``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4
_TRAIN, _VAL = 0.0, 1.0


class Batches:
    """A re-iterable of ``(images, labels)``.

    Args:
        data: ``images`` float ``(n, ...)``, ``labels`` int64 ``(n,)``, and ``batch_size`` or ``sizes`` (of each batch);
            with ``shuffle_seed`` in another order each time.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.images, self.labels = data["images"], data["labels"]
        n, size = len(self.labels), data.get("batch_size", len(self.labels))
        self.sizes = data.get("sizes") or [size] * (n // size) + ([n % size] if n % size else [])
        seed = data.get("shuffle_seed")
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        for index in order.split(self.sizes):
            yield self.images[index], self.labels[index]


def make_script(
    val_losses: Sequence[float], rng: random.Random, *, train_sizes: Sequence[int], val_sizes: Sequence[int]
) -> dict[str, Any]:
    """Lays down a training run: its validation losses, and random logits behind them.

    Args:
        val_losses: mean cross-entropy of the validation examples in each epoch; NaN is allowed.
        rng: draws logits and labels.
        train_sizes, val_sizes: sizes of the batches.

    Returns:
        The script for :class:`ScriptedModel`, plain data: ``batches``, ``val_logits``, and under ``train`` and ``val`` what
        :class:`Batches` takes.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    n_train, n_val = sum(train_sizes), sum(val_sizes)
    train_labels, val_labels = (torch.randint(CLASSES, (n,), generator=generator) for n in (n_train, n_val))
    train_logits = torch.randn(n_train, CLASSES, generator=generator) * 2
    val_logits = [_logits_with_loss(loss, val_labels, generator) for loss in val_losses]
    train_images = torch.stack([image_of(_TRAIN, logits) for logits in train_logits])
    val_images = torch.stack([image_of(_VAL, torch.zeros(CLASSES)) for _ in range(n_val)])
    val_images[:, 2, 0, 0] = torch.arange(n_val)
    return {
        "batches": len(train_sizes),
        "val_logits": torch.stack(val_logits),
        "train": {"images": train_images, "labels": train_labels, "sizes": list(train_sizes)},
        "val": {"images": val_images, "labels": val_labels, "sizes": list(val_sizes)},
    }


def _logits_with_loss(loss: float, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Random logits ``(n, CLASSES)`` whose mean cross-entropy is ``loss``: the true class is shifted until it fits."""
    logits = torch.randn(len(labels), CLASSES, generator=generator, dtype=torch.float64)
    if loss != loss:
        return torch.full_like(logits, loss).float()
    true = F.one_hot(labels, CLASSES).double()
    low, high = -50.0, 50.0
    for _ in range(80):
        shift = (low + high) / 2
        too_high = F.cross_entropy(logits + shift * true, labels).item() > loss
        low, high = (shift, high) if too_high else (low, shift)
    return (logits + shift * true).float()


def image_of(kind: float, logits: Tensor) -> Tensor:
    """An "image" ``(3, 4, 4)`` that carries its kind and its logits ``(CLASSES,)``."""
    image = torch.zeros(3, 4, 4)
    image[0, 0, 0] = kind
    image[1, 0, :CLASSES] = logits
    return image


class ScriptedModel(nn.Module):
    """Returns the logits that its script lays down.

    Args:
        script: ``val_logits``, float ``(epochs, n_val, CLASSES)``: of each validation example in each epoch (the example's number stands in its
            image); ``batches``: number of training batches of an epoch.
    """

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__()
        self.val_logits, self.batches = script["val_logits"], script["batches"]
        self.head = nn.Linear(2, CLASSES, bias=False)
        self.body = nn.Linear(2, 2).requires_grad_(False)
        self.steps: Tensor
        self.noise: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("noise", torch.zeros(3))
        self._seen = 0
        self._initial_body = self.body.weight.detach().clone()
        self._epochs: dict[int, dict[str, Tensor]] = {}
        self._gradients: list[float] = []
        self._facts: dict[str, Any] = {
            "train_batches_in_eval_mode": 0,
            "train_batches_in_train_mode": 0,
            "val_batches_in_train_mode": 0,
            "val_batches_in_eval_mode": 0,
            "val_batches_with_gradients": 0,
        }
        self.head.weight.register_post_accumulate_grad_hook(self._note_gradient)

    def _note_gradient(self, parameter: Tensor) -> None:
        self._gradients.append(float(parameter.grad.norm()))  # type: ignore[union-attr]

    @property
    def epoch(self) -> int:
        """0-based: the epoch of the training batch seen last; -1 before the first."""
        return (self._seen - 1) // self.batches

    def forward(self, x: Tensor) -> Tensor:
        is_val = bool((x[:, 0, 0, 0] == _VAL).all())
        mode = "train" if self.training else "eval"
        self._facts[f"{'val' if is_val else 'train'}_batches_in_{mode}_mode"] += 1
        if is_val and torch.is_grad_enabled():
            self._facts["val_batches_with_gradients"] += 1
        if not is_val and torch.is_grad_enabled():
            self._seen += 1
        if self.training:  # as BatchNorm does: whatever passes in train mode moves the buffers
            self.steps += 1
            self.noise += x[:, 1, 0, :3].detach().mean(0) + 1
        if is_val:
            epoch = min(max(self.epoch, 0), len(self.val_logits) - 1)
            logits = self.val_logits[epoch][x[:, 2, 0, 0].long()]
            self._epochs[self.epoch] = {name: value.clone() for name, value in self.state_dict().items()}
        else:
            logits = x[:, 1, 0, :CLASSES]
        effect = self.head(torch.ones(len(x), 2, device=x.device))
        return logits + (effect - effect.detach())

    def record(self) -> dict[str, Any]:
        """What was seen: counts of batches by mode, norms of gradients, the state after each epoch and at the end."""
        epochs = [{"epoch": epoch, **state} for epoch, state in sorted(self._epochs.items())]
        return {
            "facts": self._facts,
            "gradients": self._gradients,
            "epochs": epochs,
            "final": dict(self.state_dict()),
            "trainable": [name for name, p in self.named_parameters() if p.requires_grad],
            "frozen_moved": bool((self.body.weight != self._initial_body).any()),
        }
