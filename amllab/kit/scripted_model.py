"""A model whose losses are fixed in advance, so that early stopping can be checked to the exact epoch.

Every example carries its number in its "image". The model looks up its logits in the script for the current epoch. A
new epoch begins with the backward pass of a loss whose examples were already trained on in the current epoch. A loop
that validates twice in an epoch, or stores the validation batches in a list, sees the same losses. A pass over the
training set after an epoch, without gradients, sees other logits than the epoch itself.

The trainable parameter has a gradient but no effect on the loss: it enters as ``weight - weight.detach()``. An
optimizer that evaluates a batch several times before it continues does see the effect, from the second evaluation on: a
line search finds a way down.

The model logs every forward pass, and the gradient that reached the logits of every example. Knowing the losses of
epochs to come is no advantage: the grader computes these gradients itself, and counts the epochs in the log. Copies and
checkpoints of the model write into the same log.
"""

from __future__ import annotations

import itertools
import random
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amllab.kit.batches import Batches
from amllab.kit.scripts import CHANGES, CLASSES, FLOAT, INT, MAX_LOSS, how_changed, make_script

_STATES = 64  # at most, recorded of one training
# what a state was loaded into: another model, the model itself from its own tensors, the model itself from a copy
LOADS = ("other", "itself", "copy")


_stages: weakref.WeakValueDictionary[int, _Stage] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def _find_stage(number: int) -> _Stage:
    """Return the stage of a model that was read from a file."""
    return _stages[number]


class _Stage:
    """Script and log of a model, shared by copies of the model and models loaded from its checkpoints."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.script = script
        self.images = {False: script["train"]["images"], True: script["val"]["images"]}
        self.epoch = -1  # 0-based; -1 before the first backward pass
        self.seen: set[int] = set()  # examples of the current epoch
        self.last: list[int] = []  # examples of the last backward pass, until the next validation
        self.anchor: Tensor | None = None  # effect of the weight at the first evaluation of these examples
        self.pending: list[list[int]] = []  # passes with gradients that had no backward pass yet
        self.differentiated = False  # whether there was a backward pass since the last validation
        # last batch that a loader returned: whether it is of validation, and its examples
        self.given: tuple[bool, Tensor] = (False, torch.zeros(0, **INT))
        self.forwards: list[list[int]] = []
        self.examples: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.rows: list[list[float]] = []
        self.weights: list[list[float]] = []
        self.accumulated: list[Tensor] = []
        self.accumulated_after: list[int] = []
        self.states: dict[int, dict[str, Tensor]] = {}
        self.loads: list[int] = []  # loads since the last forward pass, see LOADS
        self.number = next(_numbers)
        _stages[self.number] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stage:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _find_stage, (self.number,)

    def note_given(self, is_val: bool, index: Tensor) -> None:
        """Record the batch that a loader returns."""
        self.given = (is_val, index)

    def read(self, x: Tensor) -> tuple[bool, Tensor, str]:
        """Return whether an input has validation images, their numbers, and how they were changed."""
        x = x.detach().float().cpu()
        is_val, given = self.given
        if x.ndim == 4 and x.shape[1] == 3 and x.numel():
            # the median identifies an image even if a part of it was erased
            kinds, numbers = (x[:, channel].flatten(1).median(1).values for channel in (0, 2))
            images = self.images[bool(kinds.mean() > 0.5)]
            index = numbers.round().long()
            if (numbers - index).abs().max() > 1e-3:  # mixed: their mean number is that of the batch
                index = torch.arange(len(x), **INT) + round(float(numbers.nan_to_num().mean()) - (len(x) - 1) / 2)
            if (kinds - kinds.round()).abs().max() < 1e-3 and index.min() >= 0 and index.max() < len(images):
                seen = images[index]
                return images is self.images[True], index, how_changed(seen, x)
        if len(given) != len(x):
            given = torch.arange(len(x), **INT) % len(self.images[is_val])
        return is_val, given, how_changed(self.images[is_val][given], x)

    def epoch_of(self, keys: list[int]) -> int:
        """Return the epoch that a pass with gradients belongs to."""
        begins = keys != self.last and (self.epoch < 0 or not self.seen.isdisjoint(keys))
        return self.epoch + 1 if begins else self.epoch

    def train_on(self, keys: list[int]) -> None:
        """Record a backward pass of the loss of these examples; ``-1 - number`` for validation examples."""
        if keys != self.last:
            epoch = self.epoch_of(keys)
            self.seen = set(keys) if epoch > self.epoch else self.seen | set(keys)
            self.epoch, self.last = epoch, keys

    def begin_validation(self) -> None:
        """Record the beginning of a validation; an epoch without any backward pass still counts as an epoch."""
        if self.pending and not self.differentiated:
            for keys in self.pending:
                self.train_on(keys)
        self.pending, self.differentiated, self.last = [], False, []

    def logits(self, table: str, epoch: int, examples: Tensor, device: torch.device) -> Tensor:
        """Return logits of examples from one of the script's tables; epochs after the last repeat it."""
        logits: Tensor = self.script[table]
        return logits[min(max(epoch, 0), len(logits) - 1)][examples].to(device)

    def note_gradient(self, keys: list[int], row: list[float], weight: list[float], gradient: Tensor) -> None:
        """Record a backward pass: ``gradient`` is that of the loss with respect to the logits of the examples."""
        again = keys == self.last
        self.train_on(keys)
        self.pending, self.differentiated = [], True
        self.examples.append(torch.tensor(keys, **INT))
        # copied, because gradients may be clipped, accumulated or cleared in place later
        self.gradients.append(gradient.detach().float().cpu().clone())
        self.rows.append([self.epoch, again, *row])
        self.weights.append(weight)

    def note_accumulated(self, parameter: Tensor) -> None:
        """Record the weight's ``grad`` after a backward pass has reached it."""
        self.accumulated.append(parameter.grad.detach().float().cpu().flatten().clone())
        self.accumulated_after.append(len(self.examples))


class ScriptedModel(nn.Module):
    """A model that returns the logits of its script.

    Args:
        script: The result of :func:`make_script`.
    """

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__()
        self.body = nn.Linear(2, 2, **FLOAT).requires_grad_(False)
        self.head = nn.Linear(2, CLASSES, bias=False, **FLOAT)
        self.steps: Tensor
        self.noise: Tensor
        self.register_buffer("steps", torch.zeros((), **INT))
        self.register_buffer("noise", torch.zeros(3, **FLOAT))
        self.load_state_dict(script["state"])
        self._stage = _Stage(script)
        self._own = id(self)
        self.head.weight.register_post_accumulate_grad_hook(self._stage.note_accumulated)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the groups for ``layers_of``: the body, then the head."""
        return {"stem": r"^(?!head)", "blocks": [(r"^head", None)]}

    def get_classifier(self) -> nn.Module:
        """Return the head, as timm's models do."""
        return self.head

    def load_state_dict(self, *arguments: Any, **more: Any) -> Any:
        """Load a state, as every module does, and log the call."""
        given = next(iter(arguments), more.get("state_dict"))
        value = given.get("head.weight") if isinstance(given, dict) else None
        same = isinstance(value, Tensor) and value.data_ptr() == self.head.weight.data_ptr()
        done = super().load_state_dict(*arguments, **more)
        if hasattr(self, "_stage"):
            self._stage.loads.append(LOADS.index("other" if id(self) != self._own else "itself" if same else "copy"))
        return done

    def follow(self, train: Batches, val: Batches) -> None:
        """Record what the loaders return, so that a batch can be identified even if its images were changed."""
        train.note, val.note = (_Noting(self._stage, is_val) for is_val in (False, True))

    def forward(self, x: Tensor) -> Tensor:
        """Record the call, and return the logits that the script has for these examples in this epoch."""
        stage = self._stage
        is_val, examples, changed = stage.read(x)
        keys = (-1 - examples if is_val else examples).tolist()
        with_gradients, learning = torch.is_grad_enabled(), self.head.training
        if is_val and not (with_gradients and learning):
            stage.begin_validation()
        epoch = stage.epoch_of(keys) if with_gradients and not is_val else stage.epoch
        again = keys == stage.last
        # eval mode must hold for all modules: one in train mode still updates statistics or applies dropout
        anything = any(module.training for module in self.modules())
        flags = [is_val, anything, learning, self.training, with_gradients, CHANGES.index(changed)]
        stage.forwards.append([*map(int, flags), len(x), epoch])
        stage.loads = []
        if learning:  # as in BatchNorm, every pass in train mode changes the buffers
            self.steps += 1
            self.noise += x.detach().float().mean() + 1
        known = stage.epoch in stage.states
        if is_val and (not known or not (with_gradients and learning)) and (known or len(stage.states) < _STATES):
            stage.states[max(stage.epoch, 0)] = self.tensors()
        like = next(self.head.parameters())
        effect = self.head(torch.ones(len(x), 2, dtype=like.dtype, device=like.device)).float().to(x.device)
        if again and with_gradients and stage.anchor is not None:
            moved = effect - stage.anchor.to(effect.device)
        else:
            moved = effect - effect.detach()
            if with_gradients and not is_val:
                stage.anchor = effect[:1].detach().clone()
        # a loss that falls without bound along the weight drives some optimizers to infinity, which must not affect the
        # script
        moved = torch.where(effect.isfinite(), moved, 0.0)
        table = "val_logits" if is_val else "train_logits" if with_gradients else "after_logits"
        logits = stage.logits(table, epoch, examples, x.device) + moved
        if logits.requires_grad:
            if not is_val:
                stage.pending.append(keys)
            # the script already has the figures of a first evaluation
            row = self._figures(logits, examples) if again and not is_val else [0.0, 0.0]
            weight = self.tensor("head.weight").flatten().tolist()
            logits.register_hook(lambda gradient: stage.note_gradient(keys, row, weight, gradient))
        return logits

    def why_idle(self, optimizer: torch.optim.Optimizer) -> str:
        """Return why a step that was taken cannot have moved the weight; empty if it can."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        own = {id(p) for p in self.parameters()}
        if not any(id(p) in own for p in held):
            return "other tensors"
        if any(p.grad is not None and bool(p.grad.any()) for p in held):
            return ""
        passes = sum(with_gradients and not is_val for is_val, *_, with_gradients, _, _, _ in self._stage.forwards)
        return "before the backward pass" if passes > len(self._stage.accumulated) else "gradients cleared"

    def _figures(self, logits: Tensor, examples: Tensor) -> list[float]:
        """Return the sum of the losses and the number of hits of a training batch, as the loop sees them."""
        labels = self._stage.script["train"]["labels"][examples]
        seen = logits.detach().float().cpu()
        loss = F.cross_entropy(seen, labels, reduction="sum")
        return [float(loss), float((seen.argmax(1) == labels).sum())]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as the model computes with it, however the layer is built.

        The layer may be parametrised, or a module that wraps the old one.
        """
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, Tensor):
            return value.detach().clone()
        like = next(self.head.parameters())
        with torch.no_grad():
            columns: Tensor = self.head(torch.eye(2, dtype=like.dtype, device=like.device))
        return columns.T.float().clone()

    def tensors(self) -> dict[str, Tensor]:
        """Return what the model contains, under its original names."""
        return {name: self.tensor(name) for name in ("head.weight", "steps", "noise")}

    @property
    def states(self) -> dict[int, dict[str, Tensor]]:
        """Copies of the model's weight and buffers at the last validation of each epoch, by epoch (0-based)."""
        return self._stage.states

    def record(self) -> dict[str, Any]:
        """Return the log; see ``probes.Trained``."""
        stage = self._stage

        def there(state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.cpu() for name, value in state.items()}

        return {
            "epochs": stage.epoch + 1,
            "forwards": torch.tensor(stage.forwards, **INT).reshape(-1, 8),
            "batches": [len(examples) for examples in stage.examples],
            "examples": torch.cat([torch.zeros(0, **INT), *stage.examples]),
            "gradients": torch.cat([torch.zeros(0, CLASSES, **FLOAT), *stage.gradients]),
            "rows": torch.tensor(stage.rows, **FLOAT).reshape(-1, 4),
            "weights": torch.tensor(stage.weights, **FLOAT).reshape(-1, 2 * CLASSES),
            "accumulated": torch.stack([torch.zeros(2 * CLASSES, **FLOAT), *stage.accumulated]),
            "accumulated_after": stage.accumulated_after,
            "states": [{"epoch": epoch, "state": there(state)} for epoch, state in sorted(stage.states.items())],
            "final": there(self.tensors()),
            "loads": stage.loads,
        }


class _Noting:
    """A callback that tells a stage what a loader returns."""

    def __init__(self, stage: _Stage, is_val: bool) -> None:
        self.stage, self.is_val = stage, is_val

    def __call__(self, index: Tensor) -> None:
        self.stage.note_given(self.is_val, index)


def scripted_training(
    val_losses: Sequence[float],
    *,
    train_sizes: Sequence[int] = (4, 4),
    val_sizes: Sequence[int] = (3, 3),
    seed: int = 0,
) -> tuple[ScriptedModel, Batches, Batches]:
    """Create a training whose validation losses are known in advance, to see how early stopping handles them.

    Whatever the optimizer does, the model's mean cross-entropy on the validation loader is ``val_losses[epoch]``. A new
    epoch begins when the model trains on an example that it has already trained on in the current epoch; epochs after
    the last repeat its loss. The model has one trainable weight, ``model.head.weight`` of shape ``(4, 2)``, a frozen
    layer ``model.body``, and buffers that change with every batch in train mode. ``model.states[epoch]`` is a copy of
    the weight and the buffers when the model was validated in that epoch. The model's logits of training images differ
    between epochs, and in passes without gradients after an epoch.

    There are 4 classes, and images have shape ``(3, 4, 4)``.

    Args:
        val_losses: One loss per epoch, between 0 and 40; NaN is allowed.
        train_sizes: Number of examples in each training batch.
        val_sizes: Number of examples in each validation batch.
        seed: Seed of labels, logits and weights.

    Returns:
        The model, in eval mode on the CPU, and the loaders ``train_loader`` and ``val_loader``: re-iterables of batches
        ``(images, labels)``, float32 and int64.

    Raises:
        ValueError: There are no losses, a loss is not between 0 and 40, or a batch is empty.

    >>> model, train_loader, val_loader = scripted_training([1.0, 0.9, 1.1])
    >>> [tuple(images.shape) for images, labels in val_loader]
    [(3, 3, 4, 4), (3, 3, 4, 4)]
    """
    if not len(val_losses) or any(loss < 0 or loss > MAX_LOSS for loss in val_losses):
        raise ValueError(f"val_losses needs a number between 0 and {MAX_LOSS} or NaN for each epoch; got {val_losses}")
    if min([*train_sizes, *val_sizes, len(train_sizes), len(val_sizes)]) < 1:
        raise ValueError(f"each loader needs batches of at least 1 example; got {train_sizes} and {val_sizes}")
    sizes = {"train_sizes": train_sizes, "val_sizes": val_sizes}
    script = make_script(val_losses, random.Random(seed), **sizes, train_varies=True)  # type: ignore[arg-type]
    model, train, val = ScriptedModel(script).eval(), Batches(script["train"]), Batches(script["val"])
    model.follow(train, val)
    return model, train, val
