"""Variants for ``autograder calibrate transfer-learning``: right and wrong functions for the accuracy check.

Right variants differ in what a student may choose freely: optimizer, schedule, weight decay, clipping, how the best
epoch is stored. Wrong variants are those that the check must detect: no transfer, nothing learned. Only their accuracy
is measured here; most would also fail because frozen layers are not the pretrained ones, or because the others have not
learned.
"""

from __future__ import annotations

from amllab.checks.transfer_learning.accuracy_task import TransferTask
from autograder.labs.calibrated import Style

TASK = TransferTask
# by kind of data: no further learning rate is tried from here on, so both thresholds must be lower
CEILINGS = {"drawn": 0.45, "reptiles": 0.6}

_FREEZE = """
from amllab import layers_of, load_backbone
import copy, timm, torch
from torch import nn
from torch.nn import functional as F

def freeze_layers(model, n_trainable):
    layers = layers_of(model)
    for i, layer in enumerate(layers):
        for p in layer.parameters():
            p.requires_grad_(i >= len(layers) - n_trainable)
    return model
"""
_BUILD = """
def build_transfer_model(backbone, num_classes, n_trainable):
    model = load_backbone(backbone)
    model.reset_classifier(num_classes)
    return freeze_layers(model, n_trainable)
"""
_TRAIN = """
def hold_still(model):
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.weight.requires_grad:
            m.eval()

def train_with_early_stopping(model, train_loader, val_loader, *, max_epochs=30, patience=5, min_delta=0.0, lr=1e-3):
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = OPTIMIZER
    scheduler = SCHEDULER
    history, best, best_epoch, state = {k: [] for k in ("train_loss", "train_acc", "val_loss", "val_acc")}, None, 0, None
    for epoch in range(max_epochs):
        model.train()
        hold_still(model)
        total = hits = n = 0
        for x, y in train_loader:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            CLIP
            optimizer.step()
            BATCH
            total, hits, n = total + loss.item() * len(y), hits + (logits.argmax(1) == y).sum().item(), n + len(y)
        history["train_loss"].append(total / n)
        history["train_acc"].append(hits / n)
        model.eval()
        total = hits = n = 0
        with torch.no_grad():
            for x, y in val_loader:
                logits = model(x)
                total += F.cross_entropy(logits, y, reduction="sum").item()
                hits, n = hits + (logits.argmax(1) == y).sum().item(), n + len(y)
        EPOCH
        history["val_loss"].append(total / n)
        history["val_acc"].append(hits / n)
        if best is None or total / n < best - min_delta:
            best, best_epoch, state = total / n, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= patience:
            break
    model.load_state_dict(state)
    return {**history, "best_epoch": best_epoch}
"""


def _train(optimizer: str, scheduler: str = "None", **places: str) -> str:
    source = _TRAIN.replace("OPTIMIZER", optimizer).replace("SCHEDULER", scheduler)
    for place in ("CLIP", "BATCH", "EPOCH"):
        source = source.replace(place, places.get(place.lower(), "pass"))
    return source


def _style(
    name: str, train: str, *, right: bool = True, build: str = _BUILD, every: int = 1, fitted: bool = True
) -> Style:
    return Style(name, right, _FREEZE + build + train, every, fitted)


_ADAMW = _train("torch.optim.AdamW(params, lr=lr)")
_SCRATCH = _BUILD.replace("load_backbone(backbone)", "timm.create_model(backbone)")
_STEPS = "max_epochs * len(train_loader)"

STYLES = [
    _style("AdamW", _ADAMW),
    _style(
        "Adam, cosine, clipped",
        _train(
            "torch.optim.Adam(params, lr=lr)",
            "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs, lr / 10)",
            clip="nn.utils.clip_grad_norm_(params, 5.0)",
            epoch="scheduler.step()",
        ),
    ),
    _style(
        "AdamW, one cycle, weight decay 0.05",
        _train(
            "torch.optim.AdamW(params, lr=lr, weight_decay=0.05)",
            f"torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * lr, total_steps={_STEPS})",
            batch="scheduler.step()",
        ),
    ),
    _style(
        "AdamW, head with lr, the rest with lr / 3",
        _train(
            "torch.optim.AdamW([{'params': params[-2:]}, {'params': params[:-2], 'lr': lr / 3}], lr=lr)",
        ),
    ),
    _style("RMSprop", _train("torch.optim.RMSprop(params, lr=lr)")),
    _style("Adagrad", _train("torch.optim.Adagrad(params, lr=lr)")),
    _style("SGD", _train("torch.optim.SGD(params, lr=lr)")),
    _style("SGD, momentum 0.9", _train("torch.optim.SGD(params, lr=lr, momentum=0.9)")),
    _style(
        "SGD, Nesterov, warm-up, weight decay",
        _train(
            "torch.optim.SGD(params, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)",
            "torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, len(train_loader) // 2)",
            batch="scheduler.step()",
        ),
    ),
    # BatchNorm statistics drift: loses points in exercise 3, and must cost nothing here
    _style("AdamW, BatchNorm drifts (charged in exercise 3)", _ADAMW.replace("        hold_still(model)\n", "")),
    # the wrong variant nearest to the right ones, on photographs and on synthetic images: measured as often as these
    _style("random weights, AdamW", _ADAMW, right=False, build=_SCRATCH),
    _style(
        "random weights, all trained, AdamW",
        _ADAMW.replace("    params =", "    model.requires_grad_(True)\n    params ="),
        right=False,
        every=2,
        build=_SCRATCH,
        fitted=False,
    ),
    _style("no training", _ADAMW.replace("            optimizer.step()\n", ""), right=False),
    _style(
        "random weights, the head alone trained",
        _ADAMW.replace(
            "    params =",
            "    model.requires_grad_(False)\n    model.get_classifier().requires_grad_(True)\n    params =",
        ),
        right=False,
        every=2,
        build=_SCRATCH,
    ),
    _style(
        "labels shuffled",
        _ADAMW.replace(
            "            logits = model(x)\n            loss",
            "            y = y[torch.randperm(len(y))]\n            logits = model(x)\n            loss",
        ),
        right=False,
        every=2,
    ),
]
