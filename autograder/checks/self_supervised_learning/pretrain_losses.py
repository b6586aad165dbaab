"""The losses that a pretraining should report, those that the usual mistakes give, and the gradients of the loss.

Both follow from the projections that the networks have noted: with a learning rate of 1e-12, the weights stay what they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from amllab.checks.self_supervised_learning.pretrain_batches import Presented, presented
from amllab.checks.self_supervised_learning.pretrain_nets import Projector
from amllab.checks.self_supervised_learning.pretrain_runs import Loss, Run
from amllab.kit.step_checks import likeness
from amllab.kit.watermarks import Mark, marks
from autograder.kit.loss_means import DIVIDED, LIKE, MEAN, PARTS, SUMS, summed_up

OTHER_MEANS = {
    **SUMS,
    "twice the mean": "twice the mean over the images: the loss of a batch is the mean of both views already",
    "half the mean": "half the mean over the images: the loss of a batch is the mean of both views already",
    **DIVIDED,
    **PARTS,
}


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Return the contrastive loss of two views, float64 ``(n, d)``."""
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


def loss_of(one: Presented, temperature: float) -> Loss:
    """Return the loss of a batch: the lent one, or the contrastive one with this temperature."""
    return one.lent_loss or partial(nt_xent, temperature=temperature)


def temperatures(given: float) -> dict[str, float]:
    """Return the temperatures that a training could use, the right one first: name -> number."""
    return {
        "": given,
        "0.5 always": 0.5,
        "1 always": 1.0,
        "the inverse": 1 / given,
        "squared": given**2,
        "its root": given**0.5,
        "0.1 always": 0.1,
        "0.07 always": 0.07,
        "0.2 always": 0.2,
    }


def reported(batches: Sequence[Presented], temperature: float) -> dict[str, list[float]]:
    """Return what the usual ways of averaging make of the losses of batches: name -> one number for each epoch."""
    rows: list[list[tuple[int, float]]] = []  # for each epoch, images and loss of each batch
    times: dict[int, int] = {}
    for one in batches:
        epoch = times[one.batch] = times.get(one.batch, -1) + 1
        rows += [[] for _ in range(epoch + 1 - len(rows))]
        rows[epoch].append((one.n, float(one.loss(loss_of(one, temperature)))))
    ways = summed_up(rows)
    mean = ways[MEAN]
    return {**ways, "twice the mean": [2 * value for value in mean], "half the mean": [value / 2 for value in mean]}


def wrong_gradient(run: Run, temperature: float) -> str:
    """Return the symptom of wrong gradients behind the networks; empty if they are those of the loss of both views."""
    batches = presented(run)
    if not run.of("projector") or any(one.net == "encoder" for one in batches):
        return "without the projector"
    if not batches:
        return "no two views"
    # another temperature is charged elsewhere
    found = [_wrong(one, list(temperatures(temperature).values())) for one in batches]
    if symptom := next(filter(None, found), ""):
        return symptom
    # later batches may meet other weights than those that are known
    return "" if _between(batches[0], run) > LIKE else "another in the encoder"


def _wrong(one: Presented, numbers: Sequence[float]) -> str:
    behind = one.reached("projector")
    if not any(map(any, behind)):
        return "none"
    if not all(map(any, behind)):
        return "some images"
    if not all(map(all, behind)):
        return "one view"
    # the lent loss has the temperature that it got
    cosines = [one.likeness(loss_of(one, number)) for number in (numbers[:1] if one.lent else numbers)]
    if min(cosines) < -LIKE:
        return "reversed"
    if max(cosines) < LIKE:
        return "another"
    between = one.reached("encoder")
    if not any(map(any, between)):
        return "none in the encoder"
    return "" if all(map(all, between)) else "one view in the encoder"


def _between(one: Presented, run: Run) -> float:
    """Return the cosine of the gradient that came back to the encoder, and of the one that the projector passed on.

    Args:
        one: The first batch of a training.
        run: The training.

    Returns:
        The cosine; 1 if nothing is known of what the projector passed on, as for one in eval mode in part.
    """
    projector = Projector().double()
    started = run.got["started"]
    asked = run.asked["projector"]
    projector.load_state_dict({name: started.get(f"projector.{name}", value) for name, value in asked.items()})
    features, got = one.rows("encoder", "outputs"), one.rows("encoder", "gradients")
    wanted: dict[Mark, Tensor] = {}
    for done in one.passes:
        names = marks(done["numbers"], done["draws"])
        if done["net"] == "projector" and all(mark in features for mark in names):
            h = torch.stack([features[mark] for mark in names]).requires_grad_()
            z = projector.train(done["training"])(h)
            # an optimizer may evaluate a batch again with other weights
            if torch.allclose(z, done["outputs"].double(), atol=1e-4):
                (gradients,) = torch.autograd.grad(z, h, done["gradients"].double())
                for mark, row in zip(names, gradients, strict=True):
                    wanted[mark] = wanted.get(mark, torch.zeros_like(row)) + row
    if not wanted:
        return 1.0
    return likeness(torch.stack(list(wanted.values())), torch.stack([got[mark] for mark in wanted]))
