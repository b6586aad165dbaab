"""A model whose losses are laid down beforehand, so that early stopping can be checked to the last epoch.

Every example carries its number in its "image", a training example its logits as well. For validation examples the logits
are looked up in the script, for the epoch that the model is in; it counts epochs by the training examples whose loss has been
differentiated. A loop that validates twice an epoch, that measures the training loss in a pass of its own, or that keeps the
validation batches in a list, sees the same losses; so does an optimizer that looks several times at a batch before it goes on.

The trainable parameter has a gradient but no effect on the loss: it enters as ``weight - weight.detach()``.

The model keeps a journal: every forward pass, and the gradient that came back to the logits of every example. Who knows the
losses of epochs to come has won nothing: the judge computes those gradients itself, and believes a history only where the
journal shows as many epochs of training and validation as the history has entries.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 4
_TRAIN, _VAL = 0.0, 1.0
_MAX_LOSS = 40  # of a script: what logits of float32 reach with ease


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
        self.given = 0  # batches so far

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        for index in order.split(self.sizes):
            self.given += 1
            yield self.images[index], self.labels[index]


def make_script(
    val_losses: Sequence[float],
    rng: random.Random,
    *,
    train_sizes: Sequence[int],
    val_sizes: Sequence[int],
    in_each_batch: bool = False,
) -> dict[str, Any]:
    """Lays down a training run: its validation losses, and random logits behind them.

    Args:
        val_losses: mean cross-entropy of the validation examples in each epoch; NaN is allowed.
        rng: draws logits and labels.
        train_sizes, val_sizes: sizes of the batches.
        in_each_batch: whether each validation batch has the mean cross-entropy of its epoch, and not only all together.

    Returns:
        The script for :class:`ScriptedModel`, plain data: ``state`` (the model's at the start), ``val_logits`` float
        ``(epochs, n_val, CLASSES)``, and under ``train`` and ``val`` what :class:`Batches` takes.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    n_train, n_val = sum(train_sizes), sum(val_sizes)
    train_labels, val_labels = (torch.randint(CLASSES, (n,), generator=generator) for n in (n_train, n_val))
    train_logits = torch.randn(n_train, CLASSES, generator=generator) * 2
    parts = val_labels.split(list(val_sizes)) if in_each_batch else [val_labels]
    # the same logits for the same loss: what is equal on paper is equal in every digit
    by_loss = {
        loss: torch.cat([_logits_with_loss(loss, part, generator) for part in parts])
        for loss in dict.fromkeys(val_losses)
    }
    val_logits = [by_loss[loss] for loss in val_losses]
    train_images = torch.stack([image_of(_TRAIN, i, logits) for i, logits in enumerate(train_logits)])
    val_images = torch.stack([image_of(_VAL, i, torch.zeros(CLASSES)) for i in range(n_val)])
    weights = {"head.weight": (CLASSES, 2), "body.weight": (2, 2), "body.bias": (2,)}
    state = {name: torch.randn(shape, generator=generator) / 2 for name, shape in weights.items()}
    return {
        "state": {**state, "steps": torch.zeros((), dtype=torch.int64), "noise": torch.zeros(3)},
        "val_logits": torch.stack(val_logits),
        "train": {"images": train_images, "labels": train_labels, "sizes": list(train_sizes)},
        "val": {"images": val_images, "labels": val_labels, "sizes": list(val_sizes)},
    }


def _logits_with_loss(loss: float, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Random logits ``(n, CLASSES)`` whose mean cross-entropy is ``loss``: the true class is shifted until it fits."""
    logits = torch.randn(len(labels), CLASSES, generator=generator, dtype=torch.float64)
    if loss != loss:
        return torch.full_like(logits, loss).float()
    loss = max(loss, 1e-20)
    true = F.one_hot(labels, CLASSES).bool()
    # an example's cross-entropy is softplus(margin - shift), its margin by how much the other classes exceed the true one
    margins = (logits.masked_fill(true, -math.inf).logsumexp(1) - logits[true]).numpy()
    # Newton's method, from where no example's loss is below the mean: convex and falling, so that it never overshoots
    shift = margins.min() - math.log(math.expm1(loss))
    for _ in range(40):  # to a ten-billionth; what follows is float32
        excess = np.logaddexp(0, margins - shift).mean() - loss
        if excess < 1e-10 * loss:
            break
        shift += excess / np.exp(-np.logaddexp(0, shift - margins)).mean()
    return (logits + shift * true).float()


def image_of(kind: float, number: int, logits: Tensor) -> Tensor:
    """An "image" ``(3, 4, 4)`` that carries its kind, its number and its logits ``(CLASSES,)``."""
    image = torch.zeros(3, 4, 4)
    image[0, 0, 0] = kind
    image[1, 0, :CLASSES] = logits
    image[2, 0, 0] = number
    return image


class _Stage:
    """Script and journal of a model. Copies of the model play on the same stage, one that was saved to a file on none."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.val_logits, self.n_train = script["val_logits"], len(script["train"]["labels"])
        self.trained = 0
        self.last: list[int] = []  # training examples that were differentiated last, unless a validation followed
        self.forwards: list[list[int]] = []
        self.examples: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.accumulated: list[float] = []
        self.accumulated_after: list[int] = []
        self.states: dict[int, dict[str, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stage:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Stage, ({"val_logits": torch.zeros(1, 0, CLASSES), "train": {"labels": [0]}},)

    @property
    def epoch(self) -> int:
        """0-based: the epoch of the training example that was differentiated last; -1 before the first."""
        return (self.trained - 1) // self.n_train

    def logits(self, examples: Tensor) -> Tensor:
        """Of validation examples, in the present epoch."""
        epoch = min(max(self.epoch, 0), len(self.val_logits) - 1)
        return self.val_logits[epoch][examples.cpu()].to(examples.device)

    def note_gradient(self, examples: Tensor, is_val: bool, gradient: Tensor) -> None:
        """A loss was differentiated: ``gradient`` is that with respect to the logits of ``examples``."""
        if not is_val:
            again, self.last = examples.tolist() == self.last, examples.tolist()
            self.trained += 0 if again else len(examples)
        self.examples.append(-1 - examples.cpu() if is_val else examples.cpu())
        self.gradients.append(gradient.detach().float().cpu())

    def note_accumulated(self, parameter: Tensor) -> None:
        """A backward pass has reached the weight."""
        self.accumulated.append(float(parameter.grad.norm()))
        self.accumulated_after.append(len(self.examples))


class ScriptedModel(nn.Module):
    """Returns the logits that its script lays down.

    Args:
        script: what :func:`make_script` makes.
    """

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__()
        self.head = nn.Linear(2, CLASSES, bias=False, dtype=torch.float32)
        self.body = nn.Linear(2, 2, dtype=torch.float32).requires_grad_(False)
        self.steps: Tensor
        self.noise: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("noise", torch.zeros(3, dtype=torch.float32))
        self.load_state_dict(script["state"])
        self._stage = _Stage(script)
        self.head.weight.register_post_accumulate_grad_hook(self._stage.note_accumulated)

    def forward(self, x: Tensor) -> Tensor:
        stage = self._stage
        is_val = bool((x[:, 0, 0, 0] == _VAL).all())
        examples = x[:, 2, 0, 0].long()
        # eval mode is that of all modules: one that is left behind goes on learning statistics, or dropping out
        training = any(module.training for module in self.modules()) if is_val else self.training
        stage.forwards.append([is_val, training, torch.is_grad_enabled(), len(x), stage.epoch])
        if self.training:  # as BatchNorm does: whatever passes in train mode moves the buffers
            self.steps += 1
            self.noise += x[:, 1, 0, :3].detach().mean(0) + 1
        if is_val:
            stage.last = []
            stage.states[stage.epoch] = {name: value.clone() for name, value in self.state_dict().items()}
        effect = self.head(torch.ones(len(x), 2, dtype=torch.float32, device=x.device))
        # a loss that falls without end along the weight takes some optimizers to infinity: that must not spoil the script
        nothing = torch.where(effect.isfinite(), effect - effect.detach(), 0.0)
        logits = (stage.logits(examples) if is_val else x[:, 1, 0, :CLASSES]) + nothing
        if logits.requires_grad:
            logits.register_hook(lambda gradient: stage.note_gradient(examples, is_val, gradient))
        return logits

    @property
    def states(self) -> dict[int, dict[str, Tensor]]:
        """From each epoch (0-based) to a copy of the model's ``state_dict()`` when it was last validated in it."""
        return self._stage.states

    def record(self) -> dict[str, Any]:
        """The journal; see ``probes.Trained``."""
        stage = self._stage
        return {
            "forwards": torch.tensor(stage.forwards, dtype=torch.int64).reshape(-1, 5),
            "batches": [len(examples) for examples in stage.examples],
            "examples": torch.cat([torch.zeros(0, dtype=torch.int64), *stage.examples]),
            "gradients": torch.cat([torch.zeros(0, CLASSES, dtype=torch.float32), *stage.gradients]),
            "accumulated": stage.accumulated,
            "accumulated_after": stage.accumulated_after,
            "epochs": [{"epoch": epoch, "state": state} for epoch, state in sorted(stage.states.items())],
            "final": dict(self.state_dict()),
            "trainable": [name for name, p in self.named_parameters() if p.requires_grad],
        }


def scripted_training(
    val_losses: Sequence[float],
    *,
    train_sizes: Sequence[int] = (4, 4),
    val_sizes: Sequence[int] = (3, 3),
    seed: int = 0,
) -> tuple[ScriptedModel, Batches, Batches]:
    """A training whose validation losses are known beforehand: to see what a loop with early stopping makes of them.

    Whatever the optimizer does, the model's mean cross-entropy on the validation loader is ``val_losses[epoch]``. The epoch
    counts up with the training examples whose loss was differentiated (once, for a batch that is looked at several times in a row); epochs behind the last repeat its loss. The model has
    one trainable weight, ``model.head.weight`` of shape ``(4, 2)``, a frozen layer ``model.body``, and buffers that move
    with every batch in train mode. ``model.states[epoch]`` is its ``state_dict()`` when it was validated in that epoch.

    Args:
        val_losses: one for each epoch, between 0 and 40; NaN is allowed.
        train_sizes, val_sizes: number of examples in each batch. There are 4 classes, and images have shape ``(3, 4, 4)``.
        seed: of labels, logits and weights.

    Returns:
        The model, in eval mode on the CPU, and the loaders ``train_loader`` and ``val_loader``: re-iterables of batches
        ``(images, labels)``, float32 and int64.

    Raises:
        ValueError: no losses, a loss that no cross-entropy can have, or an empty batch.

    >>> model, train_loader, val_loader = scripted_training([1.0, 0.9, 1.1])
    >>> [tuple(images.shape) for images, labels in val_loader]
    [(3, 3, 4, 4), (3, 3, 4, 4)]
    """
    if not len(val_losses) or any(loss < 0 or loss > _MAX_LOSS for loss in val_losses):
        raise ValueError(f"val_losses needs a number between 0 and {_MAX_LOSS} or NaN for each epoch; got {val_losses}")
    if min([*train_sizes, *val_sizes, len(train_sizes), len(val_sizes)]) < 1:
        raise ValueError(f"each loader needs batches of at least 1 example; got {train_sizes} and {val_sizes}")
    script = make_script(val_losses, random.Random(seed), train_sizes=train_sizes, val_sizes=val_sizes)
    return ScriptedModel(script).eval(), Batches(script["train"]), Batches(script["val"])
