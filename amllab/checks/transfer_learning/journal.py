"""Whether a training of the scripted model happened as its history says: read off the journal that the model kept."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks import expect
from amllab.checks.transfer_learning.scripted import CLASSES

_WHY = "a history is a record of what was trained: it has to come from passes over both loaders, in every epoch"


class Journal:
    """The journal in an answer of ``train_scripted``, with what the judge can compute of it itself.

    Args:
        script: of the question.
        got: the answer; fails the check unless its parts fit together.

    Attributes:
        examples, gradients: as in ``probes.Trained``.
        once: the examples, of several looks at a batch in a row the first one alone.
        looks: mean number of looks at a batch.
        is_val, train_mode, with_gradients, images, epoch: of each forward pass.
    """

    def __init__(self, script: dict[str, Any], got: dict[str, Any]) -> None:
        self.script, self.got = script, got
        self.labels: Tensor = script["train"]["labels"]
        self.examples, self.gradients = got["examples"], got["gradients"]
        batches, after = got["batches"], got["accumulated_after"]
        fits = (
            got["forwards"].shape[1] == 5
            and self.gradients.shape == (len(self.examples), CLASSES)
            and min(batches, default=1) > 0
            and sum(batches) == len(self.examples)
            and bool((self.examples < len(self.labels)).all())
            and len(got["accumulated"]) == len(after)
            and all(a < b for a, b in pairwise([0, *after, len(batches) + 1]))
        )
        expect(
            fits,
            expected="a journal of the training",
            seen="one whose parts do not fit together",
            why=_WHY,
            symptom="journal that does not fit together",
        )
        parts = self.examples.split(batches) if batches else ()
        # the same batch again: an optimizer that needs more than one look at it. Of a loader with a single batch, each look
        # is an epoch
        several = len(script["train"]["sizes"]) > 1
        new = [i == 0 or not (several and torch.equal(part, parts[i - 1])) for i, part in enumerate(parts)]
        self.once = torch.cat([self.examples[:0], *(part for part, is_new in zip(parts, new, strict=True) if is_new)])
        self.looks = len(parts) / max(sum(new), 1)
        self.is_val, self.train_mode, self.with_gradients = (got["forwards"][:, i] != 0 for i in range(3))
        self.images, self.epoch = got["forwards"][:, 3], got["forwards"][:, 4]

    def count(self, chosen: Tensor) -> int:
        """Number of images in the chosen forward passes."""
        return int(self.images[chosen].sum())

    def states(self) -> dict[int, dict[str, Tensor]]:
        """The model's state in each epoch that was validated."""
        return {epoch["epoch"]: epoch["state"] for epoch in self.got["epochs"]}

    def own_norms(self) -> list[float]:
        """What the norm of the weight's gradient is in each backward pass, where nothing was there before."""
        ends = [0, *self.got["accumulated_after"]]
        batches = self.gradients.split(self.got["batches"])
        # the weight enters the logits twice, as the same sum
        return [(torch.cat(batches[a:b]).sum(0).norm() * 2**0.5).item() for a, b in pairwise(ends)]

    def recognised(self) -> Tensor:
        """Of each training example, whether the model is all but sure of its label."""
        logits = self.script["train"]["images"][:, 1, 0, :CLASSES]
        return logits.softmax(1).gather(1, self.labels[:, None])[:, 0] > 0.9

    def wanted_gradients(self) -> Tensor:
        """Of cross-entropy, summed over examples, with respect to the logits of each training example of the journal."""
        logits = self.script["train"]["images"][:, 1, 0, :CLASSES]
        by_example = logits.softmax(1) - F.one_hot(self.labels, CLASSES)
        return by_example[self.examples]


def believe(script: dict[str, Any], got: dict[str, Any], epochs: int) -> Journal:
    """Fails the check unless the journal shows ``epochs`` epochs of training and validation.

    Says nothing of how well it was done (modes, gradients that pile up, weights that stay): other checks look at that.
    """
    journal = Journal(script, got)
    n_train, n_val, most = len(journal.labels), len(script["val"]["labels"]), len(script["val_logits"])
    examples, once = (numbers[numbers >= 0] for numbers in (journal.examples, journal.once))
    history = f"a history of {epochs} {'epoch' if epochs == 1 else 'epochs'}"
    # one epoch too many is charged where max_epochs is checked
    whole = 1 <= epochs <= most + 1 and len(once) == epochs * n_train
    expect(
        whole and bool((once.reshape(epochs, n_train).sort(1).values == torch.arange(n_train)).all()),
        expected=f"{history}, and the loss of each training example differentiated once in each of them",
        seen=f"{history}, but the model saw training batches of {len(once) / n_train:.3g} epochs",
        why=_WHY,
        symptom=_untrained(len(once), epochs * n_train, most * n_train),
    )
    gradients, labels = journal.gradients[journal.examples >= 0], journal.labels[examples]
    rising = gradients.argmin(1) == labels
    expect(
        # whatever the reduction or the weights of classes: the loss falls when the logit of the label rises. An example that
        # is recognised as it is decides nothing: where labels are smoothed, it is pushed back
        bool(gradients.isfinite().all() and (rising | journal.recognised()[examples]).all()),
        expected="gradients that raise the logit of the label of each training example",
        seen=_misdirected(gradients, labels),
        why="training goes down the gradient of the cross-entropy",
        symptom=_misdirected(gradients, labels),
    )
    validated = [journal.count(journal.is_val & (journal.epoch == epoch)) >= n_val for epoch in range(epochs)]
    states = journal.states()
    missing = [e for e in range(epochs) if not _complete(script["state"], states.get(e, {}))]
    expect(
        all(validated) and not missing and _complete(script["state"], got["final"]),
        expected=f"{history}, and all {n_val} validation images seen in each of them",
        seen=f"{history}, but the model saw the validation images in {sum(validated) - len(missing)} of them",
        why=_WHY,
        symptom="not validated" if not journal.is_val.any() else "validation images left out",
    )
    return journal


def _untrained(seen: int, wanted: int, most: int) -> str:
    """How the number of differentiated examples differs from what the history tells, or from what there can be."""
    if not seen:
        return "nothing differentiated"
    if seen == wanted > most:
        return "more epochs than asked for"
    if seen == wanted:
        return "training examples left out"
    return "fewer training passes than epochs" if seen < wanted else "more training passes than epochs"


def _misdirected(gradients: Tensor, labels: Tensor) -> str:
    if not gradients.isfinite().all():
        return "gradients not finite"
    return "gradients reversed" if torch.equal(gradients.argmax(1), labels) else "gradients of another loss"


def _complete(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    return all(name in state and state[name].shape == value.shape for name, value in wanted.items())
