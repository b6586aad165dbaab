"""What ``autograder calibrate transfer-learning`` measures: the accuracy check with right and with wrong functions.

Right styles differ in what a student may choose freely: optimizer, schedule, weight decay, clipping, how the best epoch is
kept. Wrong ones are those that the check is there to tell apart: no transfer, nothing learned. Their accuracy alone is
measured here; most would also fail because frozen layers are not the pretrained ones, or have not learned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from amllab.checks import CheckFailure
from amllab.checks.lab import Lab
from amllab.checks.submission import InProcessSubmission
from amllab.checks.transfer_learning.accuracy import accuracy, budget_of, fit_and_predict, kind_of_data, one_training

# by kind of data; both thresholds must lie below: further learning rates are not tried from here on
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


@dataclass(frozen=True)
class Style:
    """A way to write the three functions.

    Attributes:
        name: for tables.
        right: whether it is correct: then it is to get full points, otherwise not.
        source: of all cells.
        every: measured on one in so many seeds; those that are far off need fewer to say so.
        fitted: whether thresholds are made to tell it apart. Not where the check gives nothing however accurate the model
            is (:func:`rejected`): its accuracy is measured all the same.
    """

    name: str
    right: bool
    source: str
    every: int = 1
    fitted: bool = True


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
    # BatchNorm's statistics drift: charged in exercise 3, and to cost nothing here
    _style("AdamW, BatchNorm drifts (charged in exercise 3)", _ADAMW.replace("        hold_still(model)\n", "")),
    # the nearest of the wrong ones, with photographs and with drawings: measured as often as the right ones
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


def kind(lab: Lab) -> str:
    """Of the data: the thresholds of each kind stand by themselves."""
    return kind_of_data(lab.settings["accuracy"]["data"])


def ceiling(lab: Lab) -> float:
    """Share of test images from which no further learning rate is tried."""
    return CEILINGS[kind(lab)]


def complete(lab: Lab, shares: list[float]) -> bool:
    """Whether all learning rates were tried that have to be, up to the ceiling."""
    return shares[-1] >= ceiling(lab) or len(shares) == len(budget_of(lab)["learning_rates"])


def budget(lab: Lab) -> dict[str, object]:
    """What the accuracies depend on, but for the data."""
    return {name: value for name, value in budget_of(lab).items() if name != "data"}


def rejected(lab: Lab, style: Style, seed: int) -> bool:
    """Whether the check gives no points for a style's training, whatever its accuracy."""
    try:
        one_training(_submission(lab, style), lab, seed)
    except CheckFailure:
        return True
    return False


def _submission(lab: Lab, style: Style) -> InProcessSubmission:
    namespace: dict[str, object] = {}
    exec(style.source, namespace)
    return InProcessSubmission(lab.name, namespace)


def measure(lab: Lab, style: Style, seed: int) -> tuple[list[float], float]:
    """Shares of test images, one for each learning rate that was tried, and the seconds that it took."""
    submission = _submission(lab, style)
    began, shares = time.perf_counter(), []
    for attempt in range(len(budget_of(lab)["learning_rates"])):
        _, predicted, test = fit_and_predict(submission, lab, seed, attempt)
        shares.append(accuracy(predicted["logits"], test.labels))
        if complete(lab, shares):
            break
    return shares, time.perf_counter() - began
