"""Steps of an optimizer: which batches they were taken on, and how a wrong pattern is explained."""

from collections.abc import Sequence

import torch

from amllab.kit.training_journal import Journal


def batches_in_words(journal: Journal, sizes: Sequence[int]) -> str:
    """Describe which batches are trained on if some are left out; empty if epochs differ."""
    numbers = torch.arange(sum(sizes), device="cpu")
    parts = {"the last batch is left out": numbers[: -sizes[-1]], "the first batch is left out": numbers[sizes[0] :]}
    parts |= {
        "only the first batch is trained on": numbers[: sizes[0]],
        "only the last one is trained on": numbers[-sizes[-1] :],
    }
    seen = [journal.trained_on(epoch) for epoch in range(journal.epochs)]
    return next((f": {what}" for what, part in parts.items() if all(torch.equal(of, part) for of in seen)), "")


# how images were changed before the model got them
HOW_CHANGED = {
    "mirrored": "mirror images of the loader's",
    "mixed": "mixtures of two images, or of parts of them",
    "scaled": "scaled, shifted or normalised",
    "erased": "partly erased",
    "resized": "of another size",
    "otherwise": "noisy, turned, moved, or changed in another way",
}


# pattern of wrong steps -> its explanation
STEPS = {
    "nothing trained": "a model that saw no training batch",
    "nothing differentiated": "no gradient was ever computed: is `loss.backward()` missing?",
    "nothing differentiated: detached": "`backward()` was called, and no gradient reached the model: were the logits detached from "
    "it, as by `.detach()` or `.data`?",
    "weights do not move: no steps": "the weights do not move, and no step was taken: is `optimizer.step()` missing?",
    "weights do not move: other tensors": "the weights do not move: the optimizer holds other tensors than the model's parameters",
    "weights do not move: before the backward pass": "the weights do not move: the steps are taken before `loss.backward()`",
    "weights do not move: gradients cleared": "the weights do not move: the gradients are cleared between `loss.backward()` and the "
    "step",
    "weights do not move: steps": "the weights do not move, though {steps} steps were taken. Does the optimizer have the trainable "
    "parameters, and are their gradients there when it steps?",
    "one step an epoch": "one step in each epoch, after its last batch",
    "one step for several batches": "one step for several batches: gradients were accumulated",
    "several steps on each batch": "{steps} steps for {batches} batches",
}


def change_pattern(journal: Journal, moved: dict[int, list[bool]], taken: int) -> str:
    """Describe how steps are wrong, as far as the weights show; empty if they are right."""
    if not journal.epochs:
        return "nothing trained"
    if not journal.batches:
        return "nothing differentiated" + (": detached" if journal.got["backwards"] else "")
    if not any(map(any, moved.values())):
        return "weights do not move: " + (journal.got["idle"] or "steps" if taken else "no steps")
    # an optimizer may evaluate a batch several times for one step; here each evaluation has at least one
    if journal.passes_per_batch > 1 and taken >= len(journal.batches):
        return "several steps on each batch"
    # a schedule that begins or ends with a rate of 0 leaves some epochs without steps
    if any(map(all, moved.values())):
        return ""
    per_epoch = [m for m in moved.values() if any(m)]
    return "one step an epoch" if all(sum(m) == 1 and m[-1] for m in per_epoch[:-1]) else "one step for several batches"
