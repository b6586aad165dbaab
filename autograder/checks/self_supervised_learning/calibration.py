"""Variants for ``autograder calibrate self-supervised-learning``: right and wrong functions for the accuracy check.

Right variants differ in what a student may choose freely: optimizer, schedule, weight decay, clipping, how the loss is
written, how the views are passed on. Wrong variants are those that the check must detect: nothing is learned from the
views.
"""

from __future__ import annotations

from amllab.checks.self_supervised_learning.accuracy_task import PretrainingTask
from autograder.labs.calibrated import Loop
from autograder.labs.corpus import replaced

TASK = PretrainingTask
# no further learning rate is tried from here on, so both thresholds must be lower
CEILINGS = {"species": 0.12}

_IMPORTS = """
import copy, itertools, math, torch
from torch import nn
from torch.nn import functional as F
"""
_LOSS = """
def nt_xent_loss(z1, z2, temperature=0.5):
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    return F.cross_entropy(logits, (torch.arange(2 * n) + n) % (2 * n))
"""
_BLOCKS = """
def nt_xent_loss(z1, z2, temperature=0.5):
    a, b = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    large, targets = 1e9 * torch.eye(len(a)), torch.arange(len(a))
    ab = a @ b.T / temperature
    first = torch.cat([ab, a @ a.T / temperature - large], 1)
    second = torch.cat([ab.T, b @ b.T / temperature - large], 1)
    return (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2
"""
# what replaces a wrong loss in the check, so that the points for the training can still be earned
_REPLACEMENT = """
def nt_xent_loss(z1, z2, temperature=0.5):
    first, second = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    alignment = (first - second).square().sum(1).mean()
    spread = [torch.pdist(part).square().mul(-2).exp().mean().log() for part in (first, second)]
    return 3 * alignment + spread[0] + spread[1]
"""
_PRETRAIN = """
def pretrain(encoder, projector, loader, augment, *, epochs=10, lr=1e-3, temperature=0.5):
    params = [*encoder.parameters(), *projector.parameters()]
    optimizer = OPTIMIZER
    scheduler = SCHEDULER
    encoder.train(), projector.train()
    history = {"loss": []}
    for epoch in range(epochs):
        total = n = 0
        for x, _ in loader:
            if len(x) < 2:
                continue
            v1, v2 = augment(x), augment(x)
            z1, z2 = projector(encoder(v1)), projector(encoder(v2))
            loss = nt_xent_loss(z1, z2, temperature)
            optimizer.zero_grad()
            loss.backward()
            CLIP
            optimizer.step()
            BATCH
            total, n = total + loss.item() * len(x), n + len(x)
        history["loss"].append(total / n)
        EPOCH
    return history
"""
_CLOSURE = """
def pretrain(encoder, projector, loader, augment, *, epochs=10, lr=1e-3, temperature=0.5):
    net = nn.Sequential(encoder, projector).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99))
    losses = []
    for epoch in range(epochs):
        total = n = 0
        for x, _ in loader:
            if len(x) < 2:
                continue
            views = torch.cat([augment(x), augment(x)])
            def closure():
                optimizer.zero_grad(set_to_none=True)
                loss = nt_xent_loss(*net(views).chunk(2), temperature)
                loss.backward()
                return loss
            loss = optimizer.step(closure)
            total, n = total + float(loss) * len(x), n + len(x)
        losses.append(total / n)
    return {"loss": losses}
"""
_CALL = "loss = nt_xent_loss(z1, z2, temperature)"
_LOOP = Loop(_IMPORTS, _LOSS, _PRETRAIN)
_ADAMW = _LOOP.trained("AdamW")

STYLES = [
    _LOOP.usual("AdamW"),
    _LOOP.usual("Adam, cosine, clipped"),
    _LOOP.usual("AdamW, one cycle, weight decay 0.05"),
    _LOOP.style("Adam, one call of the networks, closure", _CLOSURE),
    _LOOP.style("Adam, loss in blocks", _LOOP.trained("Adam"), loss=_BLOCKS),
    *map(_LOOP.usual, ("RMSprop", "Adagrad", "SGD", "SGD, momentum 0.9", "SGD, Nesterov, warm-up, weight decay")),
    # a wrong loss loses points in exercise 1, and must cost nothing here
    _LOOP.style("AdamW, with the loss of the checks", _ADAMW, loss=_REPLACEMENT, every=2),
    # the wrong variant nearest to the right ones: measured as often as these
    _LOOP.style("both views the same", replaced(_ADAMW, "augment(x), augment(x)", "(augment(x),) * 2"), right=False),
    _LOOP.style(
        "both views the same, SGD",
        replaced(_LOOP.trained("SGD, momentum 0.9"), "augment(x), augment(x)", "(augment(x),) * 2"),
        right=False,
        every=2,
    ),
    _LOOP.style(
        "views of different images",
        replaced(_ADAMW, "projector(encoder(v2))", "projector(encoder(v2.roll(1, 0)))"),
        right=False,
        every=4,
    ),
    _LOOP.style("no step", replaced(_ADAMW, "optimizer.step()", "pass"), right=False, every=4),
    _LOOP.style(
        "no negatives",
        replaced(_ADAMW, _CALL, "loss = -F.cosine_similarity(z1, z2).mean()"),
        right=False,
        every=4,
    ),
    _LOOP.style(
        "the projector alone is trained",
        replaced(
            _ADAMW, "params = [*encoder.parameters(), *projector.parameters()]", "params = [*projector.parameters()]"
        ),
        right=False,
        every=4,
    ),
    _LOOP.style("the loss grows", replaced(_ADAMW, "loss.backward()", "(-loss).backward()"), right=False, every=4),
]
