"""The log of a training of the scripted model: what happened in it, whatever the training returned."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from amllab.kit.scripts import CHANGES, CLASSES
from amllab.kit.state_dicts import near
from amllab.protocol.failure import expect


class Journal:
    """The log in an answer of ``train_scripted``, with what the grader itself can compute from it.

    Args:
        script: Script of the question.
        got: The answer; fails the check unless its parts are consistent.

    Attributes:
        epochs: Number of epochs that were trained.
        batches: Examples of each backward pass, in order; ``-1 - number`` for validation examples.
        gradients: Gradients with respect to the logits of each of these batches.
        epoch_of: Epoch of each of these batches.
        again: Whether each of these batches is the previous one again.
        states: Weight and buffers at the last validation of each epoch.
        final: Weight and buffers at the end.
        is_val, any_training, head_training, root_training, with_gradients, changed, images, epoch: The columns of
            ``forwards``, with one entry per forward pass.
        how_changed: How most of the changed images were changed, an entry of ``scripted.CHANGES``; empty if none were.
    """

    def __init__(self, script: dict[str, Any], got: dict[str, Any]) -> None:
        self.script, self.got = script, got
        sizes, after, forwards = got["batches"], got["accumulated_after"], got["forwards"]
        n_val, n_train = len(script["val"]["labels"]), len(script["train"]["labels"])
        fits = (
            forwards.shape[1] == 8
            and got["gradients"].shape == (len(got["examples"]), CLASSES)
            and min(sizes, default=1) > 0
            and sum(sizes) == len(got["examples"])
            and got["rows"].shape == (len(sizes), 4)
            and got["weights"].shape == (len(sizes), 2 * CLASSES)
            and bool(((got["examples"] < n_train) & (got["examples"] >= -n_val)).all())
            and got["accumulated"].shape == (len(after) + 1, 2 * CLASSES)
            and all(a < b for a, b in pairwise([0, *after, len(sizes) + 1]))
            and 0 <= got["epochs"] <= len(forwards)
            and all(_complete(script["state"], state) for state in [got["final"], *(e["state"] for e in got["states"])])
        )
        expect(
            fits,
            expected="a journal of the training",
            seen="one whose parts do not fit together",
            why="a training is known by its passes over both loaders",
            symptom="journal that does not fit together",
        )
        self.epochs: int = got["epochs"]
        self.batches = got["examples"].split(sizes) if sizes else ()
        self.gradients = got["gradients"].split(sizes) if sizes else ()
        self.epoch_of = [int(e) for e in got["rows"][:, 0].nan_to_num(-1).tolist()]
        self.again = [bool(a) for a in got["rows"][:, 1].tolist()]
        columns = [forwards[:, i] for i in range(8)]
        flags = [column != 0 for column in columns[:6]]
        self.is_val, self.any_training, self.head_training, self.root_training, self.with_gradients, self.changed = (
            flags
        )
        self.images, self.epoch = columns[6:]
        codes = columns[5][self.changed].long().clamp(1, len(CHANGES) - 1).tolist()
        self.how_changed = CHANGES[max(codes, key=codes.count)] if codes else ""
        self.states: dict[int, dict[str, Tensor]] = {entry["epoch"]: entry["state"] for entry in got["states"]}
        self.final: dict[str, Tensor] = got["final"]

    @cached_property
    def first_looks(self) -> list[int]:
        """Indices of the batches of training examples that come for the first time, and not again for the same step."""
        return [i for i, part in enumerate(self.batches) if not self.again[i] and bool((part >= 0).all())]

    @property
    def passes_per_batch(self) -> float:
        """Mean number of backward passes per batch; 1 if there were none."""
        return len(self.batches) / max(len(self.batches) - sum(self.again), 1) if self.batches else 1.0

    def trained_on(self, epoch: int) -> Tensor:
        """Return the training examples that had a backward pass in an epoch, sorted."""
        parts = [self.batches[i] for i in self.first_looks if self.epoch_of[i] == epoch]
        return torch.cat([torch.zeros(0, dtype=torch.int64, device="cpu"), *parts]).sort().values

    @property
    def trained(self) -> list[int]:
        """Number of training examples that had a backward pass in each epoch; at least one entry."""
        return [len(self.trained_on(epoch)) for epoch in range(max(self.epochs, 1))]

    def count(self, chosen: Tensor) -> int:
        """Return the number of images in the chosen forward passes."""
        return int(self.images[chosen].sum())

    def restored(self) -> dict[str, list[int]]:
        """Return the epochs whose validated weight, and whose buffers, the model ends with.

        Up to rounding, as a weight that was computed from parts.
        """
        kinds = {"weights": ("head.weight",), "buffers": ("steps", "noise")}
        return {
            kind: [
                e
                for e, s in sorted(self.states.items())
                if all(near(s[n], self.final[n], rtol=1e-6, atol=1e-7) for n in names)
            ]
            for kind, names in kinds.items()
        }

    def moved(self) -> dict[int, list[bool]]:
        """Return, for each batch of each epoch, whether the weight has changed when the next batch comes.

        A batch that went through the model in parts is one batch.
        """
        weights, found = self.got["weights"], dict[int, list[bool]]()
        for a, b in pairwise(self.first_looks):
            if self.epoch_of[a] != self.epoch_of[b] or self._given_with(a) != self._given_with(b):
                found.setdefault(self.epoch_of[a], []).append(not torch.equal(weights[a], weights[b]))
        return found

    def _given_with(self, i: int) -> int:
        """Return which batch of the loader the examples belong to: the loaders of scripted models do not shuffle."""
        ends = torch.tensor(self.script["train"]["sizes"], device="cpu").cumsum(0)
        return int(torch.searchsorted(ends, self.batches[i][0], right=True))

    def first_trial(self) -> float:
        """Return how far the weight moved between the first two passes of one batch; 0 if each has only one pass."""
        weights = self.got["weights"]
        return next((float((weights[i] - weights[i - 1]).norm()) for i, again in enumerate(self.again) if again), 0.0)

    def labels(self, part: Tensor) -> Tensor:
        """Return the labels of training examples."""
        labels: Tensor = self.script["train"]["labels"]
        return labels[part]

    def logits(self, i: int) -> Tensor:
        """Return the scripted logits of a batch of training examples that comes for the first time."""
        table: Tensor = self.script["train_logits"]
        return table[min(max(self.epoch_of[i], 0), len(table) - 1)][self.batches[i]]


def _complete(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    return all(name in state and state[name].shape == wanted[name].shape for name in ("head.weight", "steps", "noise"))
